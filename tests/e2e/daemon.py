"""A real daemon for tests: started on port 0 in folders of its own, waited for by its events, stopped politely,
and looked after: whatever it leaves behind fails the test.

Programs come from the environment, which CMake sets:
  LLM_MANAGER            the daemon and command line
  LLM_MANAGER_FAKE_WORKER
  LLM_MANAGER_REAL_WORKER
  LLM_MANAGER_SANITIZED  1 where the daemon is slowed and fattened by sanitizers
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

SANITIZED = os.environ.get("LLM_MANAGER_SANITIZED") == "1"
# The longest that anything is waited for. Long, since it is reached only by what is broken.
PATIENCE_S = 60
REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer",
           "AddressSanitizer:DEADLYSIGNAL", "assertion failed", "Assertion")


def program(variable):
    path = os.environ.get(variable)
    if not path:
        raise AssertionError(f"{variable} is not set: run these tests by ctest, or set it to the program")
    if not os.access(path, os.X_OK):
        raise AssertionError(f"{variable} names {path}, which cannot be run: scripts/bootstrap builds it")
    return path


def fake_model(**lines):
    """The file of a model for the fake worker: behaviour.h says which lines there are."""
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def worker_beside(importer, folder):
    """The fake worker with that importer beside it, where the daemon looks for one."""
    place = pathlib.Path(folder) / "programs"
    place.mkdir()
    (place / "llm-worker").symlink_to(program("LLM_MANAGER_FAKE_WORKER"))
    (place / "llm-importer").symlink_to(importer)
    return place / "llm-worker"


# ---- processes, by /proc

def status_of(pid):
    """Fields of /proc/PID/status that are amounts, in bytes; None where the process has ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if re.search(r"^State:\s+[ZX]", text, re.M):
        return None
    return {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}


def held_bytes(pid):
    """What a process holds, as DESIGN's ledger counts it on a host."""
    status = status_of(pid)
    # One that is just ending has no fields of memory any more.
    return None if status is None else sum(status.get(field, 0) for field in ("RssAnon", "RssShmem", "VmSwap"))


def alive(pid):
    return status_of(pid) is not None


def pids_of(folder):
    """Every process whose home is the folder: a daemon's workers inherit it."""
    mark = f"HOME={folder}\0".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            if mark in pathlib.Path(f"/proc/{entry}/environ").read_bytes() + b"\0" and alive(int(entry)):
                found.append(int(entry))
    return found


def wait_gone(pids, limit_s):
    """Those of the processes that are still there after the limit; returns as soon as there are none."""
    deadline = time.monotonic() + limit_s
    with contextlib.ExitStack() as stack:
        poller = select.poll()
        waiting = {}
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, fd)
            waiting[fd] = pid
            poller.register(fd, select.POLLIN)
        while waiting:
            left = deadline - time.monotonic()
            ready = poller.poll(max(0, left * 1000))
            for fd, _ in ready:
                poller.unregister(fd)
                waiting.pop(fd)
            if not ready and left <= 0:
                break
        return [pid for pid in waiting.values() if alive(pid)]


# ---- talking HTTP

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]

    def __repr__(self):
        return f"<{self.status} {self.body[:500]!r}>"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(connection, method, path, body=None, headers=None):
    """One request, its answer read whole. A dict is sent as JSON, bytes and text as they are."""
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


class Event:
    """One server-sent event; a comment is one with `comment` and nothing else."""

    def __init__(self, name, data, id, comment=None):
        self.name, self.data, self.id, self.comment = name, data, id, comment
        self.at = time.monotonic()

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"<:{self.comment}>" if self.comment is not None else f"<{self.name} {self.data[:300]}>"


class Stream:
    """An answer that is a stream of events, read as they come. Closing it is a client that leaves."""

    def __init__(self, connection, path, body=None, headers=None, method="POST"):
        self.connection = connection
        headers = dict(headers or {})
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        connection.request(method, path, body=body, headers=headers)
        self.response = None
        self.cut = False  # ended without its proper end

    def begin(self):
        """Waits for the head of the answer."""
        if self.response is None:
            self.response = self.connection.getresponse()
        return self.response

    @property
    def status(self):
        return self.begin().status

    def next(self):
        """The next event or comment; None at the end."""
        name, id, data = "", "", []
        while True:
            try:
                line = self.begin().readline()
            except (http.client.HTTPException, ConnectionError, ValueError):
                self.cut = True
                return None
            if not line:
                return Event(name, "\n".join(data), id) if data else None
            line = line.decode().rstrip("\r\n")
            if line.startswith(":"):
                return Event("", "", "", line[1:].strip())
            if not line:
                if data:
                    return Event(name, "\n".join(data), id)
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                id = value
            elif field == "data":
                data.append(value)

    def event(self):
        """The next event, comments left out; None at the end."""
        while True:
            event = self.next()
            if event is None or event.comment is None:
                return event

    def events(self):
        """All that still come, comments left out."""
        return list(iter(self.event, None))

    def close(self):
        # Not close() of the connection alone: an answer under way keeps the socket open.
        with contextlib.suppress(OSError, AttributeError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, AttributeError):
            if self.response is not None:
                self.response.close()
        self.connection.close()


def said(events):
    """The text of a chat stream's events; fails where one is an error."""
    text = ""
    for event in events:
        if event.data == "[DONE]":
            continue
        body = event.json()
        if "error" in body:
            raise AssertionError(f"an error in the stream: {body}")
        for choice in body.get("choices", []):
            text += choice.get("delta", {}).get("content") or ""
    return text


class EventLog:
    """Follows /api/v1/events from its making on; the way in which tests wait."""

    def __init__(self, daemon, last_id=None):
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        self._daemon = daemon
        self._stream = Stream(daemon.connection(timeout=None), "/api/v1/events", headers=headers, method="GET")
        self._events = []
        self._changed = threading.Condition()
        self._ended = False
        # The first comment says that the subscription stands.
        first = self._stream.next()
        assert first is not None and first.comment == "llm-manager", first
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self):
        while True:
            try:
                event = self._stream.event()
            except Exception:  # the test closes the socket under it
                event = None
            with self._changed:
                if event is None:
                    self._ended = True
                else:
                    datum = event.json()
                    datum["_kind"], datum["_id"], datum["_at"] = event.name, int(event.id), event.at
                    self._events.append(datum)
                self._changed.notify_all()
            if event is None:
                return

    def mark(self):
        """A place in the log; wait() and all() look from there on."""
        with self._changed:
            return len(self._events)

    def wait(self, kind, since=0, limit_s=PATIENCE_S, **fields):
        """The first event of that kind with these fields."""
        deadline = time.monotonic() + limit_s
        looked = since
        with self._changed:
            while True:
                for event in self._events[looked:]:
                    if event["_kind"] == kind and all(event.get(k) == v for k, v in fields.items()):
                        return event
                looked = len(self._events)
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    recent = "\n  ".join(map(str, self._events[-12:]))
                    why = "the event stream ended" if self._ended else f"{limit_s} s have passed"
                    raise AssertionError(f"no {kind} with {fields}: {why}. The last events:\n  {recent}")
                self._changed.wait(left)

    def all(self, kind, since=0, **fields):
        with self._changed:
            return [e for e in self._events[since:]
                    if e["_kind"] == kind and all(e.get(k) == v for k, v in fields.items())]

    def sync(self):
        """Returns once everything that has happened in the daemon until now is in the log."""
        number = self._daemon.provoke_job()
        self.wait("job", job=number)

    def loads(self, model, since=0):
        """How many times a worker was ordered to load the model."""
        self.sync()
        return len(self.all("state", since, model=model, detail="standby_taken"))

    def close(self):
        self._stream.close()
        self._thread.join(PATIENCE_S)


class InBackground:
    """Runs a function on a thread; result() is its value or raises what it raised."""

    def __init__(self, function, *arguments, **named):
        self._value = self._error = None

        def run():
            try:
                self._value = function(*arguments, **named)
            except BaseException as error:  # handed to result()
                self._error = error
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def done(self):
        return not self._thread.is_alive()

    def result(self, limit_s=PATIENCE_S):
        self._thread.join(limit_s)
        if self._thread.is_alive():
            raise AssertionError(f"what runs in the background did not end within {limit_s} s")
        if self._error:
            raise self._error
        return self._value


class Worker:
    """A worker process seen from beside the daemon: its memory, and the fake's own account of what it served."""

    def __init__(self, pid):
        self.pid = pid
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        self.socket = arguments[arguments.index(b"--socket") + 1].decode()

    def connection(self, timeout=PATIENCE_S):
        return UnixConnection(self.socket, timeout)

    def ask(self, method, path, body=None):
        with contextlib.closing(self.connection()) as connection:
            return ask(connection, method, path, body)

    def stats(self):
        return self.ask("GET", "/fake/stats").json()

    def wait(self, limit_s=PATIENCE_S, **least):
        query = "&".join(f"{name}={number}" for name, number in least.items())
        with contextlib.closing(self.connection(limit_s)) as connection:
            try:
                return ask(connection, "GET", "/fake/wait?" + query).json()
            except TimeoutError:
                raise AssertionError(f"the worker did not see {least} within {limit_s} s; "
                                     f"it saw {self.stats()}") from None

    def last(self):
        return self.ask("GET", "/fake/last").json()

    def held(self):
        return held_bytes(self.pid)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Daemon:
    """`llm-manager serve`. The folder has home, models, data and llm_config.yaml of its own."""

    def __init__(self, folder, models=None, config="", worker=None, arguments=(), environment=None,
                 listen="127.0.0.1:0"):
        self.folder = pathlib.Path(folder)
        self.models = self.folder / "models"
        self.data = self.folder / "data"
        self.config = self.folder / "llm_config.yaml"
        self.models.mkdir(parents=True, exist_ok=True)
        for name, text in (models or {}).items():
            self.write_model(name, text)
        self.config.write_text(config)
        self.arguments = [program("LLM_MANAGER"), "serve", "--config", str(self.config), "--data", str(self.data),
                          "--models", str(self.models), "--listen", listen, *arguments]
        self.environment = {name: os.environ[name] for name in ("PATH", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS",
                                                                "TSAN_OPTIONS") if name in os.environ}
        self.environment.update({"HOME": str(self.folder),
                                 # Also where this machine has an Ollama of its own.
                                 "OLLAMA_MODELS": str(self.folder / ".ollama/models"),
                                 "LLM_MANAGER_WORKER": str(worker or program("LLM_MANAGER_FAKE_WORKER"))})
        self.environment.update(environment or {})
        self.process = None
        self.address = None
        self._logs = []  # and streams: what is to be closed
        self._last_job = 0

    def write_model(self, name, text):
        (self.models / f"{name}.gguf").write_text(text)

    @property
    def error_file(self):
        return self.folder / "stderr.log"

    def errors(self):
        return self.error_file.read_text(errors="replace") if self.error_file.exists() else ""

    # ---- its life

    def start(self):
        """Returns once it listens."""
        with open(self.error_file, "ab") as errors:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=errors, env=self.environment, cwd=self.folder)
        line = self._first_line()
        found = re.fullmatch(r"listening on http://(\S+)", line)
        if not found:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"the daemon did not say that it listens, but {line!r}; it wrote:\n{self.errors()}")
        self.address = found[1]
        self._last_job = 0
        return self

    def _first_line(self):
        deadline = time.monotonic() + PATIENCE_S
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 1) if ready else b""
            if not piece:
                break
            text += piece
        return text.decode().rstrip("\n")

    def run_to_end(self):
        """For a daemon that is expected not to start: exit code, and what it wrote on standard error."""
        done = subprocess.run(self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment, cwd=self.folder, timeout=PATIENCE_S)
        text = done.stderr.decode(errors="replace")
        self.error_file.write_text(self.errors() + text)
        return done.returncode, text

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def workers(self):
        return [pid for pid in pids_of(self.folder) if pid != self.pid]

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._close_logs()
        self.process.stdout.close()
        self.process = None

    def stop(self):
        """SIGTERM, and everything that must be true after: a list of what is not."""
        if self.process is None:
            return []
        wrong = []
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE_S)
            if code != 0:
                wrong.append(f"it ended with {code}")
        except subprocess.TimeoutExpired:
            wrong.append(f"it did not end within {PATIENCE_S} s of SIGTERM")
            self.process.kill()
            self.process.wait()
        self._close_logs()
        self.process.stdout.close()
        self.process = None
        left = pids_of(self.folder)
        if left:
            wrong.append(f"processes are left: {left}")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        run = self.data / "run"
        files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if not p.is_dir()) if run.exists() else []
        if files:
            wrong.append(f"files are left in the run folder: {files}")
        return wrong

    def _close_logs(self):
        for log in self._logs:
            log.close()
        self._logs.clear()

    # ---- talking to it

    def connection(self, timeout=PATIENCE_S):
        host, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        with contextlib.closing(self.connection(timeout)) as connection:
            return ask(connection, method, path, body, headers)

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.ask("POST", path, body if body is not None else {}, **more)

    def stream(self, path, body, headers=None, timeout=PATIENCE_S):
        stream = Stream(self.connection(timeout), path, body, headers)
        self._logs.append(stream)
        return stream

    def events(self, last_id=None):
        log = EventLog(self, last_id)
        self._logs.append(log)
        return log

    def provoke_job(self):
        """The number of a job that changes nothing and has ended: its event is behind all that came before."""
        any_model = self.get("/api/v1/models").json()["models"][0]
        pinned = any_model["pinned"]
        self.post("/api/v1/models/pin" if pinned else "/api/v1/models/unpin", {"model": any_model["id"]})
        while self.get(f"/api/v1/jobs/{self._last_job + 1}").status == 200:
            self._last_job += 1
        return self._last_job

    # ---- the usual requests

    @staticmethod
    def question(model, text="Hello", **more):
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    def chat(self, model, text="Hello", headers=None, **more):
        return self.post("/v1/chat/completions", self.question(model, text, **more), headers=headers)

    def chat_stream(self, model, text="Hello", headers=None, **more):
        return self.stream("/v1/chat/completions", self.question(model, text, stream=True, **more), headers)

    def load(self, model, **more):
        return self.post("/api/v1/models/load", {"model": model, **more})

    def unload(self, model=None, **more):
        body = {"all": True} if model is None else {"model": model}
        return self.post("/api/v1/models/unload", {**body, **more})

    def model(self, name):
        models = self.get("/api/v1/models").json()["models"]
        return next(m for m in models if m["id"] == name)

    def worker(self, name):
        """The worker that has the model loaded."""
        return Worker(self.model(name)["instance"]["pid"])

    def decisions(self, model=None, kind=None):
        path = "/api/v1/explain?limit=1000" + (f"&model={model}" if model else "")
        return [d for d in self.get(path).json()["decisions"] if kind is None or d["kind"] == kind]


class DaemonTest(unittest.TestCase):
    """Starts daemons, and after the test stops them all and looks at what they leave behind."""

    maxDiff = None

    def setUp(self):
        self._daemons = []
        self._folders = []
        self.addCleanup(self._clean_up)

    def folder(self):
        # Short, since sockets' paths are.
        folder = tempfile.mkdtemp(prefix="lm-e2e-")
        self._folders.append(folder)
        return folder

    def make(self, models=None, config="", folder=None, **more):
        """A daemon that is not started yet."""
        daemon = Daemon(folder or self.folder(), models, config, **more)
        self._daemons.append(daemon)
        return daemon

    def start(self, models=None, config="", **more):
        return self.make(models, config, **more).start()

    def _clean_up(self):
        wrong = []
        for daemon in self._daemons:
            wrong += daemon.stop()
            text = daemon.errors()
            wrong += [f"a report on standard error: {mark}" for mark in REPORTS if mark in text]
        failed = wrong or any(error for _, error in getattr(self._outcome, "errors", []) if error) \
            or getattr(self._outcome, "success", True) is False
        if failed:
            for daemon in self._daemons:
                print(f"---- what the daemon in {daemon.folder} wrote:")
                print("".join(daemon.errors().splitlines(keepends=True)[-120:]))
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        if wrong:
            self.fail("; ".join(wrong))

    def assert_close(self, a, b, share, message=""):
        """Both agree within that share of the larger."""
        self.assertLessEqual(abs(a - b), share * max(abs(a), abs(b)), f"{a} and {b} differ by more than {share:.0%} {message}")
