"""Answers that make way for another model's turn and are continued afterwards: one answer for the client, whatever happened."""
import json
import unittest

from daemon import DaemonTest, InBackground, fake_model, program, said
from real_engine_test import model_file

SCHEDULING = "scheduling: {quantum_min: 200ms, quantum_factor: 0, drain: 100ms}\n"
ONE_AT_A_TIME = f"residency: {{max_loaded: 1}}\n{SCHEDULING}"


def chunks(events):
    return [json.loads(e.data) for e in events if e.data.startswith("{")]


class WithFakes(DaemonTest):
    def begin(self, config=ONE_AT_A_TIME, **more):
        return self.start({"alpha": fake_model(tokens=120, token_ms=20), "beta": fake_model(say="from beta", tokens=2, **more)}, config=config)

    def interrupt(self, daemon, log, **question):
        """A long answer of alpha that beta's request has just broken off."""
        stream = daemon.chat_stream("alpha", **question)
        events = [stream.event() for _ in range(5)]
        other = InBackground(daemon.chat, "beta")
        log.wait("state", model="alpha", detail="stopping")
        return stream, events, other

    def test_one_answer_without_a_seam(self):
        daemon = self.begin()
        log = daemon.events()
        whole = [f"w{i}" for i in range(120)]
        stream, events, other = self.interrupt(daemon, log)
        self.assertEqual(other.result().json()["choices"][0]["message"]["content"], "from beta")
        self.assertEqual(log.loads("beta"), 1)
        events += stream.events()
        self.assertEqual(said(events).split(), whole)
        got = chunks(events)
        self.assertEqual(sum("role" in c["choices"][0]["delta"] for c in got), 1)
        self.assertEqual([c["choices"][0]["finish_reason"] for c in got if c["choices"][0]["finish_reason"]], ["stop"])
        self.assertEqual(got[-1]["usage"], {"prompt_tokens": 1, "completion_tokens": 120, "total_tokens": 121})
        self.assertEqual([e.data for e in events].count("[DONE]"), 1)
        self.assertEqual(events[-1].data, "[DONE]")
        self.assertEqual(log.loads("alpha"), 2)
        # The engine was asked for the rest, and for no more tokens than were left.
        last = json.loads(daemon.worker("alpha").last()["body"])
        self.assertTrue(last["continue_final_message"])
        self.assertEqual(last["messages"][-1]["role"], "assistant")
        self.assertTrue(" ".join(whole).startswith(last["messages"][-1]["content"]))
        self.assertIn("llm_manager_preemptions_total 1", daemon.get("/metrics").body.decode())
        self.assertIn("set aside", daemon.decisions("alpha", "preempt")[0]["why"])

    def test_the_limit_of_tokens_is_that_of_the_whole(self):
        daemon = self.begin()
        stream, events, other = self.interrupt(daemon, daemon.events(), max_tokens=80)
        events += stream.events()
        self.assertEqual(said(events).split(), [f"w{i}" for i in range(80)])
        self.assertEqual(other.result().status, 200)

    def test_two_models_with_long_answers_take_turns(self):
        daemon = self.start({name: fake_model(tokens=100, token_ms=20) for name in ("alpha", "beta")}, config=ONE_AT_A_TIME)
        log = daemon.events()
        streams = [daemon.chat_stream(name) for name in ("alpha", "beta")]
        answers = [InBackground(s.events) for s in streams]
        for answer in answers:
            events = answer.result()
            self.assertEqual(said(events).split(), [f"w{i}" for i in range(100)])
            self.assertEqual(len({c["id"] for c in chunks(events)}), 1)
        self.assertGreaterEqual(log.loads("alpha") + log.loads("beta"), 4)

    def test_what_cannot_be_continued_is_waited_for(self):
        daemon = self.begin()
        log = daemon.events()
        for more in ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"n": 2}, {"logprobs": True},
                     {"response_format": {"type": "json_object"}}):
            stream = daemon.chat_stream("alpha", fake_tokens=40, **more)
            events = [stream.event() for _ in range(3)]
            other = InBackground(daemon.chat, "beta")
            events += stream.events()
            self.assertEqual(len(said(events).split()), 40, more)
            self.assertEqual(other.result().status, 200)
        self.assertEqual(daemon.decisions("alpha", "preempt"), [])

    def test_a_client_that_leaves_while_it_waits(self):
        daemon = self.begin()
        log = daemon.events()
        stream, _, other = self.interrupt(daemon, log)
        stream.close()
        self.assertEqual(other.result().status, 200)
        # Nobody wants alpha any more: it is not loaded for a client that is gone.
        self.assertEqual(daemon.chat("beta").status, 200)
        self.assertEqual(log.loads("alpha"), 1)

    def end_of(self, stream):
        events = stream.events()
        self.assertFalse(stream.cut)
        return json.loads([e for e in events if e.data][-1].data)["error"]

    def test_a_hold_while_it_waits(self):
        daemon = self.begin()
        stream, _, _ = self.interrupt(daemon, daemon.events())
        daemon.unload("alpha", hold=True)
        self.assertEqual(self.end_of(stream)["code"], "model_held")

    def test_a_shutdown_while_it_waits(self):
        daemon = self.begin(stage_ms=300)
        stream, _, _ = self.interrupt(daemon, daemon.events())
        daemon.signal(15)
        self.assertEqual(self.end_of(stream)["code"], "shutting_down")

    def test_its_model_cannot_be_loaded_again(self):
        daemon = self.begin(stage_ms=300)
        stream, _, other = self.interrupt(daemon, daemon.events())
        daemon.write_model("alpha", fake_model(fail="weights"))
        self.assertEqual(self.end_of(stream)["type"], "server_error")
        self.assertEqual(other.result().status, 200)


class WithTheEngine(DaemonTest):
    """TinyLlama answers slowly enough to be broken off anywhere."""

    def begin(self):
        names = {"chat": model_file("models", "*tinyllama*.gguf"), "other": model_file("models-test", "tiny-chat.gguf")}
        models = ", ".join(f"{name}: {{model_path: {file}, max_length: 1024, parallel: 1}}" for name, file in names.items())
        return self.start(config=f"models: {{{models}}}\nresidency: {{mode: fit, max_loaded: 1}}\n{SCHEDULING}",
                          worker=program("LLM_MANAGER_REAL_WORKER"))

    def test_the_text_is_that_of_an_undisturbed_answer(self):
        daemon = self.begin()
        log = daemon.events()
        question = dict(text="Explain in detail how a lighthouse works.", temperature=0, max_tokens=150,
                        stream_options={"include_usage": True})
        daemon.load("other")  # what it takes is known from now on
        daemon.chat("chat", question["text"], max_tokens=1)
        undisturbed = daemon.chat_stream("chat", **question).events()
        stream = daemon.chat_stream("chat", **question)
        events = [stream.event() for _ in range(15)]
        other = InBackground(daemon.chat, "other", max_tokens=4)
        events += stream.events()
        self.assertEqual(other.result().status, 200)
        self.assertEqual(len(daemon.decisions("chat", "preempt")), 1)
        self.assertEqual((log.loads("chat"), log.loads("other")), (2, 2))
        self.assertEqual(said(events), said(undisturbed))

        got, expected = chunks(events), chunks(undisturbed)
        self.assertEqual(len({c["id"] for c in got}), 1)
        answers = [c["choices"][0] for c in got if c["choices"]]
        self.assertEqual(sum("role" in c["delta"] for c in answers), 1)
        self.assertEqual([c["finish_reason"] for c in answers if c["finish_reason"]], ["length"])
        usages = [[c["usage"] for c in stream if c.get("usage")] for stream in (got, expected)]
        self.assertEqual(len(usages[0]), 1)
        for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.assertEqual(usages[0][0][key], usages[1][0][key], key)
        self.assertEqual(got[-1]["timings"]["predicted_n"], 150)
        self.assertGreater(got[-1]["timings"]["cache_n"], 28, "the conversation was put back, not read again")


if __name__ == "__main__":
    unittest.main()
