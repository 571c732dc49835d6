"""Ollama's API before workers that do as they are told: deaths in the middle, turns, keys, the owner's word. What the real
client sees of a real model is in tests/web."""
import contextlib
import json
import unittest

from daemon import PATIENCE_S, DaemonTest, InBackground, fake_model
from preemption_test import ONE_AT_A_TIME
from upstreams import FakeOllama


class Lines:
    """An answer of NDJSON, read as it comes."""

    def __init__(self, daemon, path, body):
        self.connection = daemon.connection(PATIENCE_S)
        self.connection.request("POST", path, body=json.dumps(body).encode())
        self.response = None

    def next(self):
        self.response = self.response or self.connection.getresponse()
        line = self.response.readline()
        return json.loads(line) if line else None

    def rest(self):
        lines = list(iter(self.next, None))
        self.connection.close()
        return lines


def question(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}


def said(lines):
    return "".join(line["message"]["content"] for line in lines)


class OllamaApi(DaemonTest):
    def test_a_worker_that_dies_in_the_middle(self):
        daemon = self.start({"alpha": fake_model(tokens=20, crash_at="decode", after_tokens=3, token_ms=5, times=2)})
        lines = Lines(daemon, "/api/chat", question("alpha")).rest()
        self.assertEqual(said(lines[:-1]).split(), ["w0", "w1", "w2"])
        self.assertRegex(lines[-1]["error"], "ended while it answered")
        # Without a stream nothing was told yet: the error has its status.
        answer = daemon.post("/api/chat", question("alpha", stream=False))
        self.assertEqual(answer.status, 503, answer)
        self.assertRegex(answer.json()["error"], "ended while it answered")
        self.assertEqual(answer.headers["Retry-After"], "1")
        answer = daemon.post("/api/chat", question("alpha", stream=False))
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.json()["message"]["content"].split(), [f"w{i}" for i in range(20)])

    def test_a_load_that_fails(self):
        daemon = self.start({"alpha": fake_model(fail="insufficient_memory")})
        for stream in (True, False):
            answer = daemon.post("/api/chat", question("alpha", stream=stream))
            self.assertGreaterEqual(answer.status, 500, answer)
            self.assertIsInstance(answer.json()["error"], str)

    def test_an_answer_that_makes_way_is_one_answer(self):
        for stream in (True, False):
            with self.subTest(stream=stream):
                daemon = self.start({"alpha": fake_model(tokens=120, token_ms=20), "beta": fake_model(say="from beta", tokens=2)},
                                    config=ONE_AT_A_TIME)
                log = daemon.events()
                alpha = InBackground(Lines(daemon, "/api/chat", question("alpha", stream=stream)).rest)
                log.wait("state", model="alpha", detail="ready")
                other = daemon.post("/api/generate", {"model": "beta", "prompt": "Hello", "stream": False})
                self.assertEqual(other.json()["response"], "from beta")
                lines = alpha.result()
                self.assertEqual(said(lines).split(), [f"w{i}" for i in range(120)])
                self.assertEqual(lines[-1]["eval_count"], 120)
                self.assertEqual([line["done"] for line in lines if line["done"]], [True])
                self.assertEqual(log.loads("alpha"), 2)

    def test_a_wait_that_is_too_long_is_refused_with_its_status(self):
        daemon = self.start({"alpha": fake_model(slots=1, tokens=200, token_ms=20)})
        first = Lines(daemon, "/api/chat", question("alpha"))
        first.next()
        answer = daemon.post("/api/chat", question("alpha"), headers={"X-Deadline-Ms": "1"})
        self.assertIn(answer.status, (503, 504), answer)
        self.assertIsInstance(answer.json()["error"], str)
        first.connection.close()

    def test_a_client_that_leaves_frees_its_slot(self):
        daemon = self.start({"alpha": fake_model(slots=1, tokens=100000, token_ms=20)})
        for stream in (True, False):
            lines = Lines(daemon, "/api/chat", question("alpha", stream=stream))
            if stream:
                lines.next()
            else:
                daemon.worker("alpha").wait(asked=3)  # after the stream and the answer behind it
            with contextlib.suppress(OSError):
                lines.connection.sock.close()
            if lines.response is not None:
                lines.response.close()
            lines.connection.close()
            answer = daemon.post("/api/chat", question("alpha", stream=False, options={"num_predict": 2}))
            self.assertEqual(answer.json()["message"]["content"], "w0 w1", answer)

    def test_the_owners_word_stands_above_keep_alive(self):
        folder = self.folder()
        daemon = self.start({"alpha": fake_model(), "beta": fake_model()}, folder=folder,
                            config=f"models: {{alpha: {{model_path: {folder}/models/alpha.gguf, keep_alive: 1h}}}}\n"
                                   "residency: {mode: fit, keep_alive_limit: 2h}\n")
        log = daemon.events()
        for name in ("alpha", "beta"):
            self.assertEqual(daemon.post("/api/chat", question(name, stream=False, keep_alive=0)).status, 200)
        log.wait("state", model="beta", detail="absent")
        self.assertEqual([m["name"] for m in daemon.get("/api/ps").json()["models"]], ["alpha"])
        self.assertEqual(daemon.post("/api/chat", question("beta", stream=False, keep_alive=-1)).status, 200)
        log.sync()
        left = next(i["expires_in_s"] for i in daemon.get("/api/v1/instances").json()["instances"] if i["model"] == "beta")
        self.assertTrue(3600 < left <= 7200, left)

    def test_a_providers_model_is_ready_where_nothing_is_asked(self):
        cloud = FakeOllama("gpt,memory=8M,load=0").start()
        self.addCleanup(cloud.stop)
        daemon = self.start({}, config=f'providers: {{cloud: {{base_url: "{cloud.url}/v1", location: remote}}}}\n')
        answer = daemon.post("/api/generate", {"model": "cloud/gpt:latest", "stream": False})
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.json()["done_reason"], "load")
        # Its tokenizer is its own.
        answer = daemon.post("/tokenize", {"model": "cloud/gpt:latest", "content": "a"})
        self.assertEqual(answer.status, 501, answer)
        self.assertIn("/tokenize asks the tokenizer of one", answer.error()["message"])

    def test_who_may_pull_and_delete(self):
        daemon = self.start({"alpha": fake_model()}, config="server: {keys: {user_env: USER_KEY, admin_env: ADMIN_KEY}}\n",
                            environment={"USER_KEY": "sk-user-1234567890", "ADMIN_KEY": "sk-admin-1234567890"})
        # Who comes through a proxy is not local.
        stranger = {"X-Forwarded-For": "192.0.2.1"}
        user = {**stranger, "Authorization": "Bearer sk-user-1234567890"}
        for path in ("/api/tags", "/api/version"):
            self.assertEqual(daemon.get(path, headers=stranger).status, 401, path)
        self.assertEqual(daemon.get("/", headers=stranger).body, b"Ollama is running")
        self.assertEqual([m["name"] for m in daemon.get("/api/tags", headers=user).json()["models"]], ["alpha"])
        self.assertEqual(daemon.post("/api/chat", question("alpha", stream=False), headers=user).status, 200)
        for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create")):
            answer = daemon.ask(method, path, {"model": "alpha"}, headers=user)
            self.assertEqual(answer.status, 403, (path, answer))
            self.assertIsInstance(answer.json()["error"], str)


if __name__ == "__main__":
    unittest.main()
