"""The daemon with the real llm-worker and real models: the way of a user's request, and what the ledger says of it.

Models lie where scripts/bootstrap puts them: the default chat model, and the random ones of tests (--test-models).
"""
import json
import math
import os
import pathlib
import signal
import unittest

import gguf
from daemon import DaemonTest, InBackground, alive, program, said, status_of, wait_gone

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llm-manager"
QUESTION = "What is the capital of France?"


def model_file(kind, pattern):
    """Fails with a sentence where the model is not there: skipping would hide it."""
    found = sorted((CACHE / kind).glob(pattern))
    if not found:
        raise AssertionError(f"no {pattern} in {CACHE / kind}: run scripts/bootstrap --test-models")
    return found[0]


class RealEngine(DaemonTest):
    def start_real(self, *files, config=""):
        daemon = self.make(config=config, worker=program("LLM_MANAGER_REAL_WORKER"))
        for file in files:
            (daemon.models / file.name).symlink_to(file)
        return daemon.start()

    def tiny(self, *names, config="models: {}\n"):
        return self.start_real(*(model_file("models-test", f"{n}.gguf") for n in names), config=config)


class TinyLlama(RealEngine):
    def setUp(self):
        super().setUp()
        file = model_file("models", "*tinyllama*.gguf")
        self.name = file.stem
        self.daemon = self.start_real(file)

    def test_paris_and_what_the_unload_brings_back(self):
        daemon = self.daemon
        answer = daemon.chat(self.name, QUESTION, temperature=0, max_tokens=24)
        self.assertEqual(answer.status, 200, answer)
        self.assertIn("Paris", answer.json()["choices"][0]["message"]["content"])
        self.assertEqual(answer.json()["model"], self.name)

        stream = daemon.chat_stream(self.name, QUESTION, temperature=0, max_tokens=24)
        events = stream.events()
        self.assertIn("Paris", said(events))
        self.assertEqual(events[-1].data, "[DONE]")
        self.assertGreater(len(events), 5)

        # The same without a name, and by the role.
        for name in ("chat", "local_default", f"local/{self.name}", self.name.upper()):
            answer = daemon.chat(name, "Hi", max_tokens=1)
            self.assertEqual(answer.status, 200, answer)

        anthropic = daemon.post("/v1/messages", daemon.question(self.name, QUESTION, temperature=0, max_tokens=24))
        self.assertEqual(anthropic.status, 200, anthropic)
        self.assertIn("Paris", anthropic.json()["content"][0]["text"])
        response = daemon.post("/v1/responses", {"model": self.name, "input": QUESTION, "temperature": 0,
                                                 "max_output_tokens": 24})
        self.assertEqual(response.status, 200, response)
        self.assertIn("Paris", response.body.decode())
        completion = daemon.post("/v1/completions", {"model": self.name, "prompt": "Paris is the capital of",
                                                     "temperature": 0, "max_tokens": 4})
        self.assertTrue(completion.json()["choices"][0]["text"])

        # What the process holds, by the kernel, against what is reported of its end.
        worker = daemon.worker(self.name)
        before, reclaimable = worker.held(), status_of(worker.pid)["RssFile"]
        release = daemon.unload(self.name).json()["release"]
        self.assertFalse(alive(worker.pid))
        self.assert_close(release["before"], before, 0.02)
        self.assert_close(release["freed"], before, 0.02)
        self.assertEqual(release["after"], 0)
        self.assertTrue(release["proved"])
        self.assert_close(release["reclaimable"], reclaimable, 0.02)

    def test_a_schema_binds_the_answer(self):
        schema = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
                  "required": ["city"], "additionalProperties": False}
        answer = self.daemon.chat(self.name, QUESTION + " Answer as JSON.", temperature=0, max_tokens=40,
                                  response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
        self.assertEqual(answer.status, 200, answer)
        content = json.loads(answer.json()["choices"][0]["message"]["content"])
        self.assertIn(content["city"], ("Paris", "Rome"))

    def test_kill_9_in_the_middle_of_a_stream_and_again(self):
        daemon = self.daemon
        stream = daemon.chat_stream(self.name, "Tell me a long story.", max_tokens=1000, temperature=0)
        for _ in range(4):
            self.assertIsNotNone(stream.event())
        worker = daemon.worker(self.name)
        worker.kill()
        events = stream.events()
        self.assertEqual(sum('"error"' in e.data for e in events), 1, events[-2:])
        self.assertEqual(events[-1].json()["error"]["code"], "worker_died")
        self.assertFalse(stream.cut)
        self.assertEqual(wait_gone([worker.pid], 2), [])
        again = daemon.chat(self.name, QUESTION, temperature=0, max_tokens=24)
        self.assertIn("Paris", again.json()["choices"][0]["message"]["content"])

    def test_a_client_that_leaves_frees_its_slot(self):
        daemon = self.daemon
        daemon.load(self.name)
        slots = daemon.model(self.name)["instance"]["slots"]
        streams = [daemon.chat_stream(self.name, "Tell me a long story.", max_tokens=2000, ignore_eos=True)
                   for _ in range(slots)]
        for stream in streams:
            self.assertIsNotNone(stream.event())
        waiting = daemon.chat_stream(self.name, "Hi", max_tokens=1)
        streams[0].close()
        self.assertEqual(waiting.event() is not None, True)
        for stream in streams:
            stream.close()
        waiting.close()

    def test_a_restart_uses_the_learned_footprint(self):
        daemon = self.daemon
        self.assertEqual(daemon.load(self.name).status, 200)
        first = daemon.decisions(self.name, "load")[0]
        self.assertIn("predicted", first["why"])
        footprint = daemon.model(self.name)["footprint"]
        self.assertEqual(footprint["source"], "measured")
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(daemon.load(self.name).status, 200)
        again = daemon.decisions(self.name, "load")[0]
        self.assertIn("measured", again["why"])
        self.assert_close(sum(daemon.model(self.name)["instance"]["reserved"].values()), footprint["total"], 0.1)


TOOL_TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call functions:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
For each call return within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}{% for message in messages %}{% if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}{% if message.tool_calls %}{% for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class TinyModels(RealEngine):
    def test_tools_reach_the_models_template(self):
        model = gguf.Model(model_file("models-test", "tiny-chat.gguf").read_bytes())
        model.set_text("tokenizer.chat_template", TOOL_TEMPLATE)
        daemon = self.start_real()
        (daemon.models / "tools.gguf").write_bytes(model.bytes())
        daemon.signal(signal.SIGHUP)
        daemon.events(last_id=0).wait("config")
        tool = {"type": "function", "function": {"name": "tell_city", "description": "Tells a city", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
        plain = daemon.chat("tools", QUESTION, max_tokens=2)
        self.assertEqual(plain.status, 200, plain)
        with_tool = daemon.chat("tools", QUESTION, max_tokens=2, tools=[tool])
        self.assertEqual(with_tool.status, 200, with_tool)
        said_more = with_tool.json()["usage"]["prompt_tokens"] - plain.json()["usage"]["prompt_tokens"]
        self.assertGreater(said_more, 40, "the tool is not in the prompt")
        call = {"id": "c1", "type": "function", "function": {"name": "tell_city", "arguments": json.dumps({"city": "Paris"})}}
        history = daemon.post("/v1/chat/completions", {"model": "tools", "max_tokens": 2, "tools": [tool], "messages": [
            {"role": "user", "content": QUESTION}, {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Paris"}]})
        self.assertEqual(history.status, 200, history)
        self.assertGreater(history.json()["usage"]["prompt_tokens"], with_tool.json()["usage"]["prompt_tokens"])
        # A tool that is none is the engine's refusal, and nothing worse.
        self.assertIn("error", daemon.chat("tools", QUESTION, tools=[{"type": "function"}]).json())
        self.assertEqual(daemon.chat("tools", QUESTION, max_tokens=2).status, 200)

    def test_embeddings_and_rerank(self):
        daemon = self.tiny("tiny-embed", "tiny-rerank", "tiny-chat")
        answer = daemon.post("/v1/embeddings", {"model": "tiny-embed", "input": ["a sentence", "another", "a sentence"]})
        self.assertEqual(answer.status, 200, answer)
        vectors = [d["embedding"] for d in answer.json()["data"]]
        self.assertEqual([len(v) for v in vectors], [64] * 3)
        self.assertAlmostEqual(math.sqrt(sum(x * x for x in vectors[0])), 1, places=3)
        self.assertEqual(vectors[0], vectors[2])
        self.assertNotEqual(vectors[0], vectors[1])
        ranked = daemon.post("/v1/rerank", {"model": "tiny-rerank", "query": "what", "documents": ["one", "two", "three"]})
        self.assertEqual(ranked.status, 200, ranked)
        self.assertEqual(sorted(r["index"] for r in ranked.json()["results"]), [0, 1, 2])
        # What a model cannot do is the engine's refusal, not a crash.
        self.assertGreaterEqual(daemon.chat("tiny-embed").status, 400)
        self.assertEqual(daemon.chat("tiny-chat", max_tokens=2).status, 200)
        self.assertEqual(daemon.model("tiny-embed")["state"], "ready")

    def test_a_file_tells_the_kind_that_its_name_does_not(self):
        embed = model_file("models-test", "tiny-embed.gguf")
        daemon = self.make(config="models: {chat-as-said: {model_path: notes.gguf, kind: generation}}\n",
                           worker=program("LLM_MANAGER_REAL_WORKER"))
        for name in ("notes", "loaded", "asked"):
            (daemon.models / f"{name}.gguf").write_bytes(embed.read_bytes())
        daemon.start()

        def kinds():
            return {m["id"]: m["kind"] for m in daemon.get("/api/v1/models").json()["models"]}
        self.assertEqual(kinds(), {"chat-as-said": "generation", "loaded": "generation", "asked": "generation"})
        # Who asks for vectors gets them: its file was looked into before it was refused.
        vector = daemon.post("/v1/embeddings", {"model": "asked", "input": "a sentence"})
        self.assertEqual(vector.status, 200, vector)
        self.assertEqual(kinds()["asked"], "embedding")
        # Who chats with one that nobody looked into is told before anything is loaded for it.
        answer = daemon.chat("loaded")
        self.assertEqual((answer.status, answer.error()["code"]), (400, "wrong_model_kind"), answer)
        self.assertEqual(kinds()["loaded"], "embedding")
        self.assertEqual(daemon.model("loaded")["state"], "unloaded")
        self.assertEqual(daemon.load("loaded").json()["kind"], "embedding")
        self.assertEqual(daemon.model("loaded")["instance"]["capabilities"], ["embedding"])
        # The configuration's word stands.
        self.assertEqual(daemon.post("/api/v1/models/inspect", {"model": "chat-as-said"}).json()["kind"], "embedding")
        self.assertEqual(kinds()["chat-as-said"], "generation")
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "chat-as-said", "input": "x"}).error()["code"], "wrong_model_kind")

        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(kinds(), {"chat-as-said": "generation", "loaded": "embedding", "asked": "embedding"})
        # Another file by the same name is another model.
        (daemon.models / "asked.gguf").unlink()
        (daemon.models / "asked.gguf").write_bytes(model_file("models-test", "tiny-chat.gguf").read_bytes())
        daemon.signal(signal.SIGHUP)
        daemon.events(last_id=0).wait("config")
        self.assertEqual(kinds()["asked"], "generation")
        self.assertEqual(daemon.chat("asked", max_tokens=1).status, 200)

    def test_an_inspection_and_a_load_by_name_tell_the_kind_too(self):
        embed = model_file("models-test", "tiny-embed.gguf").read_bytes()
        daemon = self.make(config="models: {}\n", worker=program("LLM_MANAGER_REAL_WORKER"))
        for name in ("seen", "fetched"):
            (daemon.models / f"{name}.gguf").write_bytes(embed)
        daemon.start()
        self.assertEqual(daemon.post("/api/v1/models/inspect", {"path": str(daemon.models / "seen.gguf")}).status, 200)
        self.assertEqual(daemon.model("seen")["kind"], "embedding")
        loaded = daemon.load("fetched")
        self.assertEqual((loaded.status, loaded.json().get("kind")), (200, "embedding"), loaded)
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "fetched", "input": "x"}).status, 200)

    def test_who_asks_again_at_once_is_answered(self):
        """The engine's server closes its connection after each stream, and does not say so before."""
        daemon = self.tiny("tiny-chat")
        failed = []

        def loop():
            for _ in range(100):
                stream = daemon.chat_stream("tiny-chat", "Go on.", max_tokens=2)
                if stream.status != 200 or stream.events()[-1].data != "[DONE]":
                    failed.append(stream.status)

        daemon.load("tiny-chat")
        loopers = [InBackground(loop) for _ in range(4)]
        for looper in loopers:
            looper.result()
        self.assertEqual(failed, [])

    def test_two_models_take_turns(self):
        daemon = self.tiny("tiny-chat", "tiny-chat-2", config="residency: {max_loaded: 1}\n")
        log = daemon.events()
        texts = {}
        for _ in range(3):
            for name in ("tiny-chat", "tiny-chat-2"):
                answer = daemon.chat(name, "Hello", temperature=0, max_tokens=8)
                self.assertEqual(answer.status, 200, answer)
                text = answer.json()["choices"][0]["message"]["content"]
                self.assertEqual(texts.setdefault(name, text), text, "another life of the same model says something else")
                ready = [m["id"] for m in daemon.get("/api/v1/models").json()["models"] if m["state"] == "ready"]
                self.assertEqual(ready, [name])
        self.assertEqual(log.loads("tiny-chat") + log.loads("tiny-chat-2"), 6)
        self.assertLessEqual(len(daemon.workers()), 2, "the loaded one and the standby")

    def test_an_inspection_and_a_refusal(self):
        daemon = self.tiny("tiny-chat")
        found = daemon.post("/api/v1/models/inspect", {"model": "tiny-chat"}).json()
        self.assertEqual((found["architecture"], found["layers"], found["context_train"]), ("llama", 2, 2048))
        self.assertGreater(found["predicted_total"], found["size"] // 2)
        (daemon.models / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
        broken = daemon.post("/api/v1/models/inspect", {"path": str(daemon.models / "broken.gguf")})
        self.assertEqual((broken.status, broken.error()["code"]), (400, "invalid_artifact"), broken)

    def test_the_configurations_word_reaches_the_engine(self):
        file = model_file("models-test", "tiny-chat.gguf")
        daemon = self.start_real(config=f"models: {{small: {{model_path: {file}, max_length: 512, parallel: 2}}}}\n")
        self.assertEqual(daemon.load("small").status, 200)
        instance = daemon.model("small")["instance"]
        self.assertEqual((instance["context"], instance["slots"]), (512, 2))

    def test_a_load_that_is_given_up_leaves_nothing(self):
        file = model_file("models-test", "switch-a.gguf")
        daemon = self.start_real(file)
        log = daemon.events()
        stream = daemon.chat_stream("switch-a")
        log.wait("state", model="switch-a", detail="loading")
        pids = daemon.workers()
        stream.close()
        gone = log.wait("state", model="switch-a", limit_s=20, detail="absent")
        self.assertEqual(gone["cause"], "unwanted")
        self.assertLessEqual(len([p for p in pids if alive(p)]), 1, "the new standby at most")
        self.assertEqual(daemon.get("/api/v1/devices").json()["devices"][0]["reserved"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
