"""Upstreams that say they gave their memory back and did not: the measurement finds them out, within the limits of the
configuration, and everybody who asks is told who holds what. Nothing of others is ever killed."""
import contextlib
import os
import signal
import time
import unittest

from daemon import DaemonTest, SANITIZED, alive, fake_model
from upstreams import FakeOllama, children_of

YIELD_S, RELEASE_S = 1.0, 0.5
# What a slow machine adds to the limits: of the tests' machine, not of the product.
SLACK_S = 8 if SANITIZED else 4
CONFIG = """
models: {{llm: {{model_path: alpha}}}}
ollama: {{url: "{url}"}}
limits: {{yield: 1s, release_cap: 500ms, retry_first: 500ms, retry_most: 1s}}
"""


class Liars(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ollama = FakeOllama("qwen-a,memory=96M,load=0.01,rate=2000").start()
        self.addCleanup(self.end_ollama)
        self.left = []
        self.daemon = self.start({"alpha": fake_model(memory_mb=64, tokens=2)}, CONFIG.format(url=self.ollama.url))
        self.log = self.daemon.events()
        self.assertEqual(self.daemon.chat("qwen-a").status, 200)
        self.theirs = children_of(self.ollama.pid)
        self.assertEqual(len(self.theirs), 1)

    def end_ollama(self):
        self.ollama.stop()
        for pid in self.left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask_local(self):
        """A request for the local model, and how long its answer took."""
        began = time.monotonic()
        return self.daemon.chat("llm"), time.monotonic() - began

    def refused(self, *words):
        """The switch back fails as it must, and everybody is told."""
        answer, took = self.ask_local()
        self.assertEqual(answer.status, 507, answer)
        error = answer.error()
        self.assertEqual(error["code"], "upstream_not_released", error)
        self.assertLess(took, YIELD_S + RELEASE_S + SLACK_S)
        for word in ("ollama was asked to give its memory back and did not", *words):
            self.assertIn(word, error["message"])
        self.assertIn("Retry-After", answer.headers)
        self.assertGreater(error["details"]["residual"], 16 << 20)  # one that came back a moment ago still grows
        self.assertEqual(self.daemon.model("llm")["state"], "failed")
        health = self.daemon.get("/health").json()
        self.assertEqual(health["status"], "degraded")
        self.assertIn("ollama was asked", health["troubles"][0])
        for model in ("llm", "qwen-a"):
            told = [d["why"] for d in self.daemon.decisions(model)]
            self.assertTrue([why for why in told if "did not" in why], (model, told))
        stuck = self.daemon.get("/api/v1/upstreams").json()["upstreams"][0]["stuck"]
        self.assertEqual(stuck["code"], "upstream_not_released")
        failed = self.log.all("switch", stage="failed")[-1]
        self.assertEqual(failed["error"]["code"], "upstream_not_released")
        # The family that did not go is the one that is chosen still.
        self.assertEqual(self.daemon.get("/api/v1/switch").json()["family"], "ollama")
        return error

    def recovers(self):
        """Once the bytes are back the next choice works, and health is well again."""
        deadline = time.monotonic() + 60
        while self.ask_local()[0].status != 200:
            self.assertLess(time.monotonic(), deadline, "the local model never came back")
            time.sleep(0.1)  # what it waits for is the upstream's next look, which has no event
        self.assertEqual(self.daemon.model("llm")["state"], "ready")
        health = self.daemon.get("/health").json()
        self.assertEqual((health["status"], health["troubles"]), ("ok", []))

    def test_one_that_hides_what_it_keeps(self):
        self.ollama.lie(keeps_memory="hidden")
        self.refused("is still held", f"({self.theirs[0]})")
        self.assertEqual(self.ollama.told()["ps"], [], "it says that nothing is loaded")
        self.assertTrue(alive(self.theirs[0]), "what is not ours is not killed")
        self.ollama.lie()
        self.recovers()

    def test_one_that_keeps_and_says_so(self):
        self.ollama.lie(keeps_memory="listed")
        self.refused("still shows qwen-a", f"({self.theirs[0]})")
        self.assertTrue(alive(self.theirs[0]))
        self.ollama.lie()
        self.recovers()

    def test_one_that_hangs_in_stopping(self):
        self.ollama.lie(hangs_in_stopping=True)
        self.refused("still shows qwen-a")
        self.assertTrue(alive(self.theirs[0]))
        self.ollama.lie()
        self.recovers()

    def test_one_whose_model_comes_back_again_and_again(self):
        self.ollama.lie(revives_after_ms=0)
        self.refused()
        self.assertGreater(self.ollama.told()["revivals"], 0)
        self.ollama.lie()
        self.recovers()

    def test_one_whose_model_comes_back_once(self):
        self.ollama.lie(revives_after_ms=0, revivals=1)
        answer, took = self.ask_local()
        if answer.status != 200:  # on a slow machine one second may not do for two unloads
            self.assertEqual(answer.error()["code"], "upstream_not_released")
        self.recovers()
        self.assertEqual(self.ollama.told()["ps"], [])
        self.assertLess(took, YIELD_S + RELEASE_S + SLACK_S)

    def test_one_that_dies_and_leaves_its_memory_behind(self):
        self.ollama.lie(dies_in="unload", leaves_child=True)
        self.left = self.theirs
        self.refused(f"({self.theirs[0]})")
        self.ollama.process.wait(10)
        self.assertTrue(alive(self.theirs[0]), "an orphan of others is others'")
        os.kill(self.theirs[0], signal.SIGKILL)
        self.recovers()
        # Started again it is an upstream like any other.
        self.ollama.stop()
        self.ollama.start()
        deadline = time.monotonic() + 60
        while self.daemon.chat("qwen-a").status != 200:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)

    def test_one_that_answers_garbage(self):
        for garbage in ("html", "cut", "types", "not_http"):
            with self.subTest(garbage):
                self.ollama.lie(garbage=garbage)
                self.refused()
                self.ollama.lie()
                self.recovers()
                self.assertEqual(self.daemon.chat("qwen-a").status, 200)
                self.theirs = children_of(self.ollama.pid)

    def test_one_whose_answers_to_a_load_are_garbage(self):
        for garbage in ("html", "cut", "types", "deep"):
            with self.subTest(garbage):
                self.recovers()
                self.ollama.lie(garbage=garbage, on=["/api/generate"])
                answer = self.daemon.post("/api/v1/switch", {"model": "qwen-a"})
                self.assertEqual(answer.status, 503, answer)
                self.assertEqual(answer.error()["code"], "bad_upstream")
                self.assertIn("could not load qwen-a", answer.error()["message"])
                self.assertEqual(self.daemon.get("/api/v1/switch").json()["family"], "local", "as before")
                self.ollama.lie()

    def test_one_whose_answers_are_garbage(self):
        """What is called an answer has to be one, streamed or not."""
        for garbage in ("html", "cut", "not_http"):
            for stream in (False, True):
                with self.subTest(garbage=garbage, stream=stream):
                    self.ollama.lie(garbage=garbage, on=["/v1/chat/completions"])
                    if stream:
                        with contextlib.closing(self.daemon.chat_stream("qwen-a")) as answer:
                            self.assertNotEqual(answer.status, 200)
                    else:
                        answer = self.daemon.chat("qwen-a")
                        self.assertEqual(answer.status, 503, answer)
                        self.assertIn(answer.error()["code"], ("bad_upstream", "connection_lost"))
                    self.ollama.lie()
        self.assertEqual(self.daemon.chat("qwen-a").status, 200)

    def test_one_that_never_begins_its_answer(self):
        config = CONFIG.format(url=self.ollama.url).replace("ollama: {", "ollama: {first_byte_timeout: 300ms, ")
        self.daemon.config.write_text(config)
        self.daemon.signal(signal.SIGHUP)
        self.log.wait("config")
        self.ollama.lie(silent=True, on=["/v1/chat/completions"])
        answer = self.daemon.chat("qwen-a")
        self.assertEqual((answer.status, answer.error()["code"]), (504, "first_byte_timeout"), answer)
        with contextlib.closing(self.daemon.chat_stream("qwen-a")) as stream:
            self.assertNotEqual(stream.status, 200)

    def test_one_that_says_nothing(self):
        self.ollama.lie(silent=True)
        self.refused()
        self.ollama.lie()
        self.recovers()


if __name__ == "__main__":
    unittest.main(verbosity=2)
