"""What a waiting client is told, who is refused at once, and whose turn it is: positions, expected waits, deadlines, classes."""
import pathlib
import time
import unittest

from daemon import PATIENCE_S, DaemonTest, InBackground, fake_model
from refusals_test import own_address

# What fits is one model; a turn lasts for its batch, or a second.
ONE_AT_A_TIME = "residency: {max_loaded: 1}\nscheduling: {quantum_min: 1s, quantum_factor: 0}\n"


class OneSlot(DaemonTest):
    def start_models(self, names, config="", more="", environment=None, **fake):
        """Models that answer one request at a time; `more`: of their configuration."""
        folder = pathlib.Path(self.folder())
        models = ", ".join(f"{name}: {{model_path: {folder}/models/{name}.gguf, parallel: 1{more}}}" for name in names)
        return self.start({name: fake_model(**fake) for name in names}, config=f"models: {{{models}}}\n{config}",
                          folder=folder, environment=environment)

    def waiting(self, daemon, model, count):
        """Until so many wait for the model: the daemon was heard, whatever the client."""
        deadline = time.monotonic() + PATIENCE_S
        while (daemon.model(model)["instance"] or {"waiting": 0})["waiting"] != count:
            self.assertLess(time.monotonic(), deadline, f"{count} should wait for {model}: {daemon.model(model)}")


class Waits(OneSlot):
    def begin(self, config=ONE_AT_A_TIME):
        """Two models whose loads and answers the daemon has seen: of half a second, one at a time."""
        daemon = self.start_models(["alpha", "beta"], config, tokens=10, token_ms=50)
        for name in ("beta", "alpha", "beta", "alpha"):
            # Patient, whatever the configuration's limit for those who are not.
            self.assertEqual(daemon.chat(name, headers={"X-Priority": "batch"}).status, 200)
        return daemon

    def busy(self, daemon, model="alpha", tokens=200):
        """A stream that has begun and runs on: its slot is taken. Not to be set aside."""
        stream = daemon.chat_stream(model, fake_tokens=tokens, logprobs=True)
        stream.event()
        return stream

    def test_who_is_served_at_once_is_told_nothing(self):
        answer = self.begin().chat("alpha")
        self.assertNotIn("X-Queue-Position", answer.headers)
        self.assertNotIn("X-Expected-Wait", answer.headers)

    def test_who_waited_is_told_how_long_it_had_to_expect(self):
        daemon = self.begin()
        first = daemon.chat("beta")  # alpha is idle and goes
        self.assertEqual((first.status, first.headers["X-Queue-Position"]), (200, "1"))
        self.assertGreaterEqual(float(first.headers["X-Expected-Wait"]), 0)
        busy = self.busy(daemon, "beta", tokens=40)
        behind = []
        for position in (1, 2, 3):
            behind.append(InBackground(daemon.chat, "beta"))
            self.waiting(daemon, "beta", position)
        told = [answer.result().headers for answer in behind]
        self.assertEqual([h["X-Queue-Position"] for h in told], ["1", "2", "3"])
        waits = [float(h["X-Expected-Wait"]) for h in told]
        self.assertEqual(waits, sorted(waits))
        self.assertGreater(waits[2], waits[0])
        busy.close()

    def test_a_stream_is_told_in_its_head_and_in_its_comments(self):
        daemon = self.begin()
        busy = self.busy(daemon)
        stream = daemon.chat_stream("beta")
        comment = stream.next().comment
        self.assertRegex(comment, r"position 1, about \d+ s: alpha has the device for \d+ s more")
        self.assertEqual(stream.begin().headers["X-Queue-Position"], "1")
        self.assertGreater(float(stream.begin().headers["X-Expected-Wait"]), 0)
        busy.close()

    def test_who_cannot_be_served_in_time_is_refused_at_once(self):
        daemon = self.begin()
        busy = self.busy(daemon)
        queued = InBackground(daemon.chat, "alpha")
        self.waiting(daemon, "alpha", 1)
        answer = daemon.chat("beta", headers={"X-Deadline-Ms": "50"})
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.headers["X-Queue-Position"], "1")
        self.assertGreater(float(answer.headers["X-Expected-Wait"]), 0.05)
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        error = answer.error()
        self.assertEqual((error["type"], error["code"]), ("unavailable_error", "deadline_too_near"))
        self.assertIn("alpha has the device until about", error["message"])
        self.assertEqual(error["details"]["holder"], "alpha")
        self.assertLessEqual(error["details"]["allowed_ms"], 50)
        self.assertGreater(error["details"]["held_for_ms"], 0)
        self.assertEqual(daemon.model("beta")["state"], "unloaded", "nothing was begun for it")
        # With time enough it waits.
        patient = InBackground(daemon.chat, "beta", headers={"X-Deadline-Ms": "60000"})
        busy.close()
        self.assertEqual(patient.result().status, 200)
        self.assertEqual(queued.result().status, 200)

    def test_the_limit_of_the_class_is_a_deadline(self):
        daemon = self.begin(ONE_AT_A_TIME.replace("quantum_min", "wait_interactive: 300ms, quantum_min"))
        busy = self.busy(daemon)
        queued = InBackground(daemon.chat, "alpha", headers={"X-Priority": "batch"})
        self.waiting(daemon, "alpha", 1)
        self.assertEqual(daemon.chat("beta").error()["code"], "deadline_too_near")
        patient = InBackground(daemon.chat, "beta", headers={"X-Priority": "batch"})
        self.waiting(daemon, "beta", 1)
        busy.close()
        self.assertEqual((queued.result().status, patient.result().status), (200, 200))

    def test_full_queues_are_429_with_position_and_wait(self):
        daemon = self.begin(ONE_AT_A_TIME.replace("quantum_min", "queue_per_model: 2, queue_total: 3, quantum_min"))
        busy = self.busy(daemon)
        waiting = []
        for count in (1, 2):
            waiting.append(InBackground(daemon.chat, "alpha"))
            self.waiting(daemon, "alpha", count)
        answer = daemon.chat("alpha")
        self.assertEqual((answer.status, answer.error()["code"]), (429, "queue_full"))
        self.assertEqual(answer.headers["X-Queue-Position"], "3")
        self.assertGreater(float(answer.headers["X-Expected-Wait"]), 0)
        self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        waiting.append(InBackground(daemon.chat, "beta"))
        self.waiting(daemon, "beta", 1)
        self.assertEqual(daemon.chat("beta").status, 429, "of all")
        busy.close()
        self.assertEqual([w.result().status for w in waiting], [200] * 3)

    def test_lists_and_explain_tell_what_a_newcomer_would_wait(self):
        daemon = self.begin()
        self.assertIsNone(daemon.model("alpha")["instance"]["expected_wait"])
        busy = self.busy(daemon)
        queued = InBackground(daemon.chat, "alpha")
        self.waiting(daemon, "alpha", 1)
        expected = daemon.model("alpha")["instance"]["expected_wait"]
        self.assertEqual((expected["position"], expected["holder"]), (2, "alpha"))
        self.assertGreater(expected["wait_s"], 0)
        now = daemon.get("/api/v1/explain?model=alpha").json()["now"]
        self.assertEqual(now["expected_wait"]["position"], 2)
        busy.close()
        queued.result()


class Classes(OneSlot):
    def order(self, daemon, requests):
        """In which order the requests, (name, headers), are served by a model with one slot that is busy."""
        busy = daemon.chat_stream("alpha", fake_tokens=4000)
        busy.event()
        answers = []
        for count, (name, headers) in enumerate(requests, 1):
            answers.append((name, InBackground(daemon.chat, "alpha", text=name, headers=headers)))
            self.waiting(daemon, "alpha", count)
        positions = {}
        busy.close()
        for name, answer in answers:
            result = answer.result()
            self.assertEqual(result.status, 200)
            positions[name] = int(result.headers["X-Queue-Position"])
        return positions

    def test_interactive_goes_before_batch(self):
        daemon = self.start_models(["alpha"], token_ms=5)
        daemon.chat("alpha")
        positions = self.order(daemon, [("b1", {"X-Priority": "batch"}), ("b2", {"X-Priority": "batch"}), ("i", {}),
                                        ("b3", {"X-Priority": "batch"}), ("i2", {"X-Priority": "interactive"})])
        self.assertEqual(positions, {"b1": 1, "b2": 2, "i": 1, "b3": 4, "i2": 2})

    def test_a_model_has_a_class_for_requests_that_do_not_say(self):
        daemon = self.start_models(["alpha"], more=", priority: batch", token_ms=5)
        daemon.chat("alpha")
        positions = self.order(daemon, [("b", {}), ("i", {"X-Priority": "interactive"}), ("b2", {})])
        self.assertEqual(positions, {"b": 1, "i": 1, "b2": 3})

    def test_a_clients_class_is_the_most_it_gets(self):
        daemon = self.start_models(["alpha"], "server: {clients: {nightly: {key_env: NIGHTLY_KEY, priority: batch}}}\n",
                                   environment={"NIGHTLY_KEY": "sk-nightly"}, token_ms=5)
        daemon.chat("alpha")
        nightly = {"Authorization": "Bearer sk-nightly"}
        positions = self.order(daemon, [("n", {**nightly, "X-Priority": "interactive"}), ("i", {}), ("n2", nightly)])
        self.assertEqual(positions, {"n": 1, "i": 1, "n2": 3})

    def test_a_clients_key_lets_it_in(self):
        address = own_address()
        if address is None:
            address = "127.0.0.1"
        daemon = self.start({"alpha": fake_model()}, listen=f"{address}:0",
                            config="server: {clients: {ci: {key_env: CI_KEY}}}\n", environment={"CI_KEY": "sk-ci"})
        known = {"Authorization": "Bearer sk-ci"}
        self.assertEqual(daemon.get("/v1/models", headers=known).status, 200)
        if address != "127.0.0.1":
            self.assertEqual(daemon.get("/v1/models").status, 401)
            self.assertEqual(daemon.get("/v1/models", headers={"Authorization": "Bearer sk-no"}).status, 401)
            self.assertEqual(daemon.ask("POST", "/api/v1/models/unload", {"all": True}, headers=known).status, 403)

    def test_headers_that_are_wrong_say_what_is_right(self):
        daemon = self.start({"alpha": fake_model()})
        for headers, right in (({"X-Priority": "urgent"}, "interactive or batch"), ({"X-Deadline-Ms": "soon"}, "milliseconds")):
            answer = daemon.chat("alpha", headers=headers)
            self.assertEqual(answer.status, 400)
            self.assertIn(right, answer.error()["message"])


if __name__ == "__main__":
    unittest.main()
