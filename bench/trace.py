"""Recorded traffic for two models of which one fits, beside llama-server's router, at 80 % of what the machine answers with
one model alone: how long people wait. Beside it, what `llm-manager simulate` had said.

LLM_MANAGER_BENCH_TRACE names the trace: a CSV with the columns t_s, model, context_tokens, generated_tokens and two models.
Its tokens are divided by SHRINK, since this is meant for machines without a card, and its requests are thinned at random.
"""
import csv
import os
import random
import statistics
import threading
import time
from pathlib import Path

from machine import quantile
from servers import TEST_MODELS, Daemon, Router, Trouble, need, scratch
from simulated import simulated

A, B = "switch-a", "switch-b"
SLOTS, CONTEXT = 4, 4096
SHRINK = 16
LOAD = 0.8
PATIENCE_S = 300
WORDS = "time year people way day man thing woman life child world school state family student group country hand part place".split()


def run(quick: bool, say) -> list[dict]:
    named = os.environ.get("LLM_MANAGER_BENCH_TRACE")
    if not named:
        raise Trouble("LLM_MANAGER_BENCH_TRACE names no trace: a CSV with t_s, model, context_tokens and generated_tokens")
    models = {name: TEST_MODELS / f"{name}.gguf" for name in (A, B)}
    need(Path(named), *models.values())
    for path in models.values():  # into the page cache: the disk is not what is compared
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    span_s = 60 if quick else 600
    recorded = read_trace(Path(named))
    with scratch() as folder:
        folder = Path(folder)
        ours_of = {name: {"model_path": str(path), "max_length": CONTEXT, "parallel": SLOTS} for name, path in models.items()}
        with Daemon(folder / "d", ours_of, {"max_loaded": 1}) as daemon:
            for name in (B, A):
                daemon.first_token(name, "Hello")
            rate, alone = capacity(daemon, recorded, 15 if quick else 60)
            asked = thinned(recorded, LOAD * rate, span_s)
            say(f"  alone, a model answers {rate:.2f} requests a second with {SLOTS} slots; {len(asked)} requests in {span_s} s are asked")
            prediction = predicted(folder, asked, alone, say)
            ours = play(daemon, asked, say)
        with Router(folder / "r", models, ["-c", CONTEXT, "-np", SLOTS]) as router:
            for name in (B, A):
                router.first_token(name, "Hello")
            peer = play(router, asked, say)
    rows = []
    for name, of in (("p99", lambda waits: quantile(waits, 0.99)), ("mean", statistics.mean), ("max", max)):
        rows.append({"name": f"thrash/trace_{name}", "ours": of(ours), "peer": of(peer), "ratio": of(ours) / of(peer), "unit": "s",
                     "predicted": prediction[f"{name}_s"]})
        rows.append({"name": f"thrash/trace_{name}/simulated", "ours": prediction[f"{name}_s"], "peer": None, "ratio": None, "unit": "s"})
    return rows


def read_trace(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        rows = [{"at": float(row["t_s"]), "model": row["model"], "context": int(row["context_tokens"]),
                 "generated": int(row["generated_tokens"])} for row in csv.DictReader(file)]
    names = sorted({row["model"] for row in rows})
    if len(names) != 2:
        raise Trouble(f"{path} has {len(names)} models, and two are wanted")
    for row in rows:
        row["model"] = (A, B)[names.index(row["model"])]
        row["context"] = max(1, min(row["context"] // SHRINK, CONTEXT // SLOTS - 256))
        row["generated"] = max(1, min(row["generated"] // SHRINK, 200))
    return rows


def thinned(recorded: list[dict], rate: float, span_s: float) -> list[dict]:
    """So many of the trace's first `span_s` seconds that `rate` a second are left; the same ones in every run."""
    window = [row for row in recorded if row["at"] - recorded[0]["at"] < span_s]
    kept = random.Random(20231116).sample(window, min(len(window), round(rate * span_s)))
    return sorted(kept, key=lambda row: row["at"])


def prompt(row: dict, number: int) -> str:
    """About so many tokens, and another text for each number, so that no request is answered from another's cache."""
    words = random.Random(number)
    return " ".join(words.choice(WORDS) for _ in range(row["context"]))


def ask(server, row: dict, number: int) -> float:
    """Seconds to the first piece of text."""
    return server.first_token(row["model"], prompt(row, number), timeout=PATIENCE_S, max_tokens=row["generated"], ignore_eos=True,
                              may_be_empty=True)


def capacity(server, recorded: list[dict], span_s: float) -> tuple[float, list[tuple[dict, float, float]]]:
    """Answers a second of one model alone with every slot busy, by the trace's own lengths; and how long each took."""
    rows = random.Random(1).sample(recorded, 2000)
    took, trouble = [], []
    over = time.perf_counter() + span_s

    def client(first: int):
        for number in range(first, len(rows), SLOTS):
            if time.perf_counter() > over or trouble:
                return
            began = time.perf_counter()
            row = {**rows[number], "model": A}
            try:
                first_s = ask(server, row, 1_000_000 + number)
            except (OSError, Trouble) as problem:
                trouble.append(problem)
                return
            took.append((row, first_s, time.perf_counter() - began))

    began = time.perf_counter()
    clients = [threading.Thread(target=client, args=(first,)) for first in range(SLOTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if trouble:
        raise Trouble(f"{server.name}: {trouble[0]}")
    return len(took) / (time.perf_counter() - began), took


def play(server, asked: list[dict], say) -> list[float]:
    """Asks each request when the trace says, whatever became of those before; seconds to each first token."""
    waits, trouble = [], []

    def client(row: dict, number: int):
        try:
            waits.append(ask(server, row, number))
        except (OSError, Trouble) as problem:
            trouble.append(problem)

    began = time.perf_counter()
    clients = []
    for number, row in enumerate(asked):
        time.sleep(max(0.0, began + row["at"] - asked[0]["at"] - time.perf_counter()))
        clients.append(threading.Thread(target=client, args=(row, number)))
        clients[-1].start()
    for thread in clients:
        thread.join()
    if len(trouble) > len(asked) // 100:
        raise Trouble(f"{server.name}: {len(trouble)} of {len(asked)} were not answered: {trouble[0]}")
    say(f"  {server.name}: {len(waits)} answered, {len(trouble)} not; first token after {statistics.median(waits):.2f} s (median), "
        f"{quantile(waits, 0.99):.2f} s (p99), {max(waits):.2f} s (longest); the last answer {time.perf_counter() - began:.0f} s after the start")
    return waits


def predicted(folder: Path, asked: list[dict], alone: list[tuple[dict, float, float]], say) -> dict:
    """What simulate says of the same requests on a machine with the rates that were measured alone, and first tokens as here:
    the wait and the reading of the prompt."""
    # Of all together: answers of one token take no time to write, and a mean of rates would believe them.
    reading = sum(row["context"] for row, _, _ in alone) / sum(first for _, first, _ in alone)
    writing = sum(row["generated"] for row, _, _ in alone) / sum(whole - first for _, first, whole in alone)
    wait = simulated(folder, [{**row, "at": row["at"] - asked[0]["at"]} for row in asked], {
        "load": "300ms", "unload": "50ms", "prefill": round(reading, 1), "decode": round(writing, 1), "slots": SLOTS})["all"]["wait"]
    first = statistics.mean(row["context"] / reading for row in asked)
    say(f"  simulate, with {reading:.0f} tokens read and {writing:.1f} written a second by each slot: waits {wait['mean_s']:.2f} s (mean), "
        f"{wait['p99_s']:.2f} s (p99), then {first:.2f} s of reading")
    return {name: wait[name] + first for name in ("mean_s", "p99_s", "max_s")}
