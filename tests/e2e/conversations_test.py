"""Conversations outlive their model's time in memory: with the real worker and tiny models, of which one fits."""
import pathlib
import re
import time
import unittest

from daemon import PATIENCE_S, DaemonTest, program
from real_engine_test import model_file

STORY = "the quick brown fox jumps over the lazy dog while the old man sits by the river and counts his boats " * 6
OTHER = "a slow red hen runs under the busy cat and thinks of nothing but the corn that lies behind the barn " * 6


def config(state="{memory: 1GB, disk: 0, checkpoint_idle: 0}", parallel=2):
    names = {"one": "tiny-chat", "two": "tiny-chat-2"}
    models = ", ".join(f"{name}: {{model_path: {model_file('models-test', file + '.gguf')}, max_length: 2048, parallel: {parallel}}}"
                       for name, file in names.items())
    return f"models: {{{models}}}\nresidency: {{mode: fit, max_loaded: 1}}\nstate: {state}\n"


class Conversations(DaemonTest):
    def begin(self, text=None, **more):
        return self.start(config=text or config(), worker=program("LLM_MANAGER_REAL_WORKER"), **more)

    def say(self, daemon, model, *texts, tokens=8):
        """One turn, the turns before it in front: the answer, and how many tokens of its prompt were not read again."""
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        answer = daemon.post("/v1/chat/completions", {"model": model, "messages": messages, "temperature": 0, "max_tokens": tokens})
        self.assertEqual(answer.status, 200, answer)
        body = answer.json()
        return body["choices"][0]["message"]["content"], body["timings"]["cache_n"], body["usage"]["prompt_tokens"]

    def metric(self, daemon, name, **labels):
        text = daemon.get("/metrics").body.decode()
        wanted = "".join(f'{k}="{v}"' for k, v in labels.items())
        found = re.search(rf"^{name}(?:\{{{wanted}\}})? (\S+)$", text, re.M)
        self.assertIsNotNone(found, f"no {name} {labels} in\n{text}")
        return float(found[1])

    def wait_saved(self, daemon, at_least):
        """A checkpoint makes no event: its own counter is asked."""
        deadline = time.monotonic() + PATIENCE_S
        while self.metric(daemon, "llm_manager_state_saves_total", result="ok") < at_least:
            self.assertLess(time.monotonic(), deadline, "no checkpoint came")
            time.sleep(0.02)

    def say_twice(self, daemon, model, text):
        """The second answer, which is that of a cache that was never out of memory: a prompt read in one batch rounds
        differently from its last token alone, and a random model's next token may hang on it."""
        self.say(daemon, model, text)
        answer, cached, prompt = self.say(daemon, model, text)
        self.assertGreaterEqual(cached, prompt - 1)
        return answer, prompt

    # ---- a switch and back

    def test_a_switch_and_back_reads_nothing_again_and_answers_the_same(self):
        daemon = self.begin()
        expected, prompt = self.say_twice(daemon, "one", STORY)
        events = daemon.events()
        self.say(daemon, "two", "Hello")
        phases = {p["name"] for p in events.wait("phases", model="two")["phases"]}
        self.assertIn("save", phases)
        mark = events.mark()
        text, cached, _ = self.say(daemon, "one", STORY)
        self.assertEqual(text, expected)
        self.assertGreaterEqual(cached, prompt - 1)
        phases = {p["name"] for p in events.wait("phases", since=mark, model="one")["phases"]}
        self.assertIn("restore", phases)
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="ok"), 1)
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="failed"), 0)
        # Its end tells what became of it.
        self.say(daemon, "two", "Hello")
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="mismatch"), 0)
        self.assertGreaterEqual(self.metric(daemon, "llm_manager_state_tokens_reused_total"), prompt - 1)

    def test_two_conversations_of_each_of_two_models(self):
        daemon = self.begin()
        for model in ("one", "two"):
            self.say(daemon, model, STORY)
            self.say(daemon, model, OTHER)
        for _ in range(2):
            for model in ("one", "two"):
                for text in (STORY, OTHER):
                    _, cached, prompt = self.say(daemon, model, text)
                    self.assertGreaterEqual(cached, prompt - 1, (model, text[:20]))
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="failed"), 0)

    def test_the_next_turn_goes_on_where_the_last_one_ended(self):
        daemon = self.begin()
        answer, _, prompt = self.say(daemon, "one", STORY)
        self.say(daemon, "two", "Hello")
        _, cached, _ = self.say(daemon, "one", STORY, answer, "And then?")
        self.assertGreaterEqual(cached, prompt - 8, "all but the template's end")

    def test_an_answer_that_is_cut_at_the_end_of_a_drain_is_saved_with_its_slot(self):
        daemon = self.begin(config() + "limits: {drain_unload: 300ms}\n")
        self.say(daemon, "one", "Hello", tokens=1)
        stream = daemon.stream("/v1/chat/completions", {
            "model": "one", "stream": True, "max_tokens": 1500, "ignore_eos": True,
            "messages": [{"role": "user", "content": STORY}]})
        stream.event()
        began = time.monotonic()
        self.assertEqual(daemon.unload("one").status, 200)
        # The engine works on while it is not told: a save would wait for that in vain, for five seconds.
        self.assertLess(time.monotonic() - began, 4.5)
        self.assertIn("model_unloaded", str(stream.events()[-1]))
        stream.close()
        self.assertEqual(self.metric(daemon, "llm_manager_state_saves_total", result="ok"), 1)

    def test_short_talk_is_not_worth_a_file(self):
        daemon = self.begin()
        self.say(daemon, "one", "Hello")
        self.say(daemon, "two", "Hello")
        self.assertEqual(self.metric(daemon, "llm_manager_states"), 0)

    # ---- what goes wrong

    def test_a_damaged_state_is_refused_and_read_again(self):
        daemon = self.begin(config("{memory: 0, disk: 1GB, checkpoint_idle: 0}"))
        expected = self.say(daemon, "one", STORY)[0]
        self.say(daemon, "two", "Hello")
        files = list((daemon.data / "states").glob("*.slot"))
        self.assertEqual(len(files), 1)
        content = bytearray(files[0].read_bytes())
        content[len(content) // 2] ^= 1
        files[0].write_bytes(content)
        text, cached, _ = self.say(daemon, "one", STORY)
        self.assertEqual((text, cached), (expected, 0))
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="failed"), 1)
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="ok"), 0)
        self.assertIn("is not what was saved", daemon.errors())
        # It is gone, and the next one is as good as ever.
        self.assertFalse(files[0].exists())
        self.say(daemon, "two", "Hello")
        _, cached, prompt = self.say(daemon, "one", STORY)
        self.assertGreaterEqual(cached, prompt - 1)

    def test_budgets_hold(self):
        # A conversation here has about 135 tokens of 512 bytes and what is around them: one fits, two do not.
        daemon = self.begin(config("{memory: 150kB, disk: 0, checkpoint_idle: 0}"))
        for _ in range(2):
            for model in ("one", "two"):
                self.say(daemon, model, STORY)
                self.assertLessEqual(self.metric(daemon, "llm_manager_states_bytes", place="memory"), 150e3)
        self.assertLessEqual(self.metric(daemon, "llm_manager_states"), 1)
        nothing = self.begin(config("{memory: 0, disk: 0, checkpoint_idle: 0}"))
        for model in ("one", "two", "one"):
            cached = self.say(nothing, model, STORY)[1]
            self.assertEqual(cached, 0)
        self.assertEqual(self.metric(nothing, "llm_manager_states"), 0)

    def test_other_options_make_another_state(self):
        daemon = self.begin(config("{memory: 0, disk: 1GB, checkpoint_idle: 0}"))
        self.say(daemon, "one", STORY)
        self.say(daemon, "two", "Hello")
        self.assertEqual(daemon.stop(), [])
        daemon.config.write_text(config("{memory: 0, disk: 1GB, checkpoint_idle: 0}").replace("2048", "1024"))
        daemon.start()
        self.assertEqual(self.say(daemon, "one", STORY)[1], 0)
        self.assertEqual(self.metric(daemon, "llm_manager_state_restores_total", result="failed"), 0)
        self.assertEqual(list((daemon.data / "states").glob("*.slot")), [], "the stale one is gone")

    # ---- ends of the daemon and of workers

    def test_a_restart_with_a_disk(self):
        daemon = self.begin(config("{memory: 1GB, disk: 1GB, checkpoint_idle: 0}"))
        expected, prompt = self.say_twice(daemon, "one", STORY)
        self.say(daemon, "two", OTHER)  # one's is in memory by now; two's is saved by the end itself
        self.assertEqual(self.metric(daemon, "llm_manager_states_bytes", place="disk"), 0)
        shared = set(pathlib.Path("/dev/shm").glob("llm-manager-*"))
        self.assertEqual(daemon.stop(), [])
        self.assertEqual(len(list((daemon.data / "states").glob("*.slot"))), 2)
        self.assertEqual(len(shared - set(pathlib.Path("/dev/shm").glob("llm-manager-*"))), 1, "memory is given back")
        daemon.start()
        text, cached, _ = self.say(daemon, "one", STORY)
        self.assertEqual(text, expected)
        self.assertGreaterEqual(cached, prompt - 1)
        self.assertGreater(self.say(daemon, "two", OTHER)[1], 64)

    def test_without_a_disk_the_end_of_the_daemon_is_the_end(self):
        daemon = self.begin()
        self.say(daemon, "one", STORY)
        self.say(daemon, "two", "Hello")
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(self.say(daemon, "one", STORY)[1], 0)

    def test_kill_9_of_a_worker_after_a_checkpoint(self):
        daemon = self.begin(config("{memory: 1GB, disk: 0, checkpoint_idle: 50ms}"))
        expected, prompt = self.say_twice(daemon, "one", STORY)
        self.wait_saved(daemon, 1)
        events = daemon.events()
        daemon.worker("one").kill()
        events.wait("state", model="one", detail="failed")
        text, cached, _ = self.say(daemon, "one", STORY)
        self.assertEqual(text, expected)
        self.assertGreaterEqual(cached, prompt - 1)

    def test_kill_9_of_the_daemon_after_a_checkpoint(self):
        daemon = self.begin(config("{memory: 1GB, disk: 1GB, checkpoint_idle: 50ms}"))
        expected, prompt = self.say_twice(daemon, "one", STORY)
        self.wait_saved(daemon, 1)
        daemon.kill()
        daemon.start()
        text, cached, _ = self.say(daemon, "one", STORY)
        self.assertEqual(text, expected)
        self.assertGreaterEqual(cached, prompt - 1)

    def test_inspect_says_whether(self):
        daemon = self.begin()
        found = daemon.post("/api/v1/models/inspect", {"model": "one"}).json()
        self.assertTrue(found["conversations"]["kept"], found)
        embed = daemon.post("/api/v1/models/inspect", {"path": str(model_file("models-test", "tiny-embed.gguf"))}).json()
        self.assertFalse(embed["conversations"]["kept"], embed)
        self.assertIn("none", embed["conversations"]["why"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
