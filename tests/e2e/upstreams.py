"""Servers that are not ours, for tests: the stand-in for Ollama, and a real llama-server as a router. Started on a
port of their own, asked what they hold by the kernel's account, ended after the test.

  LLM_MANAGER_LLAMA_SERVER   the engine's server, which scripts/bootstrap builds
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from daemon import PATIENCE_S, alive, ask, held_bytes, program

FAKE_OLLAMA = pathlib.Path(__file__).resolve().parent.parent / "fake_ollama" / "server.py"


def children_of(pid):
    """Processes that live and that one of its threads has started."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, pathlib.Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return [child for child in found if alive(child)]


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Upstream:
    """A process that listens on 127.0.0.1:`port`."""

    process = port = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def ask(self, method, path, body=None, timeout=PATIENCE_S):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            return ask(connection, method, path, body)

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
            self.process = None


class FakeOllama(Upstream):
    """Each of `models` as server.py's --model takes it. Once stopped it may be started again, on its old port."""

    def __init__(self, *models, arguments=()):
        self.arguments = [word for model in models for word in ("--model", model)] + list(arguments)

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(FAKE_OLLAMA), "--port", str(self.port or 0), *self.arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", line)
        if not found:
            raise AssertionError(f"the stand-in did not start: {line!r}")
        self.port = int(found[1])
        return self

    def told(self):
        """What it did and what it holds, its own account."""
        return self.ask("GET", "/_test").json()

    def lie(self, **liar):
        return self.ask("POST", "/_test", {"liar": liar}).json()

    def held(self):
        """What its models hold now, by the kernel's account."""
        return sum(held_bytes(pid) or 0 for pid in children_of(self.pid))

    def requests(self, path):
        return [json.loads(body) for _, asked, body in self.told()["requests"] if asked == path]


class LlamaRouter(Upstream):
    """llama-server as a router over links to model files, which loads and unloads them as it is told."""

    def __init__(self, *files):
        self._folder = tempfile.TemporaryDirectory(prefix="lm-router-")
        for file in files:
            (pathlib.Path(self._folder.name) / file.name).symlink_to(file)

    def start(self):
        self.port = free_port()
        self._log = open(pathlib.Path(self._folder.name) / "log.txt", "wb")
        self.process = subprocess.Popen(
            [program("LLM_MANAGER_LLAMA_SERVER"), "--host", "127.0.0.1", "--port", str(self.port), "--models-dir",
             self._folder.name, "--models-max", "1", "--load-mode", "none", "--no-webui", "-c", "1024", "-np", "2", "--no-warmup"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:  # it has no line that says so
            with contextlib.suppress(OSError):
                if self.ask("GET", "/health").status == 200:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError("llama-server did not start:\n" +
                             (pathlib.Path(self._folder.name) / "log.txt").read_text(errors="replace")[-3000:])

    def children(self):
        return children_of(self.pid)

    def held(self):
        return sum(held_bytes(pid) or 0 for pid in self.children())

    def stop(self):
        super().stop()
        self._log.close()
        self._folder.cleanup()
