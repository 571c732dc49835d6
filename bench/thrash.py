"""More models wanted than fit, beside llama-server's router, of which one model fits as well: who is starved, and what it costs
to serve everybody."""
import statistics
import threading
import time
from pathlib import Path

from servers import TEST_MODELS, Daemon, Router, Trouble, need, scratch
from simulated import simulated

A, B = "switch-a", "switch-b"
SLOTS, CONTEXT = 4, 8192
LOOPERS, ALTERNATING = 3, 8
PATIENCE_S = 300


def run(quick: bool, say) -> list[dict]:
    models = {name: TEST_MODELS / f"{name}.gguf" for name in (A, B)}
    need(*models.values())
    for path in models.values():  # into the page cache: the disk is not what is compared
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    with scratch() as folder:
        ours_of = {name: {"model_path": str(path), "max_length": CONTEXT, "parallel": SLOTS} for name, path in models.items()}
        with Daemon(Path(folder) / "d", ours_of, {"max_loaded": 1}) as daemon, \
                Router(Path(folder) / "r", models, ["-c", CONTEXT, "-np", SLOTS]) as router:
            sides = {"ours": daemon, "peer": router}
            for server in sides.values():  # what a first load measures and remembers is not what is compared
                for name in (B, A):
                    server.first_token(name, "Hello")
            foresight = Foresight(daemon, Path(folder), 3 if quick else 10)
            say(f"  {foresight.describe()}")
            rows = starved(sides, 12 if quick else PATIENCE_S, 1 if quick else 5, say) + foresight.starved()
            for tokens in (1, 16):
                span_s = 5 if quick else 60
                rows += alternating(sides, tokens, span_s, 1 if quick else 3, say) + foresight.alternating(tokens, span_s)
    return rows


class Clients:
    """Threads that ask until they are told to stop; use as a context manager. `latencies` are those of whole answers."""

    def __init__(self, server, sequences: list[list[str]], tokens: int):
        self.server, self.tokens = server, tokens
        self.latencies, self.trouble = [], []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(models,)) for models in sequences]

    def _ask(self, models):
        turn = 0
        while not self._over.is_set():
            asked = time.perf_counter()
            try:
                # Not streamed: one token of a random model may be no text.
                self.server.ask("POST", "/v1/chat/completions", {
                    "model": models[turn % len(models)], "max_tokens": self.tokens, "temperature": 0, "ignore_eos": True,
                    "messages": [{"role": "user", "content": f"Say word {turn}."}]}, timeout=PATIENCE_S + 60)
            except (OSError, Trouble) as trouble:
                self.trouble.append(str(trouble))
                return
            self.latencies.append(time.perf_counter() - asked)
            turn += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.trouble:
            raise Trouble(f"{self.server.name}: {self.trouble[0]}")


class Foresight:
    """What `simulate` says of the rows below, by what each model was measured to do alone: how long a change takes, and how long an
    answer while others are answered. Nothing of the competition is measured."""

    # Changes one by one before the clients come, as before the real ones: what a change costs is known then.
    WARM_UP_S, CHANGES = 60, 5

    def __init__(self, daemon: Daemon, folder: Path, span_s: float):
        self.folder = folder
        self.loaded_s = statistics.median([daemon.first_token(A, f"Count to {n}.") for n in range(6)][1:])
        changes = [daemon.first_token((B, A)[n % 2], "Say yes.") for n in range(6)]
        self.change_s = max(0.001, statistics.median(changes) - self.loaded_s)
        self.looped_s = self._answer_s(daemon, LOOPERS, 16, span_s)
        self.answer_s = {tokens: self._answer_s(daemon, SLOTS, tokens, span_s) for tokens in (1, 16)}

    @staticmethod
    def _answer_s(daemon: Daemon, clients: int, tokens: int, span_s: float) -> float:
        """Seconds of an answer where so many are written at the same time, by one model alone."""
        with Clients(daemon, [[A]] * clients, tokens) as asking:
            time.sleep(span_s)
        return statistics.mean(asking.latencies)

    def describe(self) -> str:
        return (f"alone: a change takes {self.change_s:.2f} s, an answer's first token {self.loaded_s:.3f} s; an answer of 16 tokens beside two others "
                f"{self.looped_s:.2f} s, beside three {self.answer_s[16]:.2f} s, of 1 token {self.answer_s[1]:.3f} s")

    def _play(self, answer_s: float, tokens: int, asked: list[dict], over_s: float) -> dict:
        model = {"load": f"{1000 * self.change_s:.0f}ms", "unload": "0ms", "decode": tokens / answer_s, "slots": SLOTS}
        one_by_one = [{"at": 10 * n, "model": (A, B)[n % 2], "context": 0, "generated": 1} for n in range(self.CHANGES)]
        # What is not streamed is waited for.
        return simulated(self.folder, one_by_one + asked, model, "--no-preemption", "--horizon", f"{self.WARM_UP_S + over_s:.0f}s")

    def starved(self) -> list[dict]:
        asked = [{"at": self.WARM_UP_S, "model": A, "context": 0, "generated": 16, "client": f"looper{n % LOOPERS}"} for n in range(30_000)]
        asked.append({"at": self.WARM_UP_S + 3, "model": B, "context": 0, "generated": 1})
        run = self._play(self.looped_s, 16, asked, 3 + PATIENCE_S)
        waited = next(each["wait"]["max_s"] for each in run["models"] if each["model"] == B)
        return [{"name": "thrash/starved/simulated", "ours": waited + self.loaded_s, "peer": None, "ratio": None, "unit": "s"}]

    def alternating(self, tokens: int, span_s: float) -> list[dict]:
        asked = [{"at": self.WARM_UP_S, "model": (A, B)[n // ALTERNATING % 2], "context": 0, "generated": tokens,
                  "client": f"client{n % ALTERNATING}"} for n in range(30_000)]
        figures = self._play(self.answer_s[tokens], tokens, asked, span_s)["all"]
        suffix = "" if tokens == 1 else f"_{tokens}"
        return [{"name": f"thrash/alternating{suffix}/simulated", "ours": span_s / (figures["served"] - self.CHANGES), "peer": None, "ratio": None,
                 "unit": "s/answer"},
                {"name": f"thrash/alternating{suffix}_p99/simulated", "ours": figures["total"]["p99_s"], "peer": None, "ratio": None,
                 "unit": "s"}]


def starved(sides, patience_s: float, rounds: int, say) -> list[dict]:
    """Three clients loop on A; one request for B: how long until its first token. Who does not serve it is given up on."""
    waits = {side: [] for side in sides}
    meanwhile = {}
    for turn in range(rounds):
        for side, server in sides.items():
            if waits[side] and waits[side][-1] >= patience_s:
                continue  # once is enough to know
            with Clients(server, [[A]] * LOOPERS, 16) as loopers:
                time.sleep(3)
                before = len(loopers.latencies)
                found = []
                asker = threading.Thread(target=lambda: found.append(server.first_token(B, "Say yes.", timeout=patience_s + 120, max_tokens=4)))
                asked = time.perf_counter()
                asker.start()
                asker.join(patience_s)
                served = bool(found)
                waits[side].append(found[0] if served else time.perf_counter() - asked)
                meanwhile[side] = len(loopers.latencies) - before
            asker.join()
            say(f"  starved, {turn + 1} of {rounds}: {server.name} "
                f"{'served B after' if served else 'had not served B within'} {waits[side][-1]:.1f} s, A had {meanwhile[side]} answers")
    ours, peer = (statistics.median(waits[side]) for side in ("ours", "peer"))
    return [{"name": "thrash/starved", "ours": ours, "peer": peer, "ratio": ours / peer, "unit": "s",
             "details": {"waits": waits, "patience": patience_s}}]


def alternating(sides, tokens: int, span_s: float, rounds: int, say) -> list[dict]:
    """Eight clients that ask A and B strictly in turn: seconds of the machine for each answer, and their longest waits."""
    latencies, spans = {side: [] for side in sides}, {side: 0.0 for side in sides}
    for turn in range(rounds):
        for side, server in sides.items():
            began = time.perf_counter()
            with Clients(server, [[A, B]] * ALTERNATING, tokens) as clients:
                time.sleep(span_s)
            spans[side] += time.perf_counter() - began  # until the last answer is there
            latencies[side] += clients.latencies
            say(f"  alternating, {tokens} tokens, {turn + 1} of {rounds}: {server.name} "
                f"{len(clients.latencies) / (time.perf_counter() - began):.2f} answers a second")
    suffix = "" if tokens == 1 else f"_{tokens}"
    cost = {side: spans[side] / len(latencies[side]) for side in sides}
    worst = {side: sorted(latencies[side])[int(0.99 * len(latencies[side]))] for side in sides}
    return [{"name": f"thrash/alternating{suffix}", "ours": cost["ours"], "peer": cost["peer"], "ratio": cost["ours"] / cost["peer"],
             "unit": "s/answer"},
            {"name": f"thrash/alternating{suffix}_p99", "ours": worst["ours"], "peer": worst["peer"],
             "ratio": worst["ours"] / worst["peer"], "unit": "s"}]
