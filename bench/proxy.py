"""What a proxy between a client and a loaded model adds, in time and in memory.

Ours stands before the fake worker, the router before a tiny real model (it has no other); `tiny` is ours before that model.
"""
import json
import socket
import subprocess
from pathlib import Path

from machine import quantile
from servers import BIN, TEST_MODELS, Daemon, Router, Trouble, need, resident_kib, scratch

RATE = 50  # requests a second
STREAMS = 1000


def run(quick: bool, say) -> list[dict]:
    tiny, fake = TEST_MODELS / "tiny-chat.gguf", BIN / "fake-worker"
    need(tiny, fake)
    blocks, each = (2, 250) if quick else (4, 500)
    with scratch() as name:
        folder = Path(name)
        (folder / "fake.gguf").write_text("memory_mb=1\ntokens=4\n")
        model = {"fake": {"model_path": str(folder / "fake.gguf")}}
        memory = memory_rows(folder, model, fake, 10_000)
        with Daemon(folder / "e", model, worker=fake) as ours, \
                Daemon(folder / "t", {"tiny": {"model_path": str(tiny), "max_length": 1024, "parallel": 2}}) as real, \
                Router(folder / "r", {"tiny": tiny}, ["-c", 1024, "-np", 2]) as router:
            return latency_rows(ours, real, router, folder, blocks, each, say) + memory


def body(folder: Path, model: str) -> Path:
    file = folder / f"{model}.json"
    file.write_text(json.dumps({"model": model, "stream": True, "max_tokens": 4, "temperature": 0, "cache_prompt": True, "messages": [
        {"role": "system", "content": "You are a helpful assistant. " * 8}, {"role": "user", "content": "Say hello to the world."}]}))
    return file


def start_asking(request: Path, targets: list[str], count: int, rate: float) -> subprocess.Popen:
    command = [BIN / "bench-latency", "--rate", str(rate), "--count", str(count), "--body", request]
    for target in targets:
        command += ["--target", target]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def times_of(client: subprocess.Popen) -> dict:
    out, err = client.communicate()
    if client.returncode != 0:
        raise Trouble(err.strip())
    return json.loads(out)


def ask(request: Path, targets: list[str], count: int) -> dict:
    return times_of(start_asking(request, targets, count, RATE))


class Way:
    """One way to a model: straight to it, through what stands before it, and straight again for the noise."""

    def __init__(self, name: str, request: Path, direct: str, via: str):
        self.name, self.request, self.targets = name, request, [direct, via, direct]
        self.added, self.noise, self.first, self.direct, self.via = [], [], [], [], []
        ask(request, self.targets, 50)

    def measure(self, count: int):
        times = ask(self.request, self.targets, count)
        direct, via, again = times["whole_ms"]
        self.direct += direct
        self.via += via
        self.added += [v - d for v, d in zip(via, direct)]
        self.noise += [a - d for a, d in zip(again, direct)]
        self.first += [v - d for v, d in zip(times["first_ms"][1], times["first_ms"][0])]


def latency_rows(ours, real, router, folder, blocks, each, say) -> list[dict]:
    fake_body, tiny_body = body(folder, "fake"), body(folder, "tiny")
    for server, model in ((ours, "fake"), (real, "tiny"), (router, "tiny")):
        server.first_token(model, "Hello.")
    ways = [Way("fake", fake_body, ours.worker_socket("fake"), f"127.0.0.1:{ours.port}"),
             Way("router", tiny_body, router.child_address(), f"127.0.0.1:{router.port}"),
             Way("tiny", tiny_body, real.worker_socket("tiny"), f"127.0.0.1:{real.port}")]
    for block in range(blocks):
        for way in ways:
            way.measure(each)
        say(f"  block {block + 1} of {blocks}: " + ", ".join(f"{p.name} {quantile(p.added[-each:], 0.5):.3f} / "
                                                             f"{quantile(p.added[-each:], 0.99):.2f} ms" for p in ways))
    fake, peer, tiny = ways
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        theirs = quantile(peer.added, share)
        for prefix, mine in (("", fake.added), ("tiny_", tiny.added)):
            value = quantile(mine, share)
            rows.append({"name": f"proxy/{prefix}{name}", "ours": value, "peer": theirs, "ratio": value / theirs, "unit": "ms"})
        rows.append({"name": f"proxy/noise_{name}", "ours": quantile(fake.noise, share), "peer": quantile(peer.noise, share),
                     "ratio": None, "unit": "ms"})
        rows.append({"name": f"proxy/first_byte_{name}", "ours": quantile(fake.first, share), "peer": quantile(peer.first, share),
                     "ratio": quantile(fake.first, share) / quantile(peer.first, share), "unit": "ms"})
        rows.append({"name": f"proxy/direct_{name}", "ours": quantile(fake.direct, share), "peer": quantile(peer.direct, share),
                     "ratio": None, "unit": "ms"})
    return sorted(rows, key=lambda row: row["name"].split("/")[1].rsplit("_", 1)[-1] + row["name"])


def memory_rows(folder: Path, model: dict, worker: Path, requests: int) -> list[dict]:
    def row(name, value, unit):
        return {"name": f"proxy/{name}", "ours": value, "peer": None, "ratio": None, "unit": unit}

    request = body(folder, "fake")
    with Daemon(folder / "m", model, worker=worker) as daemon:
        idle = resident_kib(daemon.pid)
        daemon.first_token("fake", "Hello.")
        # From several clients at a time, without a pause.
        clients = [start_asking(request, [f"127.0.0.1:{daemon.port}"], requests // 4, 0) for _ in range(4)]
        for client in clients:
            times_of(client)
        after = resident_kib(daemon.pid)
    with Daemon(folder / "s", model, worker=worker) as daemon:
        daemon.first_token("fake", "Hello.")
        with EventStreams(daemon.port, 1):  # what the first one costs is not the thousandth's
            pass
        before = resident_kib(daemon.pid)
        with EventStreams(daemon.port, STREAMS):
            held = resident_kib(daemon.pid)
    return [row("idle_rss", idle / 1024, "MiB"), row(f"rss_after_{requests}", after / 1024, "MiB"),
            row("stream_kib", (held - before) / STREAMS, "KiB")]


class EventStreams:
    """Clients that listen to the event stream and hear nothing."""

    def __init__(self, port: int, count: int):
        self.sockets = []
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", port))
            self.sockets.append(stream)
            stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for stream in self.sockets:
            if not stream.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Trouble("an event stream was refused")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in self.sockets:
            stream.close()
