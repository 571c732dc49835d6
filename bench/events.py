"""Listens to the daemon's event stream in a thread and makes a timeline of each load out of it."""
import http.client
import json
import threading
import time


class Events:
    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self.connection.request("GET", "/api/v1/events")
        self.answer = self.connection.getresponse()
        self.seen: list[tuple[str, dict]] = []
        self.more = threading.Condition()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        kind = ""
        try:
            for line in self.answer:
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    with self.more:
                        self.seen.append((kind, json.loads(line[6:])))
                        self.more.notify_all()
        except (OSError, ValueError, AttributeError):
            pass  # the daemon has ended

    def mark(self) -> int:
        with self.more:
            return len(self.seen)

    def wait_for(self, mark: int, kind: str, model: str, limit_s: float = 30) -> list[tuple[str, dict]]:
        """Everything since `mark`, once an event of this kind and model is among it."""
        deadline = time.monotonic() + limit_s
        with self.more:
            while True:
                part = self.seen[mark:]
                if any(k == kind and datum.get("model") == model for k, datum in part):
                    return part
                if not self.more.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise TimeoutError(f"no event {kind} of {model}")
