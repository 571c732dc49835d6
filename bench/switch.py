"""From one model to another while only one may be loaded: the time to the first token, beside llama-server's router."""
import statistics
import time
from pathlib import Path

from events import Events
from servers import TEST_MODELS, Daemon, Router, Trouble, need, scratch

PROMPT = "Say hello to the world in one word."
# As the event stream names them, in their order.
PHASES = ["drain", "free", "spawn", "metadata", "vocabulary", "weights", "context", "warm_up", "first_token"]


def seconds(values) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def run(quick: bool, say) -> list[dict]:
    models = {"switch-a": TEST_MODELS / "switch-a.gguf", "switch-b": TEST_MODELS / "switch-b.gguf"}
    need(*models.values())
    for path in models.values():  # into the page cache: the disk is not what is compared
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    blocks, each = (2, 4) if quick else (6, 4)
    with scratch() as folder:
        options = {"max_length": 4096, "parallel": 2}
        ours_of = {name: {"model_path": str(path), **options} for name, path in models.items()}
        with Daemon(Path(folder) / "d", ours_of, {"max_loaded": 1}) as daemon, \
                Router(Path(folder) / "r", models, ["-c", 4096, "-np", 2]) as router:
            return measure(daemon, router, list(models), blocks, each, say)


def measure(daemon, router, names, blocks, each, say) -> list[dict]:
    ours, peer, timelines = [], [], []
    events = Events(daemon.port)
    turn = {"ours": 0, "peer": 0}

    def next_model(side: str) -> str:
        turn[side] += 1
        return names[turn[side] % 2]

    # What a first load measures and remembers is not what is compared, and both files are then cached.
    for _ in range(2):
        daemon.first_token(next_model("ours"), PROMPT)
        router.first_token(next_model("peer"), PROMPT)
    for block in range(blocks):
        for _ in range(each):
            name, mark = next_model("ours"), events.mark()
            asked_ms = time.time() * 1000
            took = daemon.first_token(name, PROMPT)
            ours.append(took)
            timelines.append(timeline(events.wait_for(mark, "phases", name), name, asked_ms, took))
        for _ in range(each):
            peer.append(router.first_token(next_model("peer"), PROMPT))
        say(f"  block {block + 1} of {blocks}: ours {min(ours[-each:]):.3f}–{max(ours[-each:]):.3f} s, "
            f"router {min(peer[-each:]):.3f}–{max(peer[-each:]):.3f} s")
    if len(ours) != len(peer):
        raise Trouble("unequal numbers of switches")

    ratio = statistics.median(ours) / statistics.median(peer)
    rows = [{"name": "switch/first_token", "ours": statistics.median(ours), "peer": statistics.median(peer), "ratio": ratio,
             "unit": "s", "details": {"ours": seconds(ours), "peer": seconds(peer)}},
            {"name": "switch/first_token_min", "ours": min(ours), "peer": min(peer), "ratio": min(ours) / min(peer), "unit": "s"},
            {"name": "switch/first_token_max", "ours": max(ours), "peer": max(peer), "ratio": max(ours) / max(peer), "unit": "s"}]
    for phase in [*PHASES, "other"]:
        rows.append({"name": f"switch/phase/{phase}", "ours": statistics.median(t.get(phase, 0.0) for t in timelines), "peer": None,
                     "ratio": None, "unit": "s"})
    return rows


def timeline(happened, model: str, asked_ms: float, took: float) -> dict:
    """Seconds by phase of the switch to `model`; `first_token` is from ready on, `other` is what no phase accounts for."""
    phases = {}
    for kind, datum in happened:
        # The daemon's own first_token is told alone, and ends where the answer leaves it; ours ends at the client.
        if kind == "phases" and datum["model"] == model and datum["phases"][-1]["name"] != "first_token":
            for phase in datum["phases"]:
                phases[phase["name"]] = phases.get(phase["name"], 0.0) + phase["seconds"]
            phases["first_token"] = took - (datum["at_ms"] - asked_ms) / 1000
    phases["other"] = took - sum(phases.values())
    return phases
