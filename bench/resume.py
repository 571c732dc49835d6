"""A conversation whose model was switched away from and comes back: the time to the first token of its next turn, beside
llama-server's router, which reads it again."""
import json
import random
import statistics
from pathlib import Path

from events import Events
from servers import TEST_MODELS, Daemon, Router, Trouble, need, scratch

LENGTHS = (1024, 4096)
WORDS = "time house water story people light paper green under stone river music world small night early train bread field sound".split()


def conversation(tokens: int, seed: int) -> str:
    """Close to so many tokens, the template's included: these words are one token each."""
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(tokens - 16))


def run(quick: bool, say) -> list[dict]:
    models = {"switch-a": TEST_MODELS / "switch-a.gguf", "switch-b": TEST_MODELS / "switch-b.gguf"}
    need(*models.values())
    for path in models.values():  # into the page cache: the disk is not what is compared
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    rounds = {1024: 1, 4096: 1} if quick else {1024: 6, 4096: 4}
    rows = []
    with scratch() as folder:
        options = {"max_length": 12288, "parallel": 2}
        ours_of = {name: {"model_path": str(path), **options} for name, path in models.items()}
        def fresh_daemon(number: str) -> Daemon:
            return Daemon(Path(folder) / number, ours_of, {"max_loaded": 1})

        with Router(Path(folder) / "r", models, ["-c", 12288, "-np", 2]) as router:
            for name in ("switch-b", "switch-a"):
                router.first_token(name, "Hello")
            for tokens in LENGTHS:
                rows += measure(fresh_daemon, router, tokens, rounds[tokens], say)
    return rows


def measure(fresh_daemon, router, tokens: int, rounds: int, say) -> list[dict]:
    times = {"ours": [], "peer": []}
    phases = {"save": [], "restore": []}
    for turn in range(rounds):
        prompt = conversation(tokens, seed=1000 * tokens + turn)
        # A daemon that has seen no other conversation: where a conversation lies in the cache decides how sums are rounded,
        # and the next token of a random model may hang on that, switch or no switch.
        with fresh_daemon(f"{tokens}-{turn}") as daemon:
            for name in ("switch-b", "switch-a", "switch-b"):  # what a first load measures is not what is compared
                daemon.first_token(name, "Hello")
            events = Events(daemon.port)
            first = said(daemon, "switch-a", prompt)
            mark = events.mark()
            daemon.first_token("switch-b", "Hello")
            phases["save"].append(phase_of(events, mark, "switch-b", "save"))
            mark = events.mark()
            took, again = timed(daemon, "switch-a", prompt)
            phases["restore"].append(phase_of(events, mark, "switch-a", "restore"))
            check(tokens, first, again)
            times["ours"].append(took)
        # It keeps nothing over a switch, so that it reads the conversation as if for the first time: the first time is left out.
        router.first_token("switch-b", "Hello")
        times["peer"].append(router.first_token("switch-a", prompt, max_tokens=8))
        say(f"  {tokens} tokens, {turn + 1} of {rounds}: ours {times['ours'][-1]:.3f} s (saved in {phases['save'][-1]:.3f}, "
            f"restored in {phases['restore'][-1]:.3f}), router {times['peer'][-1]:.3f} s")
    ours, peer = (statistics.median(times[side]) for side in ("ours", "peer"))
    rows = [{"name": f"resume/{tokens}", "ours": ours, "peer": peer, "ratio": ours / peer, "unit": "s",
             "details": {side: {"min": min(t), "max": max(t), "n": len(t)} for side, t in times.items()}}]
    for phase, values in phases.items():
        rows.append({"name": f"resume/{tokens}/{phase}", "ours": statistics.median(values), "peer": None, "ratio": None, "unit": "s"})
    return rows


def phase_of(events, mark, model, name) -> float:
    for kind, datum in events.wait_for(mark, "phases", model):
        if kind == "phases" and datum["model"] == model:
            found = [phase["seconds"] for phase in datum["phases"] if phase["name"] == name]
            if found:
                return sum(found)
    raise Trouble(f"the load of {model} had no phase {name}")


def ask(server, model, prompt):
    return server.ask("POST", "/v1/chat/completions", {"model": model, "max_tokens": 8, "temperature": 0,
                                                        "messages": [{"role": "user", "content": prompt}]})


def said(server, model, prompt) -> dict:
    """The answer without a switch: asked twice, so that it comes from a cache that was never out of memory."""
    ask(server, model, prompt)
    answer = ask(server, model, prompt)
    return {"text": answer["choices"][0]["message"]["content"], "prompt": answer["usage"]["prompt_tokens"]}


def timed(server, model, prompt):
    """The same request again, streamed: until its first text, and what it said."""
    texts = []
    took = server.first_token(model, prompt, max_tokens=8, into=texts)
    return took, {"text": "".join(texts), "cached": server.last_cached}


def check(tokens: int, first: dict, again: dict):
    if again["text"] != first["text"]:
        raise Trouble(f"{tokens} tokens: after the switch it said {json.dumps(again['text'])}, before {json.dumps(first['text'])}")
    if abs(first["prompt"] - tokens) > 0.05 * tokens:
        raise Trouble(f"the conversation has {first['prompt']} tokens instead of {tokens}")
    if again["cached"] < 0.95 * first["prompt"]:
        raise Trouble(f"{again['cached']} of {first['prompt']} tokens came from the restored conversation")
