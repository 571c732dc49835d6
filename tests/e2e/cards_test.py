"""Cards, with the stand-in for NVIDIA's driver and a fake worker that was "built for CUDA": what is charged where, what a
release proves, and what becomes of models when a card is full, lost, or not for them."""
import os
import pathlib
import stat
import time
import unittest

from daemon import DaemonTest, fake_model, program

GIB = 1 << 30
MIB = 1 << 20


class CardsTest(DaemonTest):
    def machine(self, models, cards="card name=NVIDIA_Fake", config="", variant="cuda", environment=None):
        """A daemon on a machine with these cards. `models`: NAME to what its file says."""
        folder = pathlib.Path(self.folder())
        self.cards = folder / "cards"
        self.says(cards)
        guests = folder / "cards.d"
        guests.mkdir()
        worker = folder / "worker.sh"
        worker.write_text(f'#!/bin/sh\nexec "{program("LLM_MANAGER_FAKE_WORKER")}" --variant {variant} --card-folder "{guests}" "$@"\n')
        worker.chmod(worker.stat().st_mode | stat.S_IXUSR)
        files = {name: fake_model(card_folder=guests, **lines) for name, lines in models.items()}
        return self.make(files, config, folder=folder, worker=worker,
                         environment={"FAKE_NVML": str(self.cards), "LLM_MANAGER_NVML": program("LLM_MANAGER_FAKE_NVML"),
                                      **(environment or {})}).start()

    def says(self, text):
        """Rewrites the driver's truth, at once for whoever looks."""
        new = self.cards.with_suffix(".new")
        new.write_text(text + "\n")
        new.rename(self.cards)

    @staticmethod
    def device(daemon, name):
        return next((d for d in daemon.get("/api/v1/devices").json()["devices"] if d["id"] == name), None)

    def release_of(self, daemon, model):
        answer = daemon.unload(model)
        self.assertEqual(answer.status, 200, answer)
        release = answer.json()["release"]
        return release, {row["device"]: row for row in release["devices"]}


class OneCard(CardsTest):
    def test_a_model_goes_to_the_card_and_leaves_nothing_there(self):
        daemon = self.machine({"alpha": {"card_mb": 5000, "memory_mb": 32}}, "card name=NVIDIA_Fake celsius=40 milliwatts=70500")
        card = self.device(daemon, "cuda0")
        self.assertEqual((card["name"], card["kind"], card["free"]), ("NVIDIA Fake", "cuda", 80 * GIB))
        self.assertEqual((card["celsius"], card["watts"], card["driver"]), (40, 70.5, "580.65.06"))
        self.assertEqual(daemon.chat("alpha").status, 200)

        held = daemon.model("alpha")["instance"]["held_bytes"]
        self.assertEqual(held["cuda0"], 5000 * MIB)
        self.assertGreaterEqual(held["host"], 32 * MIB)
        self.assertLess(held["host"], 200 * MIB, "the card's bytes are not the host's")
        card = self.device(daemon, "cuda0")
        self.assertEqual(card["reserved"], 5000 * MIB)
        self.assertEqual(card["external"], 0)

        release, rows = self.release_of(daemon, "alpha")
        self.assertTrue(release["proved"])
        self.assertEqual(release["method"], "process")
        self.assertEqual((rows["cuda0"]["before"], rows["cuda0"]["freed"], rows["cuda0"]["residual"]), (5000 * MIB, 5000 * MIB, 0))
        self.assertEqual(rows["cuda0"]["device_free_after"], 80 * GIB)
        self.assertEqual(rows["host"]["residual"], 0)
        self.assertEqual(self.device(daemon, "cuda0")["free"], 80 * GIB)

    def test_the_daemon_itself_has_nothing_to_do_with_cuda(self):
        daemon = self.machine({"alpha": {"card_mb": 100}})
        daemon.chat("alpha")
        maps = pathlib.Path(f"/proc/{daemon.pid}/maps").read_text()
        self.assertIn("libnvidia-ml", maps)
        for library in ("libcuda.", "libcudart", "libcublas", "libggml", "libllama"):
            self.assertNotIn(library, maps)
        open_files = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{daemon.pid}/fd").iterdir()]
        self.assertFalse([f for f in open_files if f.startswith("/dev/nvidia")])

    def test_models_that_fit_stay_and_one_goes_when_they_do_not(self):
        daemon = self.machine({name: {"card_mb": 9000} for name in ("a1", "b2", "c3")}, f"card total={24 * GIB}")
        log = daemon.events()
        for name in ("a1", "b2"):
            self.assertEqual(daemon.chat(name).status, 200)
        self.assertEqual(daemon.model("a1")["state"], "ready")
        mark = log.mark()
        self.assertEqual(daemon.chat("c3").status, 200)
        gone = log.wait("state", since=mark, detail="absent")
        self.assertEqual(gone["cause"], "evicted")
        # Which one costs less to lose depends on how long their loads took.
        stays = {"a1": "b2", "b2": "a1"}[gone["model"]]
        self.assertEqual(daemon.model(stays)["state"], "ready")
        card = self.device(daemon, "cuda0")
        self.assertEqual(card["reserved"], 18000 * MIB)
        self.assertLessEqual(card["reserved"] + card["headroom"], card["capacity"])

    def test_a_standby_worker_opens_the_card_where_it_is_told_to(self):
        context = 300 * MIB
        daemon = self.machine({"alpha": {"card_mb": 6000}})
        self.assertEqual(daemon.chat("alpha").status, 200)
        daemon.unload("alpha")
        self.assertEqual(self.device(daemon, "cuda0")["free"], 80 * GIB)
        daemon.stop()
        daemon = self.machine({"alpha": {"card_mb": 6000}}, config="standby: device\n")
        deadline = time.monotonic() + 10
        while self.device(daemon, "cuda0")["free"] != 80 * GIB - context:
            self.assertLess(time.monotonic(), deadline, "the standby worker never opened the card")
        self.assertEqual(daemon.chat("alpha").status, 200)
        release, rows = self.release_of(daemon, "alpha")
        self.assertTrue(release["proved"])
        self.assertEqual((rows["cuda0"]["freed"], rows["cuda0"]["residual"]), (6000 * MIB, 0))

    def test_what_strangers_hold_is_not_promised(self):
        stranger = f"process card=0 pid={os.getpid()} bytes={75 * GIB}"
        daemon = self.machine({"alpha": {"card_mb": 6000}}, f"card\n{stranger}")
        answer = daemon.chat("alpha")
        self.assertEqual(answer.status, 507, answer)
        details = answer.error()["details"]
        self.assertEqual((details["device"], details["needed"]), ("cuda0", 6000 * MIB))
        self.assertEqual(details["free"], 4 * GIB, "80 less 75 less the headroom of 1")
        self.says("card")
        # It lives on, and looks at the card again whenever somebody asks, though not at every question of many.
        deadline = time.monotonic() + 5
        while (answer := daemon.chat("alpha")).status != 200 and time.monotonic() < deadline:
            self.assertEqual(answer.status, 507)
        self.assertEqual(answer.status, 200, answer)

    def test_memory_that_comes_back_late_is_waited_for(self):
        # The driver shows the process no more, but for the next questions its memory is still in use.
        daemon = self.machine({"alpha": {"card_mb": 6000}}, "card linger=4")
        daemon.chat("alpha")
        release, rows = self.release_of(daemon, "alpha")
        self.assertTrue(release["proved"])
        self.assertEqual(rows["cuda0"]["residual"], 0)
        self.assertEqual(rows["cuda0"]["device_free_after"], 80 * GIB)

    def test_memory_that_does_not_come_back_is_said(self):
        daemon = self.machine({"alpha": {"card_mb": 6000}}, "card linger=1000000")
        daemon.chat("alpha")
        release, rows = self.release_of(daemon, "alpha")
        self.assertFalse(release["proved"])
        self.assertEqual(release["method"], "device")
        self.assertEqual(rows["cuda0"]["residual"], 6000 * MIB)
        self.assertGreaterEqual(self.device(daemon, "cuda0")["external"], 6000 * MIB)

    def test_without_bytes_per_process_the_device_proves(self):
        for how in ("bytes=na", "pids=hidden", "list=3"):
            with self.subTest(how):
                daemon = self.machine({"alpha": {"card_mb": 6000}}, f"card {how}")
                daemon.chat("alpha")
                self.assertEqual(daemon.model("alpha")["instance"]["held_bytes"]["cuda0"], 6000 * MIB, "the engine's account stands")
                self.assertIn("bytes per process", self.device(daemon, "cuda0")["unknown"])
                release, rows = self.release_of(daemon, "alpha")
                self.assertEqual((release["proved"], release["method"]), (True, "device"))
                self.assertEqual((rows["cuda0"]["freed"], rows["cuda0"]["residual"]), (6000 * MIB, 0))

    def test_a_lost_card_takes_no_more_and_the_daemon_lives(self):
        daemon = self.machine({"alpha": {"card_mb": 1000}, "beta": {"card_mb": 1000}})
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.says("card memory=15")
        answer = daemon.chat("beta")
        self.assertEqual(answer.status, 507, answer)
        self.assertEqual(answer.error()["details"]["device"], "cuda0")
        self.assertIn("GPU is lost", self.device(daemon, "cuda0")["unknown"])
        release, _ = self.release_of(daemon, "alpha")
        self.assertFalse(release["proved"], "nobody can say what became of it")

    def test_a_worker_that_dies_gives_the_card_back(self):
        daemon = self.machine({"alpha": {"card_mb": 5000}})
        daemon.chat("alpha")
        log = daemon.events()
        daemon.worker("alpha").kill()
        log.wait("state", model="alpha", detail="failed")
        log.sync()
        self.assertEqual(self.device(daemon, "cuda0")["reserved"], 0)
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertEqual(self.device(daemon, "cuda0")["reserved"], 5000 * MIB)


    def test_an_inspection_says_what_the_card_would_hold(self):
        daemon = self.machine({"alpha": {"card_mb": 5000, "memory_mb": 32, "card_predict_mb": 4800}})
        told = daemon.post("/api/v1/models/inspect", {"path": str(daemon.models / "alpha.gguf")}).json()
        self.assertEqual(told["predicted"]["cuda0"]["weights"], 4800 * MIB)


class Choice(CardsTest):
    def test_the_screens_card_is_left_alone(self):
        daemon = self.machine({"alpha": {"card_mb": 100}}, "card name=Screen display=1 bus=1\ncard name=Other bus=2")
        self.assertTrue(self.device(daemon, "cuda0")["display"])
        daemon.chat("alpha")
        self.assertIn("cuda1", daemon.model("alpha")["instance"]["held_bytes"])

    def test_only_visible_cards_are_there(self):
        daemon = self.machine({"alpha": {"card_mb": 100}}, "card name=A\ncard name=B", environment={"CUDA_VISIBLE_DEVICES": "1"})
        self.assertEqual(self.device(daemon, "cuda0")["name"], "B")
        self.assertIsNone(self.device(daemon, "cuda1"))

    def test_an_engine_for_the_host_leaves_the_card_alone(self):
        daemon = self.machine({"alpha": {"card_mb": 5000, "memory_mb": 16}}, variant="cpu",
                              config="models: {beta: {model_path: nowhere.gguf, device: cuda}}\n")
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertNotIn("cuda0", daemon.model("alpha")["instance"]["held_bytes"])
        self.assertIn("cannot be used by the engine that was built (cpu)", daemon.errors())

    def test_a_driver_that_does_not_work_is_said_and_the_host_serves(self):
        daemon = self.machine({"alpha": {"memory_mb": 16}}, "driver init=18\ncard")
        self.assertIn("cards are not used: NVIDIA's driver, when it was opened: Driver/library version mismatch", daemon.errors())
        self.assertIsNone(self.device(daemon, "cuda0"))
        self.assertEqual(daemon.chat("alpha").status, 200)


if __name__ == "__main__":
    unittest.main()
