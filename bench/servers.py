"""The servers that are measured, each with a folder of its own, on ports of their own choice, and ended with the run."""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("LLM_MANAGER_BENCH_BIN", ROOT / "build" / "release" / "bin"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-manager"
TEST_MODELS = CACHE / "models-test"


class Trouble(Exception):
    """The benchmark could not be run; the text says why."""


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise Trouble(f"process {pid} is gone")


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        if int(text.rsplit(")", 1)[1].split()[1]) == pid:
            found.append(int(entry.name))
    return found


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what: str, limit_s: float = 60):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Trouble(f"{what} did not happen within {limit_s:.0f} s")


class Server:
    """A child process with a port. Use as a context manager."""

    name = "?"
    last_cached: int | None = None

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: subprocess.Popen | None = None
        self.port = 0

    def start(self, command: list, environment: dict | None = None):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE if self.port == 0 else self.log,
                                        stderr=self.log, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})},
                                        process_group=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.process:
            return
        if self.process.poll() is not None:
            print(f"bench: {self.name} had ended with {self.process.returncode}: {self.last_words()}", file=sys.stderr)
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        self.log.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-600:]

    def ask(self, method: str, path: str, body=None, timeout: float = 120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status // 100 != 2:
                raise Trouble(f"{self.name}: {method} {path} answered {answer.status}: {text[:300]!r}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    def first_token(self, model: str, prompt: str, timeout: float = 120, max_tokens: int = 4, into: list | None = None,
                    ignore_eos: bool = False, may_be_empty: bool = False) -> float:
        """Seconds from sending the request to the first piece of text; reads the answer to its end. Its pieces go to `into`;
        where it has none, as a random model's few tokens may, and `may_be_empty`, those to its end;
        last_cached says how many tokens of the prompt were not read again, where the server tells."""
        self.last_cached = None
        body = json.dumps({"model": model, "stream": True, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": ignore_eos,
                           "messages": [{"role": "user", "content": prompt}]})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = None
        try:
            start = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Trouble(f"{self.name}: {model} answered {answer.status}: {answer.read()[:300]!r}")
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise Trouble(f"{self.name}: {model}: {event['error']}")
                self.last_cached = (event.get("timings") or {}).get("cache_n", self.last_cached)
                text = event["choices"] and event["choices"][0]["delta"].get("content")
                if first is None and text:
                    first = time.perf_counter() - start
                if into is not None and text:
                    into.append(text)
        finally:
            connection.close()
        if first is None and may_be_empty:
            return time.perf_counter() - start
        if first is None:
            raise Trouble(f"{self.name}: {model} answered without text")
        return first


class Daemon(Server):
    """Ours. `models` is {name: {key: value}} as in the configuration."""

    name = "llm-manager"

    def __init__(self, folder: Path, models: dict, residency: dict | None = None, worker: Path | None = None):
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        configuration = {"models": models, "residency": {"mode": "fit", **(residency or {})}}
        (folder / "config.yaml").write_text(json.dumps(configuration))
        environment = {"LLM_MANAGER_WORKER": str(worker)} if worker else {}
        environment["MODEL_NAME"] = ""
        self.start([BIN / "llm-manager", "serve", "--config", folder / "config.yaml", "--listen", "127.0.0.1:0", "--data",
                    folder / "data"], environment)
        line = self.process.stdout.readline().decode()
        if "listening on" not in line:
            raise Trouble(f"llm-manager did not start: {self.last_words()}")
        self.port = int(line.strip().rsplit(":", 1)[1])

    def worker_socket(self, model: str) -> str:
        """Where the worker of a loaded model listens."""
        instances = self.ask("GET", "/api/v1/instances")["instances"]
        for instance in instances:
            if instance["model"] == model:
                words = arguments(instance["pid"])
                return "unix:" + words[words.index("--socket") + 1]
        raise Trouble(f"{model} is not loaded")


class Router(Server):
    """llama-server in router mode, at its defaults but for what both sides are told."""

    name = "llama-server"

    def __init__(self, folder: Path, models: dict, options: list):
        super().__init__(folder)
        offered = folder / "models"
        offered.mkdir(parents=True, exist_ok=True)
        for name, path in models.items():
            (offered / f"{name}.gguf").symlink_to(path)
        self.port = free_port()
        self.start([BIN / "llama-server", "--models-dir", offered, "--models-max", 1, "--host", "127.0.0.1", "--port", self.port,
                    *options])
        wait_until(self.answers, "llama-server's start")

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise Trouble(f"llama-server did not start: {self.last_words()}")
        try:
            self.ask("GET", "/health", timeout=2)
            return True
        except (OSError, Trouble):
            return False

    def child_address(self) -> str:
        """Where the one loaded model's own server listens."""
        ports = []
        for child in children(self.pid):
            words = arguments(child)
            if "--port" in words:
                ports.append(words[words.index("--port") + 1])
        if len(ports) != 1:
            raise Trouble(f"llama-server has {len(ports)} children with a port")
        return f"127.0.0.1:{ports[0]}"


def scratch() -> tempfile.TemporaryDirectory:
    # Short: the sockets of workers lie below it.
    return tempfile.TemporaryDirectory(prefix="lmb-", dir="/tmp")


def need(*paths: Path):
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise Trouble(f"missing: {', '.join(missing)}; run scripts/bootstrap --peer --test-models")
