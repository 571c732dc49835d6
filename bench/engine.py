"""What an imported model does through the daemon, beside llama-server on the same file: texts embedded, tokens read and
tokens written. The two take turns, and wall time counts, so that what the daemon adds to each request is in it.

The embedding model is all-MiniLM-L6-v2, the other one a checkpoint of random weights in the shape of Qwen3-0.6B; both are
imported in this run, at 8 bits.
"""
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path

import servers

TEXTS = [f"This is the example sentence number {i}, about as long as people's sentences are." for i in range(64)]
PROMPT_TOKENS, NEW_TOKENS = 512, 64


class LlamaServer(servers.Server):
    """llama-server with one model, told what ours is told."""

    name = "llama-server"

    def __init__(self, folder: Path, model: Path, options: list):
        super().__init__(folder)
        self.port = servers.free_port()
        self.start([servers.BIN / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", self.port, *options])
        servers.wait_until(self.answers, "llama-server's start", 120)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise servers.Trouble(f"llama-server did not start: {self.last_words()}")
        try:
            self.ask("GET", "/health", timeout=2)
            return True
        except (OSError, servers.Trouble):
            return False


def seconds(server, path: str, body: dict) -> float:
    began = time.perf_counter()
    server.ask("POST", path, body)
    return time.perf_counter() - began


def prompt(round_: int) -> list[int]:
    """Token numbers, which every round has others of: nothing is kept from the one before."""
    return [(round_ * 7919 + i * 104729) % 100_000 + 256 for i in range(PROMPT_TOKENS)]


def imported(checkpoint: Path, out: Path):
    done = subprocess.run([servers.BIN / "llm-importer", checkpoint, out, "--quantize", "8bit"], capture_output=True, text=True)
    if done.returncode != 0:
        raise servers.Trouble(f"the import failed: {done.stdout[-500:]}")


def run(quick: bool, say) -> list[dict]:
    servers.need(servers.BIN / "llm-importer", servers.BIN / "llama-server")
    rounds = 5 if quick else 20
    folder = Path(tempfile.mkdtemp(prefix="bench-engine-", dir=servers.CACHE))
    times: dict[str, tuple[list, list]] = {name: ([], []) for name in ("embeddings", "prefill", "decode")}
    try:
        (folder / "checkpoint").mkdir()
        import_module("import").write_checkpoint(folder / "checkpoint", 4 if quick else 28)
        text, vectors = folder / "text.gguf", folder / "vectors.gguf"
        imported(folder / "checkpoint", text)
        imported(servers.CACHE / "models" / "all-minilm-l6-v2", vectors)
        ours_of = {"text": {"model_path": str(text), "max_length": 2048, "parallel": 1},
                   "vectors": {"model_path": str(vectors), "kind": "embedding"}}
        with servers.Daemon(folder / "ours", ours_of) as ours, \
                LlamaServer(folder / "text-peer", text, ["-c", 2048, "-np", 1, "-b", 512]) as text_peer, \
                LlamaServer(folder / "vectors-peer", vectors, ["--embeddings"]) as vectors_peer:
            for round_ in range(-1, rounds):  # the first is a warm-up
                # Who is first changes, so that neither always has the warmer machine.
                sides = [(0, ours, ours), (1, text_peer, vectors_peer)]
                for side, generator, embedder in sides if round_ % 2 else reversed(sides):
                    embed = seconds(embedder, "/v1/embeddings", {"model": "vectors", "input": TEXTS})
                    body = {"model": "text", "prompt": prompt(round_), "temperature": 0, "ignore_eos": True, "cache_prompt": False}
                    read = seconds(generator, "/v1/completions", {**body, "max_tokens": 1})
                    both = seconds(generator, "/v1/completions", {**body, "prompt": prompt(round_)[:8], "max_tokens": NEW_TOKENS})
                    if round_ >= 0:
                        for name, value in (("embeddings", embed / len(TEXTS)), ("prefill", read / PROMPT_TOKENS),
                                            ("decode", both / NEW_TOKENS)):
                            times[name][side].append(value)
    finally:
        shutil.rmtree(folder)
    rows = []
    for name, (us, peer) in times.items():
        a, b = statistics.median(us), statistics.median(peer)
        say(f"  {name}: {1 / a:.1f} a second, {1 / b:.1f} by llama-server")
        rows.append({"name": f"engine/{name}", "ours": 1000 * a, "peer": 1000 * b, "ratio": a / b, "unit": "ms"})
    return rows
