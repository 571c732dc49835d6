"""On a real card: what a model takes and gives back, switches, a card that is full, and how fast it is.

Environment: LLM_MANAGER, LLM_MANAGER_REAL_WORKER, LLM_MANAGER_GPU_MODELS (a folder with small-a, small-b and big .gguf);
LLAMA_SERVER for the comparison; LLM_MANAGER_GPU_FIGURES, a file for the figures. LLM_MANAGER_REHEARSAL=1 says that driver
and worker are the tests' stand-ins: what needs a processor on a card is then skipped, and nothing is counted as tested.
"""
import contextlib
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import card as cards  # noqa: E402
from daemon import DaemonTest, InBackground, ask, program  # noqa: E402

REHEARSAL = os.environ.get("LLM_MANAGER_REHEARSAL") == "1"
MIB, GIB = 1 << 20, 1 << 30
# What a card's numbers move by themselves.
SLACK = 64 * MIB
CARD = None
FIGURES = {}


def figure(name, value, unit):
    FIGURES[name] = {"value": value, "unit": unit}
    print(f"  {name}: {value:.3f} {unit}" if isinstance(value, float) else f"  {name}: {value} {unit}", flush=True)


def real(test):
    return unittest.skipIf(REHEARSAL, "a rehearsal has no card that computes")(test)


def models():
    return pathlib.Path(os.environ["LLM_MANAGER_GPU_MODELS"])


class OnTheCard(DaemonTest):
    def setUp(self):
        super().setUp()
        self.before = CARD.processes()
        self.free_before = CARD.free()

    def daemon(self, config="", **more):
        environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "LLM_MANAGER_NVML", "FAKE_NVML")
                       if name in os.environ}
        return self.start(config=config, worker=program("LLM_MANAGER_REAL_WORKER"), arguments=("--models", str(models())),
                          environment=environment, **more)

    def tearDown(self):
        # Whatever was tested: the card is as it was.
        for daemon in self._daemons:
            self.assertEqual(daemon.stop(), [])
        self.wait_free(self.free_before)
        self.assertEqual(set(CARD.processes()) - set(self.before), set(), "somebody of ours is left on the card")

    def wait_free(self, least, limit_s=10):
        deadline = time.monotonic() + limit_s
        while CARD.free() < least - SLACK and time.monotonic() < deadline:
            pass
        self.assertGreaterEqual(CARD.free(), least - SLACK, "the card did not get everything back")

    def loaded(self, daemon, model):
        answer = daemon.load(model)
        self.assertEqual(answer.status, 200, answer)
        return daemon.worker(model)

    def answers(self, daemon, model, tokens=4):
        answer = daemon.chat(model, "Say something.", max_tokens=tokens, temperature=0)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()


class Memory(OnTheCard):
    def test_the_daemon_and_its_standby_are_not_on_the_card(self):
        daemon = self.daemon()
        self.assertEqual(set(CARD.processes()) - set(self.before), set())
        self.assertNotIn("libcuda.", pathlib.Path(f"/proc/{daemon.pid}/maps").read_text())
        devices = {d["id"]: d for d in daemon.get("/api/v1/devices").json()["devices"]}
        self.assertEqual(devices["cuda0"]["name"], CARD.name)
        self.assertEqual(devices["cuda0"]["driver"], CARD.driver)
        self.assertLessEqual(abs(devices["cuda0"]["free"] - CARD.free()), SLACK)

    def test_what_a_model_takes_comes_back_to_the_byte(self):
        daemon = self.daemon()
        worker = self.loaded(daemon, "small-a")
        self.answers(daemon, "small-a")
        on_card = CARD.processes()[worker.pid]
        figure("held by the small model", on_card / MIB, "MiB")
        figure("of it the engine's account", sum(
            part for name, part in daemon.model("small-a")["instance"]["memory"]["cuda0"].items() if name != "mapped") / MIB, "MiB")
        self.assertEqual(daemon.model("small-a")["instance"]["held_bytes"]["cuda0"], on_card)
        watched = InBackground(CARD.watch_release, worker.pid, self.free_before - SLACK)
        release = daemon.unload("small-a").json()["release"]
        gone, back = watched.result()
        row = next(r for r in release["devices"] if r["device"] == "cuda0")
        self.assertTrue(release["proved"], release)
        self.assertEqual((row["before"], row["residual"]), (on_card, 0))
        self.assertNotIn(worker.pid, CARD.processes())
        self.assertIsNotNone(gone)
        self.assertIsNotNone(back)
        figure("order to unload until in no list", gone * 1000, "ms")
        figure("order to unload until the memory is back", back * 1000, "ms")
        figure("proof of the release", release["method"], "")

    def test_a_second_load_needs_no_prediction_and_takes_what_was_promised(self):
        daemon = self.daemon()
        self.loaded(daemon, "small-a")
        first = daemon.model("small-a")
        figure("predicted before the first load", self.predicted(daemon, "small-a") / MIB, "MiB")
        daemon.unload("small-a")
        self.loaded(daemon, "small-a")
        held = daemon.model("small-a")["instance"]["held_bytes"]["cuda0"]
        self.assert_close(held, first["footprint"]["bytes"]["cuda0"], 0.02, "(second time)")

    @staticmethod
    def predicted(daemon, model):
        path = str(models() / f"{model}.gguf")
        parts = daemon.post("/api/v1/models/inspect", {"path": path}).json().get("predicted", {}).get("cuda0", {})
        return sum(parts.values())

    def test_one_at_a_time_never_overlaps(self):
        daemon = self.daemon("residency: {max_loaded: 1}\n")
        took = []
        for turn in range(8):
            model = ("small-a", "small-b")[turn % 2]
            began = time.monotonic()
            self.answers(daemon, model, tokens=1)
            took.append(time.monotonic() - began)
            ours = set(CARD.processes()) - set(self.before)
            self.assertEqual(ours, {daemon.worker(model).pid}, "one model, one process on the card")
        figure("switch of small models, first token, median", statistics.median(took[2:]), "s")

    def test_kill_9_gives_everything_back(self):
        daemon = self.daemon()
        worker = self.loaded(daemon, "small-a")
        worker.kill()
        self.wait_free(self.free_before)
        self.answers(daemon, "small-a")


class Full(OnTheCard):
    @real
    def test_a_card_that_others_fill_is_an_answer(self):
        daemon = self.daemon()
        with cards.held(CARD.free() - 2 * GIB):
            answer = daemon.chat("big")
            self.assertEqual(answer.status, 507, answer)
            error = answer.error()
            self.assertEqual(error["code"], "insufficient_memory")
            self.assertEqual(error["details"]["device"], "cuda0")
            self.assertGreater(error["details"]["needed"], error["details"]["free"])
            self.assertLessEqual(error["details"]["free"], 2 * GIB)
        self.answers(daemon, "big")

    @real
    def test_a_card_that_fills_while_a_model_loads_is_an_answer_too(self):
        # The ledger was promised room; somebody takes it between promise and load: forced past the ledger here.
        daemon = self.daemon()
        with cards.held(CARD.free() - 2 * GIB):
            answer = daemon.load("big", force=True)
            self.assertGreaterEqual(answer.status, 400, answer)
            self.assertEqual(answer.error()["code"], "insufficient_memory", answer)
            self.assertEqual(answer.error()["details"]["device"], "cuda0")
        self.answers(daemon, "small-a")


class Speed(OnTheCard):
    @real
    def test_a_big_model_loads_at_the_links_speed(self):
        pinned, plain = cards.copy_speed()
        figure("copy to the card, pinned", pinned / 1e9, "GB/s")
        figure("copy to the card, plain", plain / 1e9, "GB/s")
        size = (models() / "big.gguf").stat().st_size
        daemon = self.daemon("residency: {max_loaded: 1}\n")
        for model in ("big", "small-a"):  # learnt, and in the page cache
            self.answers(daemon, model, tokens=1)
        took = []
        for _ in range(3):
            began = time.monotonic()
            self.answers(daemon, "big", tokens=1)
            took.append(time.monotonic() - began)
            self.answers(daemon, "small-a", tokens=1)
        figure("the big model", size / 1e9, "GB")
        figure("visible switch to it, median", statistics.median(took), "s")
        figure("bytes / link", size / pinned, "s")
        self.assertLessEqual(min(took), 1.3 * size / pinned + 0.3, "DESIGN's bound: 1.3 × bytes / link + 0.3 s")

    @real
    def test_it_computes_as_fast_as_the_engines_own_server(self):
        server = os.environ.get("LLAMA_SERVER")
        if not server:
            self.skipTest("LLAMA_SERVER names no llama-server of the same variant")
        ask_for = {"prompt": "word " * 2000, "n_predict": 128, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        rates = {}

        def measure(name, connect):
            found = []
            for _ in range(4):
                with contextlib.closing(connect()) as connection:
                    timings = ask(connection, "POST", "/completion", ask_for).json()["timings"]
                found.append((timings["prompt_per_second"], timings["predicted_per_second"]))
            rates[name] = tuple(statistics.median(side) for side in zip(*found[1:]))

        daemon = self.daemon("models: {big: {model_path: %s, max_length: 4096, parallel: 1}}\n" % json.dumps(str(models() / "big.gguf")))
        measure("ours", self.loaded(daemon, "big").connection)
        daemon.unload("big")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [server, "-m", str(models() / "big.gguf"), "-c", "4096", "-np", "1", "-ngl", "99", "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline and process.poll() is None:
                    with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as c:
                        if ask(c, "GET", "/health").status == 200:
                            break
                measure("llama-server", lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=120))
            finally:
                process.terminate()
        for name, (prefill, decode) in rates.items():
            figure(f"prefill, {name}", prefill, "tokens/s")
            figure(f"decode, {name}", decode, "tokens/s")
        self.assertGreaterEqual(rates["ours"][0], 0.98 * rates["llama-server"][0], "prefill")
        self.assertGreaterEqual(rates["ours"][1], 0.98 * rates["llama-server"][1], "decode")


def main():
    global CARD
    try:
        CARD = cards.Card()
    except cards.NoCard as why:
        print(f"no GPU test was run, and none passed: {why} on this machine")
        return 77
    if not REHEARSAL and not cards.can_compute():
        print("there is a card, and no libcuda.so.1 to compute with: install NVIDIA's driver whole")
        return 1
    print(f"{CARD.name}, driver {CARD.driver}" + (" (a rehearsal with stand-ins: nothing is tested)" if REHEARSAL else ""))
    program = unittest.main(exit=False, verbosity=2)
    if path := os.environ.get("LLM_MANAGER_GPU_FIGURES"):
        pathlib.Path(path).write_text(json.dumps({"card": CARD.name, "driver": CARD.driver, "figures": FIGURES}, indent=1) + "\n")
    return 0 if program.result.wasSuccessful() and program.result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
