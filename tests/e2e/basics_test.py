"""A request and its model: loaded on demand, once, answered byte for byte, and given up when nobody wants it."""
import contextlib
import json
import time
import unittest

from daemon import DaemonTest, InBackground, ask, fake_model, said


class OnDemand(DaemonTest):
    def test_a_request_loads_its_model(self):
        daemon = self.start({"alpha": fake_model(say="Paris it is", tokens=3)})
        log = daemon.events()
        answer = daemon.chat("alpha")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json()["choices"][0]["message"]["content"], "Paris it is")
        self.assertEqual(answer.json()["model"], "alpha")
        log.sync()
        details = [e["detail"] for e in log.all("state", model="alpha")]
        self.assertEqual(details, ["queued", "reserved", "standby_taken", "loading", "ready"])
        stages = [e["stage"] for e in log.all("progress", model="alpha")]
        self.assertEqual(list(dict.fromkeys(stages)), ["metadata", "vocabulary", "weights", "context", "warm_up"])
        phases = log.wait("phases", model="alpha")["phases"]
        self.assertIn("weights", [p["name"] for p in phases])

    def test_the_timeline_of_a_load_ends_with_the_first_answers_first_byte(self):
        daemon = self.start({"alpha": fake_model(tokens=3), "my-embed": fake_model(kind="embedding")})
        log = daemon.events()

        def first_tokens(model):
            log.sync()
            return [e["phases"][0]["seconds"] for e in log.all("phases", model=model)
                    if [p["name"] for p in e["phases"]] == ["first_token"]]

        daemon.load("alpha")
        self.assertEqual(first_tokens("alpha"), [])
        for _ in range(3):
            self.assertEqual(daemon.chat("alpha").status, 200)
        told = first_tokens("alpha")
        self.assertEqual(len(told), 1, "once in an instance's life")
        self.assertTrue(0 < told[0] < 30, told)
        names = [p["name"] for e in log.all("phases", model="alpha") for p in e["phases"]]
        self.assertEqual(names[-1], "first_token")
        # Streams too, and again after each load; an embedding's answer has a first byte as well.
        daemon.unload("alpha")
        self.assertEqual(daemon.chat("alpha", stream=True).status, 200)
        self.assertEqual(len(first_tokens("alpha")), 2)
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "my-embed", "input": "x"}).status, 200)
        self.assertEqual(len(first_tokens("my-embed")), 1)

    def test_concurrent_first_requests_share_one_load(self):
        daemon = self.start({"alpha": fake_model(stage_ms=60, slots=4)})
        log = daemon.events()
        asked = [InBackground(daemon.chat, "alpha") for _ in range(12)]
        for one in asked:
            self.assertEqual(one.result().status, 200)
        self.assertEqual(log.loads("alpha"), 1)
        seen = daemon.worker("alpha").stats()
        self.assertEqual(seen["served"], 12)
        self.assertLessEqual(seen["most_active"], 4, "more requests at a time than the worker has slots")

    def test_a_stream_is_passed_on_byte_for_byte(self):
        daemon = self.start({"alpha": fake_model(say="one two three four")})
        body = json.dumps({"model": "alpha", "messages": [{"role": "user", "content": "größer 中文 \u0001"}],
                           "prompt": "or this", "input": "or that",
                           "stream": True, "tools": [{"type": "function", "function": {"name": "f"}}],
                           "response_format": {"type": "json_schema"}, "unheard_of": {"a": [1.50, 1e3]}})
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"):
            with self.subTest(path=path):
                through = daemon.post(path, body, headers={"X-Other": "yes", "Authorization": "Bearer secret"})
                worker = daemon.worker("alpha")
                last = worker.last()
                self.assertEqual(last["body"], body)
                # Nothing of its header means anything to the engine.
                self.assertEqual({line.split(":")[0].lower() for line in last["head"].splitlines()[1:]},
                                 {"host", "content-type", "content-length"})
                straight = worker.ask("POST", path, body)
                self.assertEqual(through.body, straight.body)
                self.assertEqual(through.headers["Content-Type"], "text/event-stream")
                self.assertEqual(through.headers["Cache-Control"], "no-cache")
                self.assertEqual(through.headers["X-Accel-Buffering"], "no")
                self.assertEqual(worker.ask("POST", path, body.replace("true", "false")).body,
                                 daemon.post(path, body.replace("true", "false")).body)

    def test_tokens_come_as_they_are_made(self):
        daemon = self.start({"alpha": fake_model(token_ms=150, tokens=6)})
        stream = daemon.chat_stream("alpha")
        events = stream.events()
        self.assertEqual(said(events), "w0 w1 w2 w3 w4 w5")
        gaps = [b.at - a.at for a, b in zip(events, events[1:])]
        self.assertGreater(events[-1].at - events[1].at, 0.6, f"they came all at once: {gaps}")

    def test_other_kinds(self):
        daemon = self.start({"alpha": fake_model(), "my-embed": fake_model(kind="embedding"),
                             "my-rerank": fake_model(kind="rerank")})
        vector = daemon.post("/v1/embeddings", {"model": "my-embed", "input": "a sentence"})
        self.assertEqual(len(vector.json()["data"][0]["embedding"]), 8, vector)
        ranked = daemon.post("/v1/rerank", {"model": "my-rerank", "query": "q", "documents": ["a", "b"]})
        self.assertEqual(len(ranked.json()["results"]), 2, ranked)
        counted = daemon.post("/v1/messages/count_tokens", daemon.question("alpha", "one two three"))
        self.assertEqual(counted.json(), {"input_tokens": 3})
        listed = daemon.get("/v1/models").json()
        self.assertEqual(sorted(m["id"] for m in listed["data"]), ["alpha", "my-embed", "my-rerank"])
        self.assertEqual(daemon.get("/v1/models/alpha").json()["id"], "alpha")
        kinds = {m["id"]: m["kind"] for m in daemon.get("/api/v1/models").json()["models"]}
        self.assertEqual(kinds, {"alpha": "generation", "my-embed": "embedding", "my-rerank": "rerank"})

    def test_the_engines_own_refusal_is_passed_on(self):
        daemon = self.start({"alpha": fake_model()})
        answer = daemon.chat("alpha", fake_refuse=1)
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.error()["message"], "the fake refuses this")
        # Also to a client whose stream has begun, as an event.
        daemon = self.start({"slow": fake_model(stage_ms=350)})
        stream = daemon.chat_stream("slow", fake_refuse=1)
        self.assertIsNotNone(stream.next().comment)
        events = stream.events()
        self.assertEqual(len(events), 1)
        self.assertEqual(events[0].json()["error"]["message"], "the fake refuses this")


class Pings(DaemonTest):
    def test_a_stream_is_kept_awake_while_its_model_loads(self):
        daemon = self.start({"slow": fake_model(stage_ms=500, say="done")})
        asked_at = time.monotonic()
        stream = daemon.chat_stream("slow")
        first = stream.next()
        self.assertIsNotNone(first.comment)
        self.assertIn("slow is loading", first.comment)
        self.assertLess(first.at - asked_at, 2.5)
        self.assertEqual(stream.status, 200)
        events = stream.events()
        self.assertEqual(events[-1].data, "[DONE]")
        self.assertFalse(stream.cut)

    def test_a_failed_load_ends_a_kept_awake_stream_with_one_error(self):
        daemon = self.start({"slow": fake_model(stage_ms=5000, fail="unsupported_model")})
        stream = daemon.chat_stream("slow")
        self.assertIsNotNone(stream.next().comment)
        events = stream.events()
        self.assertEqual(len(events), 1, events)
        self.assertEqual(events[0].json()["error"]["code"], "unsupported_model")
        self.assertFalse(stream.cut)


class Leaving(DaemonTest):
    def test_a_client_that_leaves_frees_its_slot(self):
        daemon = self.start({"alpha": fake_model(slots=1, token_ms=50, tokens=100000)})
        stream = daemon.chat_stream("alpha")
        self.assertIsNotNone(stream.event())
        worker = daemon.worker("alpha")
        waiting = InBackground(daemon.chat, "alpha", fake_tokens=1)
        left_at = time.monotonic()
        stream.close()
        worker.wait(cancelled=1, limit_s=2)
        self.assertEqual(waiting.result(limit_s=10).status, 200)
        self.assertLess(time.monotonic() - left_at, 2)

    def test_a_client_that_leaves_before_the_first_byte_frees_its_slot(self):
        daemon = self.start({"alpha": fake_model(slots=1, first_byte_ms=600000)})
        self.assertEqual(daemon.load("alpha").status, 200)
        worker = daemon.worker("alpha")
        for streams in (True, False):
            with self.subTest(streams=streams):
                before = worker.stats()
                client = daemon.stream("/v1/chat/completions", daemon.question("alpha", stream=streams))
                worker.wait(asked=before["asked"] + 1)
                client.close()
                worker.wait(cancelled=before["cancelled"] + 1, limit_s=2)

    def test_a_client_that_leaves_cancels_the_load_that_only_it_wanted(self):
        daemon = self.start({"slow": fake_model(stage_ms=20000, memory_mb=64)})
        log = daemon.events()
        stream = daemon.chat_stream("slow")
        log.wait("progress", model="slow", stage="metadata")
        left_at = time.monotonic()
        stream.close()
        gone = log.wait("state", model="slow", detail="absent", limit_s=10)
        self.assertEqual(gone["cause"], "unwanted")
        self.assertLess(gone["_at"] - left_at, 2)
        self.assertEqual(daemon.get("/api/v1/devices").json()["devices"][0]["reserved"], 0)

    def test_a_load_that_somebody_else_wants_goes_on(self):
        daemon = self.start({"slow": fake_model(stage_ms=300)})
        log = daemon.events()
        leaver = daemon.chat_stream("slow")
        log.wait("progress", model="slow", stage="metadata")
        stayer = InBackground(daemon.chat, "slow")
        # Answered in order: both wait now.
        while daemon.get("/health").json()["waiting"] < 2:
            pass
        leaver.close()
        self.assertEqual(stayer.result().status, 200)
        self.assertEqual(log.loads("slow"), 1)

    def test_an_admin_who_leaves_cancels_the_load_that_only_he_wanted(self):
        daemon = self.start({"slow": fake_model(stage_ms=20000)})
        log = daemon.events()
        admin = daemon.stream("/api/v1/models/load", {"model": "slow", "stream": True})
        log.wait("progress", model="slow", stage="metadata")
        admin.close()
        log.wait("state", model="slow", detail="absent", cause="unwanted", limit_s=10)


class Connections(DaemonTest):
    def test_one_connection_many_requests(self):
        daemon = self.start({"alpha": fake_model(tokens=1)})
        with contextlib.closing(daemon.connection()) as connection:
            for _ in range(50):
                self.assertEqual(ask(connection, "POST", "/v1/chat/completions", daemon.question("alpha")).status, 200)
            self.assertEqual(ask(connection, "GET", "/health").json()["status"], "ok")


if __name__ == "__main__":
    unittest.main(verbosity=2)
