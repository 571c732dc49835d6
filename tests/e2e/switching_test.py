"""One machine, three families: local models (the fake worker's), an Ollama that is the stand-in, and OpenAI-compatible
servers here and elsewhere take turns with its memory. LLM_MANAGER_SWITCH_ROUNDS: of the traffic, 20 without it."""
import contextlib
import os
import random
import re
import signal
import threading
import time
import unittest

from daemon import (DaemonTest, InBackground, SANITIZED, Stream, alive, fake_model, held_bytes, program, said, status_of, wait_gone)
from real_engine_test import model_file
from upstreams import FakeOllama, LlamaRouter, children_of, free_port

ROUNDS = int(os.environ.get("LLM_MANAGER_SWITCH_ROUNDS", 5 if SANITIZED else 20))
QWEN, TINY = "qwen-a,memory=96M,family=qwen3,rate=2000,load=0.01", "tinyllama,memory=64M,rate=2000,load=0.01"
EMBED = "nomic,memory=24M,kind=embedding,family=bert,context=512"
MODELS = """
models: {{llm: {{model_path: alpha}}, embedding: {{model_path: my-embed}}}}
ollama: {{url: "{ollama}"}}
residency: {{linger: 1s}}
locale: zh-CN
"""
GIB = 1 << 30


class SwitchingTest(DaemonTest):
    def upstream(self, server):
        self.addCleanup(server.stop)
        return server.start()

    def families(self, more="", **llm):
        """A daemon with `llm` for the three roles, an embedding model, and an Ollama: both."""
        self.ollama = self.upstream(FakeOllama(QWEN, TINY, EMBED))
        models = {"alpha": fake_model(**{"memory_mb": 80, "tokens": 3, **llm}),
                  "my-embed": fake_model(kind="embedding", memory_mb=16)}
        self.daemon = self.make(models, MODELS.format(ollama=self.ollama.url) + more).start()
        self.log = self.daemon.events()
        return self.daemon

    def switch(self, model, **more):
        return self.daemon.post("/api/v1/switch", {"model": model, **more})

    def switched(self, model):
        answer = self.switch(model)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()

    def ok(self, model, text="Hello"):
        answer = self.daemon.chat(model, text)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["choices"][0]["message"]["content"]

    def selected(self):
        now = self.daemon.get("/api/v1/switch").json()
        return now["family"], now["model"], now["remote"]

    def listed_upstream(self, name):
        return next(u for u in self.daemon.get("/api/v1/upstreams").json()["upstreams"] if u["id"] == name)

    def wait_reachable(self):
        """It is looked at every second or so: no event tells of it."""
        deadline = time.monotonic() + 60
        while not self.listed_upstream("ollama")["reachable"]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def lines(self, since=0):
        """What the log says to people, from the line `since` on: level and text."""
        return re.findall(r"^\S+ \S+ \[(\w+)\] (.*)$", self.daemon.errors(), re.M)[since:]

    def switches(self, stage, since=0):
        return self.log.all("switch", since, stage=stage)


class AllThree(SwitchingTest):
    def test_around_and_back_with_numbers_that_are_true(self):
        self.cloud = self.upstream(FakeOllama("gpt,memory=8M,load=0"))
        daemon = self.families(f'providers: {{cloud: {{base_url: "{self.cloud.url}/v1", location: remote}}}}\n')
        self.ok("chat")
        worker = daemon.worker("llm")
        held = worker.held()

        to_ollama = self.switched("ollama_qwen-a")
        self.assertEqual(to_ollama["state"], "ready")
        release = to_ollama["switch"]["release"]
        self.assertTrue(release["proved"])
        self.assert_close(release["before"], held, 0.02)
        self.assert_close(release["freed"], held, 0.02)
        self.assertEqual((release["after"], release["residual"], release["holders"]), (0, 0, []))
        self.assertEqual([r["model"] for r in to_ollama["switch"]["released"]], ["llm"])
        self.assertFalse(alive(worker.pid))
        self.assertEqual(self.selected(), ("ollama", "ollama_qwen-a:latest", False))
        self.assertEqual([m["name"] for m in self.ollama.told()["ps"]], ["qwen-a:latest"])
        self.ok("qwen-a")
        held = self.ollama.held()
        self.assertGreater(held, 96 << 20)

        to_local = self.switched("chat")
        release = to_local["switch"]["release"]
        self.assertTrue(release["proved"])
        self.assert_close(release["before"], held, 0.02)
        self.assert_close(release["freed"], held, 0.02)
        self.assertEqual(release["residual"], 0)
        self.assertEqual(children_of(self.ollama.pid), [])
        self.assertEqual(daemon.model("llm")["state"], "ready")

        worker = daemon.worker("llm")
        held = worker.held()
        to_cloud = self.switched("cloud/gpt:latest")
        self.assert_close(to_cloud["switch"]["release"]["freed"], held, 0.02)
        self.assertFalse(alive(worker.pid))
        self.assertEqual(self.selected()[2], True)
        self.ok("cloud/gpt:latest")

        back = self.switched("llm")
        self.assertIsNone(back["switch"]["release"], "nothing of the devices was anybody's")
        self.ok("chat")
        self.assertEqual([(s["from"], s["to"]) for s in daemon.get("/api/v1/switches").json()["switches"][::-1]][-4:],
                         [("local", "ollama"), ("ollama", "local"), ("local", "openai"), ("openai", "local")])

    def test_a_real_llama_server_here_and_elsewhere(self):
        # With a model that is too large to be taken for the server's own memory.
        chat = model_file("models", "*tinyllama*.gguf")
        # One process of it is a provider on this machine, which takes turns, another stands for one elsewhere.
        here = self.upstream(LlamaRouter(chat))
        cloud = self.upstream(LlamaRouter(model_file("models-test", "tiny-chat-2.gguf")))
        daemon = self.families(f"""providers:
  here: {{base_url: "{here.url}/v1", location: local}}
  cloud: {{base_url: "{cloud.url}/v1", location: remote}}
""")
        question = {"max_tokens": 4, "temperature": 0}
        self.ok("llm")
        self.ok("ollama_qwen-a")
        self.ok("llm")
        worker = daemon.worker("llm")
        held = worker.held()
        answer = daemon.chat(f"here/{chat.stem}", "Hello", **question)
        self.assertEqual(answer.status, 200, answer)
        self.assertFalse(alive(worker.pid))
        self.assertEqual(len(here.children()), 1)
        done = self.log.wait("switch", stage="done", to="openai")
        self.assert_close(done["release"]["freed"], held, 0.02)

        held, children = here.held(), here.children()
        self.ok("llm")
        self.assertEqual(wait_gone(children, 0), [])
        done = self.switches("done")[-1]
        self.assertEqual((done["from"], done["to"], done["release"]["proved"]), ("openai", "local", True))
        self.assert_close(done["release"]["freed"], held, 0.02)

        # What is elsewhere is answered beside a local model that answers too.
        stream = daemon.chat_stream("llm", fake_tokens=500, fake_token_ms=2)
        stream.event()
        answer = daemon.chat("cloud/tiny-chat-2", "Hello", **question)
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(daemon.model("llm")["state"], "ready")
        self.assertEqual(said(stream.events()).split()[-1], "w499")
        self.assertTrue(alive(here.pid) and alive(cloud.pid))

    def test_the_log_is_the_requirements(self):
        self.families()
        self.ok("chat")
        began = len(self.lines())
        self.switched("ollama_qwen-a")
        gb = r"\d+\.\d\d GB"
        self.assert_lines(self.lines(began), [
            r"模型切换: local -> ollama", r"卸载本地LLM模型以释放内存资源", r"开始卸载本地LLM模型\.\.\.",
            r"chat_engine模型已卸载", r"knowledge_engine模型已卸载", r"translation_engine模型已卸载",
            f"卸载前内存占用: {gb}", f"卸载后内存占用: {gb}", f"释放内存: {gb}", r"内存缓存已清理",
            r"本地LLM模型卸载完成"])
        began = len(self.lines())
        self.switched("llm")
        self.assert_lines(self.lines(began), [
            r"模型切换: ollama -> local", r"卸载Ollama模型以释放内存资源", r"开始卸载Ollama模型\.\.\.",
            r"ollama模型已卸载", f"卸载前内存占用: {gb}", f"卸载后内存占用: {gb}", f"释放内存: {gb}",
            r"内存缓存已清理", r"Ollama模型卸载完成",
            r"重新加载本地LLM模型", r"开始重新加载本地LLM模型\.\.\.", r"本地LLM模型重新加载成功"])
        self.switched("ollama_qwen-a")
        # Where Ollama has let go by itself there is nothing to tell of it: the requirements' second sequence.
        mark = self.log.mark()
        self.ollama.ask("POST", "/api/generate", {"model": "qwen-a", "keep_alive": 0})
        self.log.wait("state", model="ollama", since=mark, detail="absent", cause="expired")
        began = len(self.lines())
        self.switched("llm")
        self.assert_lines(self.lines(began), [
            r"模型切换: ollama -> local", r"重新加载本地LLM模型", r"开始重新加载本地LLM模型\.\.\.",
            r"本地LLM模型重新加载成功"])
        began = len(self.lines())
        self.assertFalse(self.switched("llm")["changed"])
        self.assert_lines(self.lines(began), [r"本地模型已经加载，无需重新加载"])

    def assert_lines(self, lines, patterns):
        self.assertEqual(len(lines), len(patterns), lines)
        for (level, text), pattern in zip(lines, patterns):
            self.assertEqual(level, "INFO", text)
            self.assertRegex(text, f"^{pattern}$")

    def test_the_log_tells_the_bytes_of_the_report(self):
        self.families(memory_mb=300)
        self.ok("chat")
        release = self.switched("ollama_qwen-a")["switch"]["release"]
        self.assertIn(("INFO", f"释放内存: {release['freed'] / GIB:.2f} GB"), self.lines())
        self.assertGreaterEqual(release["freed"], 300 << 20)


class NoSwitch(SwitchingTest):
    def test_retrieval_beside_the_other_family(self):
        daemon = self.families()
        self.ok("ollama_qwen-a")
        mark = self.log.mark()
        for _ in range(3):  # a local embedding model beside Ollama's chat model
            self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "x"}).status, 200)
            self.ok("qwen-a")
        self.assertEqual(daemon.model("embedding")["state"], "ready")
        self.ok("llm")
        changes = self.switches("began", mark)
        self.assertEqual([(s["from"], s["to"]) for s in changes], [("ollama", "local")])
        self.assertEqual(daemon.model("embedding")["state"], "ready", "it stays through a switch")
        mark = self.log.mark()
        for _ in range(3):  # and Ollama's beside the local one
            self.assertEqual(daemon.post("/v1/embeddings", {"model": "ollama_nomic", "input": "x"}).status, 200)
            self.ok("llm")
        self.log.sync()
        self.assertEqual(self.switches("began", mark), [])
        self.assertEqual([m["name"] for m in self.ollama.told()["ps"]], ["nomic:latest"])
        self.assertEqual(self.log.loads("llm"), 1)

    def test_choosing_what_is_active_does_nothing(self):
        daemon = self.families()
        self.ok("llm")
        pid, mark = daemon.worker("llm").pid, self.log.mark()
        for name in ("llm", "chat", "local/llm"):
            answer = self.switched(name)
            self.assertEqual((answer["changed"], answer["switch"], answer["release"]), (False, None, None), name)
        self.assertEqual(daemon.worker("llm").pid, pid)
        self.switched("ollama_qwen-a")
        loads = self.ollama.told()["loads"]
        self.assertFalse(self.switched("qwen-a")["changed"])
        self.assertEqual(self.ollama.told()["loads"], loads)
        self.log.sync()
        self.assertEqual(len(self.switches("began", mark)), 1)
        # Another model of the family is a load there, and no change of families.
        self.assertEqual(self.ok("tinyllama", "What is the capital of France?").count("Paris"), 1)
        self.log.sync()
        self.assertEqual(len(self.switches("began", mark)), 1)

    def test_an_upstreams_answer_that_runs_on_is_cut_and_said(self):
        # Half a second for answers that run on; this one would take minutes.
        slow = "qwen-a,memory=96M,family=qwen3,rate=5,load=0.01"
        self.ollama = self.upstream(FakeOllama(slow))
        self.daemon = self.make({"alpha": fake_model(memory_mb=80, tokens=3)},
                                MODELS.format(ollama=self.ollama.url).replace(", embedding: {model_path: my-embed}", "")
                                + "limits: {drain_evict: 500ms, drain_unload: 500ms}\n").start()
        self.log = self.daemon.events()
        for cause in ("switch", "unload"):
            stream = self.daemon.chat_stream("qwen-a", "Tell me a story without an end.", max_tokens=1000)
            self.assertIsNotNone(stream.event())
            if cause == "switch":
                self.assertTrue(self.switched("llm")["switch"]["release"]["proved"])
            else:
                answer = self.daemon.unload("ollama_qwen-a:latest")
                self.assertEqual(answer.status, 200, answer)
                self.assertTrue(answer.json()["release"]["proved"])
            events = stream.events()
            self.assertEqual(sum('"error"' in e.data for e in events), 1, events[-2:])
            self.assertEqual(events[-1].json()["error"]["code"], "model_unloaded", events[-1].data)
            self.assertTrue(events[-1].json()["error"]["message"].startswith("ollama is being unloaded ("), events[-1].data)
            self.assertFalse(stream.cut)
            self.assertEqual(children_of(self.ollama.pid), [], "its runner still answers whom nobody hears")
        self.ok("llm")

    def test_who_is_unknown_unloads_nobody(self):
        daemon = self.families()
        self.ok("llm")
        pid, mark = daemon.worker("llm").pid, self.log.mark()
        for name in ("ollama_nobody", "nobody", "openai_gpt", "cloud/gpt", "local/nobody"):
            for answer in (self.switch(name), daemon.chat(name)):
                self.assertEqual(answer.status, 404, answer)
        self.log.sync()
        self.assertEqual((daemon.worker("llm").pid, self.switches("began", mark)), (pid, []))

    def test_an_ollama_that_is_not_there(self):
        daemon = self.families()
        self.ok("llm")
        pid = daemon.worker("llm").pid
        self.ollama.stop()
        answer = self.switch("ollama_qwen-a")  # nobody knows it yet
        self.assertIn(answer.status, (502, 503), answer)
        self.assertIn("ollama", answer.error()["message"])
        self.assertEqual(daemon.chat("llm").status, 200)
        # Now it is known; what is listed says why, and choosing it fails at once.
        listed = daemon.model("ollama_qwen-a:latest")
        self.assertEqual(listed["state"], "failed")
        self.assertIn("cannot be reached", str(listed))
        mark, began = self.log.mark(), time.monotonic()
        for answer in (self.switch("ollama_qwen-a"), daemon.chat("qwen-a")):
            self.assertEqual(answer.status, 503, answer)
            self.assertIn("cannot be reached", answer.error()["message"])
        self.assertLess(time.monotonic() - began, 2)
        self.log.sync()
        self.assertEqual(self.switches("began", mark), [])
        self.assertEqual(self.selected()[0], "local")
        self.ok("llm")
        # And back again it can be chosen.
        self.ollama.start()
        self.wait_reachable()
        self.ok("ollama_qwen-a")
        self.assertFalse(alive(pid))


class Elsewhere(SwitchingTest):
    def setUp(self):
        super().setUp()
        self.cloud = self.upstream(FakeOllama("gpt,memory=8M,load=0,rate=5000"))
        self.provider = f'providers: {{cloud: {{base_url: "{self.cloud.url}/v1", location: remote}}}}\n'

    def test_local_lingers_after_a_remote_choice(self):
        daemon = self.families(self.provider)
        self.ok("llm")
        worker = daemon.worker("llm")
        mark = self.log.mark()
        asked = time.monotonic()
        self.ok("cloud/gpt:latest")
        self.assertTrue(alive(worker.pid), "a remote answer waits for no release")
        gone = self.log.wait("state", since=mark, model="llm", detail="absent")
        self.assertGreater(gone["_at"] - asked, 0.8)
        self.assertEqual(gone["cause"], "switched")
        done = self.log.wait("switch", since=mark, stage="done")
        self.assertEqual((done["from"], done["to"], done["to_remote"]), ("local", "openai", True))
        self.assertTrue(done["release"]["proved"])
        # Coming back only loads.
        mark = self.log.mark()
        self.ok("llm")
        back = self.log.wait("switch", since=mark, stage="done")
        self.assertEqual((back["from"], back["to"], back["release"]), ("openai", "local", None))

    def test_a_local_request_within_the_linger_keeps_it(self):
        daemon = self.families(self.provider)
        self.ok("llm")
        pid, mark = daemon.worker("llm").pid, self.log.mark()
        for _ in range(4):  # together twice the linger, never one of it without a local request
            self.ok("cloud/gpt:latest")
            with_local = daemon.chat_stream("llm", fake_tokens=50, fake_token_ms=10)
            self.assertEqual(said(with_local.events()).split()[-1], "w49")
        self.assertEqual(daemon.worker("llm").pid, pid)
        self.log.sync()
        self.assertEqual(self.switches("began", mark), [])
        self.assertEqual(self.log.loads("llm"), 1)

    def test_an_explicit_choice_releases_at_once(self):
        daemon = self.families("")
        daemon.stop()
        daemon.config.write_text(MODELS.format(ollama=self.ollama.url).replace("linger: 1s", "linger: 10min") + self.provider)
        daemon.start()
        self.ok("llm")
        pid = daemon.worker("llm").pid
        release = self.switched("cloud/gpt:latest")["switch"]["release"]
        self.assertTrue(release["proved"])
        self.assertFalse(alive(pid))
        self.assertFalse(self.switched("cloud/gpt:latest")["changed"])


    def test_a_server_of_others_sees_of_a_client_what_inference_needs(self):
        daemon = self.families(self.provider)
        passed = {"Accept": "application/json", "User-Agent": "mine/1.0", "OpenAI-Beta": "assistants=v2",
                  "Anthropic-Version": "2023-06-01", "anthropic-beta": "tools", "Idempotency-Key": "7"}
        kept = {"api-key": "sk-1", "X-Secret": "2", "X-Real-IP": "10.0.0.3", "Via": "1.1 inner",
                "Cookie": "a=b", "OpenAI-Organization": "org-3", "X-Stainless-Lang": "python",
                "traceparent": "00-1-2-01", "Referer": "http://inner/"}
        for model, server in (("cloud/gpt:latest", self.cloud), ("ollama_qwen-a", self.ollama)):
            with self.subTest(model=model):
                answer = daemon.chat(model, headers={**passed, **kept, "Content-Type": "text/plain"})
                self.assertEqual(answer.status, 200, answer)
                head = server.told()["heads"]["/v1/chat/completions"]
                self.assertEqual({name: head.get(name) for name in passed}, passed)
                self.assertEqual({name.lower() for name in head} - {name.lower() for name in passed},
                                 {"host", "content-length", "content-type"})
                self.assertEqual(head["Content-Type"], "application/json")

    def test_a_redirection_is_not_followed_and_said(self):
        daemon = self.families(self.provider)
        self.cloud.lie(status=302, on=["/v1/chat/completions"])
        answer = daemon.chat("cloud/gpt:latest")
        self.assertEqual((answer.status, answer.error()["code"]), (503, "bad_upstream"), answer)
        self.assertIn("it points elsewhere (302", answer.error()["message"])


class Failure(SwitchingTest):
    def test_the_new_family_fails_and_the_old_is_chosen_again(self):
        daemon = self.families()
        self.ok("llm")
        self.ollama.lie(status=500, on=["/api/generate"])
        answer = self.switch("ollama_qwen-a")
        self.assertGreaterEqual(answer.status, 500, answer)
        message = answer.error()["message"]
        self.assertIn("could not load qwen-a", message)
        self.assertIn("local (llm) is selected again", message)
        self.assertEqual(self.selected(), ("local", "llm", False))
        failed = self.switches("failed")[-1]
        self.assertIn("selected again", failed["error"]["message"])
        self.ok("llm")
        self.assertEqual(self.log.loads("llm"), 2)
        levels = [level for level, text in self.lines() if "切换到Ollama模型失败" in text]
        self.assertEqual(levels, ["ERROR"])
        # For a time a request is refused with what went wrong, and costs nobody a model; a choice tries it again.
        answer = daemon.chat("qwen-a")
        self.assertGreaterEqual(answer.status, 500, answer)
        self.assertIn("could not load qwen-a", answer.error()["message"])
        self.assertIn("Retry-After", answer.headers)
        self.assertEqual((daemon.model("llm")["state"], self.log.loads("llm")), ("ready", 2))
        self.ollama.lie()
        self.switched("ollama_qwen-a")
        self.ok("qwen-a")

    def test_the_reload_fails_and_the_next_choice_works(self):
        daemon = self.families()
        self.ok("llm")
        self.switched("ollama_qwen-a")
        daemon.write_model("alpha", fake_model(fail="invalid_artifact"))
        mark = self.log.mark()
        answer = self.switch("llm")
        self.assertGreaterEqual(answer.status, 400, answer)
        self.assertIn("ollama (ollama_qwen-a:latest) is selected again", answer.error()["message"])
        self.log.wait("state", since=mark, model="llm", state="failed")  # once its worker is reaped and measured
        self.assertEqual(daemon.model("llm")["state"], "failed")
        texts = [text for level, text in self.lines() if level == "ERROR"]
        self.assertEqual(texts[0], "本地LLM模型重新加载失败")
        self.assertTrue(texts[1].startswith("重新加载本地模型失败: "), texts)
        self.ok("qwen-a")
        self.assertEqual(self.selected()[:2], ("ollama", "ollama_qwen-a:latest"))

    def test_a_program_that_is_not_there_is_not_a_model_that_is_not_there(self):
        daemon = self.make({}, 'commands: {cmd: {command: ["/nowhere/vllm", "${port}"], models: [tiny]}}\n').start()
        for answer in (daemon.post("/api/v1/switch", {"model": "cmd/tiny"}), daemon.chat("cmd/tiny")):
            self.assertEqual((answer.status, answer.error()["code"]), (503, "command_not_started"), answer)
            self.assertIn("/nowhere/vllm", answer.error()["message"])
        self.assertEqual(daemon.model("cmd/tiny")["state"], "failed")

    def test_what_failed_is_said_once(self):
        self.families()
        self.ok("llm")
        self.ollama.lie(status=500, on=["/api/generate"])
        self.switch("ollama_qwen-a")
        self.assertEqual([level for level, text in self.lines() if "could not load qwen-a" in text], ["ERROR"])

    def test_a_load_that_was_cancelled_is_no_choice(self):
        self.ollama = self.upstream(FakeOllama(QWEN.replace("load=0.01", "load=5")))
        daemon = self.daemon = self.make({"alpha": fake_model(memory_mb=80)}, MODELS.replace(
            ", embedding: {{model_path: my-embed}}", "").format(ollama=self.ollama.url)).start()
        self.log = daemon.events()
        self.ok("llm")
        stream = daemon.chat_stream("qwen-a")
        self.log.wait("switch", stage="loading")
        stream.close()
        self.log.wait("switch", stage="cancelled")
        deadline = time.monotonic() + 30
        while not (told := self.ollama.told())["loads"] or told["ps"]:  # it goes on loading, then it is told to go
            self.assertLess(time.monotonic(), deadline, told)
            time.sleep(0.05)
        self.assertEqual(self.selected()[0], "local")
        self.ok("llm")
        self.log.sync()
        self.assertEqual([s for s in self.switches("done") if s["to"] == "ollama"], [])

    def test_an_ollama_that_has_moved_is_not_asked_for_the_memory_of_the_one_before(self):
        daemon = self.families()
        self.ok("qwen-a")
        held = self.ollama.held()
        self.assertGreater(held, 64 << 20)
        other = FakeOllama(TINY)
        other.port = free_port()  # where nobody listens yet
        daemon.config.write_text(daemon.config.read_text().replace(self.ollama.url, other.url))
        mark = self.log.mark()
        daemon.signal(signal.SIGHUP)
        self.log.wait("config", since=mark)
        self.ok("llm")
        self.assertEqual(self.selected()[:2], ("local", "llm"))
        self.assertAlmostEqual(self.ollama.held(), held, delta=1 << 20, msg="it is somebody else's now")
        self.upstream(other)
        self.wait_reachable()
        self.ok("tinyllama")
        self.assertEqual(self.selected()[0], "ollama")

    def test_a_command_that_dies_is_started_again_however_many_ask(self):
        tiny = model_file("models-test", "tiny-chat.gguf")
        daemon = self.make({}, f"""commands:
  cmd:
    command: ["{program("LLM_MANAGER_LLAMA_SERVER")}", -m, "{tiny}", --port, "${{port}}", -c, "512", --no-webui]
    models: [tiny]
""").start()
        question = {"max_tokens": 2, "temperature": 0}
        self.assertEqual(daemon.chat("cmd/tiny", **question).status, 200)
        [server] = [pid for pid in children_of(daemon.pid) if "llama-server" in os.readlink(f"/proc/{pid}/exe")]
        os.kill(server, signal.SIGKILL)
        # Without a pause: as clients do that try again.
        deadline = time.monotonic() + 20
        while (answer := daemon.chat("cmd/tiny", **question)).status != 200:
            self.assertEqual(answer.status, 503, answer)
            self.assertLess(time.monotonic(), deadline, answer)
        self.assertFalse(alive(server))

    def test_a_model_that_only_the_configuration_knows_is_listed_with_why_it_is_not_there(self):
        daemon = self.make({"alpha": fake_model(memory_mb=16)}, """providers:
  gone: {base_url: "http://127.0.0.1:1/v1", models: [gpt], location: remote}
""").start()
        self.log = daemon.events()
        listed = daemon.model("gone/gpt")
        self.assertEqual((listed["state"], listed["error"]["code"]), ("failed", "upstream_unreachable"), listed)
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.daemon = daemon
        for answer in (self.switch("gone/gpt"), daemon.chat("gone/gpt")):
            self.assertEqual(answer.status, 503, answer)
            self.assertIn("cannot be reached", answer.error()["message"])
        self.assertEqual(daemon.model("alpha")["state"], "ready", "nothing was unloaded for it")
        checks = {c["name"]: c for c in daemon.get("/api/v1/diagnose").json()["checks"]}
        self.assertEqual(checks["upstream gone"]["status"], "warning")

    def test_an_upstream_elsewhere_that_has_just_died_costs_local_nothing(self):
        self.cloud = self.upstream(FakeOllama("gpt,memory=8M,load=0"))
        daemon = self.families(f'providers: {{cloud: {{base_url: "{self.cloud.url}/v1", location: remote}}}}\n')
        self.ok("llm")
        self.ok("cloud/gpt:latest")
        self.ok("llm")
        self.cloud.stop()
        answer = self.switch("cloud/gpt:latest")
        self.assertEqual(answer.status, 503, answer)
        self.assertEqual(daemon.model("llm")["state"], "ready")
        self.assertFalse(self.selected()[2])

    def test_a_kill_between_unload_and_load_leaves_nothing_half_owned(self):
        daemon = self.families()
        self.ok("llm")
        self.ollama.lie(slow_ms=1500, on=["/api/generate"])  # the load is asked for and has not begun
        asked = InBackground(lambda: self.switch("ollama_qwen-a"))
        began = self.log.wait("switch", stage="loading")
        workers = daemon.workers()
        ended = daemon.get("/api/v1/switches").json()["switches"]
        self.assertNotIn(began["id"], [s["id"] for s in ended])
        daemon.kill()
        self.assertRaises(OSError, asked.result)
        self.assertEqual(wait_gone(workers, 10), [], "workers end with their daemon")
        # Nobody is there any more who wanted it, and Ollama loads it all the same.
        deadline = time.monotonic() + 60
        while self.ollama.told()["loads"] == 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.ollama.lie()
        daemon.start()
        self.log = daemon.events()
        switches = {s["id"]: s for s in daemon.get("/api/v1/switches").json()["switches"]}
        cut = switches[began["id"]]
        self.assertEqual((cut["stage"], cut["error"]["code"]), ("interrupted", "daemon_died"))
        self.assertTrue(cut["release"]["proved"], cut)
        self.assertEqual((self.selected()[0], daemon.model("llm")["state"]), ("ollama", "unloaded"))
        self.ok("llm")
        back = daemon.get("/api/v1/switches").json()["switches"][0]
        self.assertEqual((back["to"], back["stage"]), ("local", "done"))
        self.assertGreater(back["id"], max(switches))
        self.assertEqual(daemon.model("llm")["state"], "ready")
        self.assertEqual(children_of(self.ollama.pid), [])
        self.ok("qwen-a")
        self.assertEqual(daemon.model("llm")["state"], "unloaded")
        self.assertEqual(daemon.get("/health").json()["status"], "ok")


class Traffic(SwitchingTest):
    CLIENTS = 8
    RESIDENT = 40 << 20  # more than that is a model, not a process

    def test_rounds_under_traffic(self):
        cloud = self.upstream(FakeOllama("gpt,memory=8M,load=0,rate=5000"))
        daemon = self.families(f'providers: {{cloud: {{base_url: "{cloud.url}/v1", location: remote}}}}\n'
                               "scheduling: {quantum_min: 20ms, quantum_factor: 0}\nlog: {level: warning}\n", echo=1)
        self.log.close()
        names = {"llm": "llm", "ollama": "ollama_qwen-a", "openai": "cloud/gpt:latest"}
        stop, outcomes, both, samples = threading.Event(), [], [], [0]
        lock = threading.Lock()

        def client(number):
            dice = random.Random(number)
            count = 0
            while not stop.is_set():
                count += 1
                mark = f"question-{number}-{count}-end"
                name = dice.choice(list(names.values()))
                streamed = dice.random() < 0.3
                try:
                    if streamed:
                        with contextlib.closing(Stream(daemon.connection(), "/v1/chat/completions",
                                                       daemon.question(name, mark, stream=True))) as stream:
                            events = stream.events()
                        outcome = "ok" if events and events[-1].data == "[DONE]" else \
                            (events[-1].data if events else "nothing")
                    else:
                        answer = daemon.chat(name, mark)
                        outcome = "ok" if answer.status == 200 else answer.error()["message"]
                        if not outcome:
                            outcome = f"no reason: {answer}"
                except Exception as error:  # what must not happen is an outcome too
                    outcome = f"broken: {error!r}"
                with lock:
                    outcomes.append((mark, name, outcome))

        def watch():
            def local():
                return {pid for pid in children_of(daemon.pid) if (held_bytes(pid) or 0) > self.RESIDENT}
            while not stop.wait(0.004):
                before = local()
                theirs = [pid for pid in children_of(self.ollama.pid) if (held_bytes(pid) or 0) > self.RESIDENT]
                after = local()
                samples[0] += 1
                if theirs and before & after:
                    both.append((before & after, theirs))

        def rounds(count):
            refused = 0
            for _ in range(count):
                for target in ("ollama", "llm", "openai", "llm"):
                    answer = self.switch(names[target])
                    if answer.status != 200:  # overtaken by another one's wish is an answer
                        self.assertIn(answer.error()["code"], ("switch_cancelled",), answer)
                        refused += 1
            return refused

        threads = [threading.Thread(target=client, args=[n], daemon=True) for n in range(self.CLIENTS)]
        threads.append(threading.Thread(target=watch, daemon=True))
        try:
            for thread in threads:
                thread.start()
            rounds(3 if SANITIZED else 20)  # until what is kept of the last events, decisions and pages is full
            before = len(os.listdir(f"/proc/{daemon.pid}/fd")), status_of(daemon.pid)["RssAnon"]
            switches_before = self.count_switches()
            refused = rounds(ROUNDS)
            switches = self.count_switches() - switches_before
            after = len(os.listdir(f"/proc/{daemon.pid}/fd")), status_of(daemon.pid)["RssAnon"]
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        self.assertFalse([t for t in threads if t.is_alive()], "an answer that never ends")
        bad = [o for o in outcomes if o[2] != "ok" and ("broken" in o[2] or not o[2].strip() or o[2] == "nothing")]
        failed = [o for o in outcomes if o[2] != "ok"]
        drift = after[1] - before[1]
        print(f"{ROUNDS} rounds, {switches} switches ({refused} overtaken), {len(outcomes)} answers, {len(failed)} "
              f"failed with a reason, {samples[0]} samples, drift {drift >> 10} KiB, descriptors {before[0]} to "
              f"{after[0]}", flush=True)
        self.assertEqual(bad, [])
        self.assertEqual(both, [], "two families in memory together")
        self.assertGreater(samples[0], switches, "too few samples to have seen anything")
        self.assertGreater(len(outcomes), ROUNDS * self.CLIENTS // 2)
        self.assertLess(len(failed), len(outcomes) // 50 + 1, failed[:5])
        # Each question reached its upstream once.
        for server in (self.ollama, cloud):
            asked = re.findall(r"question-\d+-\d+-end", " ".join(body for _, path, body in server.told()["requests"]
                                                                 if path.endswith("chat/completions")))
            self.assertEqual(len(asked), len(set(asked)))
        # Descriptors of the clients that were just there come and go.
        self.assertLessEqual(after[0], before[0] + 2 * self.CLIENTS + 8)
        if not SANITIZED:
            # 2 MB for a thousand switches; a short run's own noise (buffers of eight clients) on top.
            self.assertLessEqual(drift, (2 << 20) * switches // 1000 + (512 << 10))
        # Nothing is left when all have gone.
        self.switched("cloud/gpt:latest")
        if not self.ollama.told()["ps"]:  # a remote choice leaves Ollama's models alone
            self.assertEqual(daemon.get("/api/v1/devices").json()["devices"][0]["reserved"], 0)
        self.assertLessEqual(len(daemon.workers()), 1, "the standby alone")
        self.assertEqual([m for m in self.ollama.told()["ps"] if m["name"] != "qwen-a:latest"], [])
        self.assertEqual(daemon.get("/health").json()["waiting"], 0)
        self.assertLessEqual(len(os.listdir(f"/proc/{daemon.pid}/fd")), before[0] + 8)

    def count_switches(self):
        return self.daemon.get("/api/v1/switches?limit=1").json()["switches"][0]["id"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
