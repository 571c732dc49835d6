"""examples/flask: its user picks local, Ollama and OpenAI models; the daemon looks after the memory."""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import select
import subprocess
import sys
import threading
import time
import unittest

from daemon import PATIENCE_S, DaemonTest, Stream, ask, fake_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL_MEMORY = 48 << 20
# Debian's python3-flask is Debian's Python's, which another Python in front of it on the PATH does not see.
FLASK_PYTHON = next((python for python in (sys.executable, "/usr/bin/python3")
                     if subprocess.run([python, "-c", "import flask"], stderr=subprocess.DEVNULL).returncode == 0), None)


class Provider(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible server that says one thing, in three pieces."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        found = self.path == "/v1/models"
        self.answer(json.dumps({"object": "list", "data": [{"id": "far", "object": "model"}] if found else []}).encode(),
                    "application/json")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("from ", "far ", "away")]
        self.answer(b"".join(b"data: " + json.dumps(p).encode() + b"\n\n" for p in pieces) + b"data: [DONE]\n\n",
                    "text/event-stream")


class Assistant(DaemonTest):
    def run_program(self, arguments, environment=None, python=sys.executable):
        """Starts it and returns the address that it says it listens on."""
        process = subprocess.Popen([python, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})})
        self.processes.append(process)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, PATIENCE_S)
        self.addCleanup(process.kill)
        text = b""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(rb"http://([\d.]+:\d+)\s", text)):
            ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(process.stdout.fileno(), 4096) if ready else b""
            self.assertTrue(piece, f"{arguments[0]} did not say where it listens, but {text!r}")
            text += piece
        # What it writes later (a line a request) must not fill the pipe.
        threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
        return found[1].decode()

    def provider(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"127.0.0.1:{server.server_address[1]}"

    def to_app(self):
        host, port = self.app.split(":")
        return http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)

    def say(self, model, text):
        """What the page shows for a question: the text, and the error."""
        said, error = "", None
        stream = Stream(self.to_app(), "/chat", {"model": model, "messages": [{"role": "user", "content": text}]})
        with contextlib.closing(stream.connection):
            while (event := stream.next()) is not None:
                if not event.data.startswith("{"):
                    continue
                datum = event.json()
                error = datum.get("error", error)
                for choice in datum.get("choices", []):
                    said += choice["delta"].get("content") or ""
        return said, error

    def switches(self):
        """From, to, and how much was proved to have come back, oldest first."""
        return [(s["from"], s["to"], s["release"]["freed"] if s["release"] and s["release"]["proved"] else None)
                for s in reversed(self.daemon.get("/api/v1/switches").json()["switches"]) if s["stage"] == "done"]

    def setUp(self):
        super().setUp()
        self.assertIsNotNone(FLASK_PYTHON, "no Python here has flask: scripts/bootstrap installs python3-flask")
        self.processes = []
        ollama = self.run_program([ROOT / "tests/fake_ollama/server.py", "--model", "qwen:7b,memory=64M"])
        self.ollama = self.processes[0]
        self.daemon = self.start(
            {"home": fake_model(tokens=5, memory_mb=LOCAL_MEMORY >> 20)},
            config=f"ollama: {{url: 'http://{ollama}'}}\n"
                   f"providers: {{cloud: {{base_url: 'http://{self.provider()}/v1', location: remote}}}}\n"
                   "residency: {linger: 100ms}\n")
        self.log = self.daemon.events()
        self.app = self.run_program([ROOT / "examples/flask/app.py"],
                                    {"LLM_MANAGER_URL": f"http://{self.daemon.address}", "PORT": "0"}, FLASK_PYTHON)

    def page(self):
        with contextlib.closing(self.to_app()) as connection:
            answer = ask(connection, "GET", "/")
        self.assertEqual(answer.status, 200, answer)
        return answer.body.decode()

    def test_lists_by_family(self):
        text = self.page()
        groups = {title: re.findall(r'<option value="([^"]+)"', options)
                  for title, options in re.findall(r'<optgroup label="([^"]+)">(.*?)</optgroup>', text, re.S)}
        self.assertEqual(list(groups), ["On this machine", "Ollama", "OpenAI-compatible"], text)
        self.assertEqual(groups["On this machine"], ["home"])
        self.assertEqual(len(groups["Ollama"]), 1)
        self.assertIn("qwen:7b", groups["Ollama"][0])
        self.assertEqual(len(groups["OpenAI-compatible"]), 1)
        self.assertIn("far", groups["OpenAI-compatible"][0])

    def test_the_daemon_makes_room_at_every_turn(self):
        text, error = self.say("home", "Hello")
        self.assertIsNone(error)
        self.assertTrue(text)
        self.assertEqual(self.switches(), [])

        text, error = self.say("ollama_qwen:7b", "Hello")
        self.assertIsNone(error)
        self.assertTrue(text)
        self.assertEqual(self.daemon.model("home")["state"], "unloaded")
        (away,) = self.switches()
        self.assertEqual(away[:2], ("local", "ollama"))
        self.assertGreaterEqual(away[2], LOCAL_MEMORY)

        text, error = self.say("home", "Hello")
        self.assertIsNone(error)
        back = self.switches()[1]
        self.assertEqual(back[:2], ("ollama", "local"))
        self.assertGreaterEqual(back[2], 64 << 20)

        mark = self.log.mark()
        self.assertEqual(self.say("openai_far", "Hello"), ("from far away", None))
        self.log.wait("state", since=mark, model="home", detail="absent")
        self.log.wait("switch", since=mark, to="openai", stage="done")
        self.assertEqual(self.switches()[2][:2], ("local", "openai"))

    def test_what_the_command_line_is_told_of_an_upstream(self):
        switched = self.daemon.post("/api/v1/switch", {"model": "ollama_qwen:7b"})
        self.assertEqual(switched.status, 200, switched)
        # No event tells that an upstream was looked at: ask until it was.
        deadline = time.monotonic() + PATIENCE_S
        while not (upstream := self.daemon.model("ollama_qwen:7b")["upstream"])["held_bytes"]:
            self.assertLess(time.monotonic(), deadline, "its memory was never measured")
        self.assertEqual(upstream["id"], "ollama")
        self.assertGreaterEqual(upstream["held_bytes"]["host"], 64 << 20)
        self.assertIsNone(self.daemon.model("home")["upstream"])
        refused = self.daemon.post("/api/v1/models/inspect", {"model": "ollama_qwen:7b"})
        self.assertEqual(refused.status, 400, refused)
        self.assertEqual(refused.error()["code"], "not_a_file")
        checks = {c["name"]: c for c in self.daemon.get("/api/v1/diagnose").json()["checks"]}
        self.assertEqual(checks["upstream ollama"]["status"], "ok", checks)
        self.ollama.kill()
        self.ollama.wait(PATIENCE_S)
        self.assertNotEqual(self.daemon.chat("ollama_qwen:7b").status, 200)
        deadline = time.monotonic() + PATIENCE_S
        while checks["upstream ollama"]["status"] != "warning":
            self.assertLess(time.monotonic(), deadline, checks)
            checks = {c["name"]: c for c in self.daemon.get("/api/v1/diagnose").json()["checks"]}
        self.assertTrue(self.daemon.decisions("ollama", kind="load"), "explain knows upstreams by their names")

    def test_tells_what_failed(self):
        said, error = self.say("nobody", "Hello")
        self.assertEqual(said, "")
        self.assertIn("nobody", error["message"])
        self.assertEqual(error["code"], "model_not_found")

    def test_answers_only_its_own_pages(self):
        with contextlib.closing(self.to_app()) as connection:
            answer = ask(connection, "POST", "/chat", {"model": "home", "messages": []}, {"Host": "evil.example"})
        self.assertEqual(answer.status, 403)


if __name__ == "__main__":
    unittest.main()
