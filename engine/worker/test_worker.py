#!/usr/bin/env python3
"""Tests of a real llm-worker: python3 engine/worker/test_worker.py --worker PATH --models DIR [--mutants N] [--seed N] [-v] [TEST...]

DIR holds the random-weight models of `scripts/bootstrap --test-models`. Only the standard library. Nothing here waits for
time: every wait is for a message, an answer or the end of a process, with a deadline that only a hang reaches.
"""
import argparse
import contextlib
import http.client
import json
import os
import random
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/e2e"))
import gguf

WORKER = ""
MODELS = ""
MUTANTS = 50
SEED = 1
DEADLINE = 120  # seconds; for machines that are busy with other things


class Worker:
    """A worker process and the manager's end of its link."""

    OPTIONS = {"kv_type": "", "device": "auto", "pooling": "", "mmap": True, "split": "layer", "shares": []}

    def __init__(self, folder, sandbox=False, environment=None, before=()):
        ours, theirs = socket.socketpair()
        self.socket_path = os.path.join(folder, "w%d.sock" % random.randrange(1 << 30))
        arguments = [*before, WORKER, "--link-fd", str(theirs.fileno())]
        arguments += ["--inspect-sandbox"] if sandbox else ["--socket", self.socket_path]
        self.log = tempfile.TemporaryFile(dir=folder)
        self.process = subprocess.Popen(
            arguments, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=dict(os.environ, **(environment or {})))
        theirs.close()
        self.link = ours
        self.link.settimeout(DEADLINE)
        self.lines = self.link.makefile("rb")
        self.hello = self.receive()

    def send(self, **message):
        self.link.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        """The next message; None at the end of the link."""
        try:
            line = self.lines.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def order_load(self, path, kind="generation", generation=1, **options):
        states = options.pop("states", [])
        sampling = options.pop("sampling", {})
        self.send(kind="load", generation=generation, model_kind=kind, path=path, projector=options.pop("projector", ""),
                  options=dict(self.OPTIONS, **options), alias="the-alias",
                  sampling=sampling, rpc=[], states=states)

    def load(self, path, kind="generation", generation=1, **options):
        """Orders a load; its messages up to and with ready or failed, or up to the end of the link."""
        self.order_load(path, kind, generation, **options)
        messages = []
        while True:
            messages.append(self.receive())
            if messages[-1] is None or messages[-1]["kind"] in ("ready", "failed"):
                return messages

    def inspect(self, path, exact=False, **options):
        self.send(kind="inspect", id=7, path=path, projector="", exact=exact,
                  options=dict(self.OPTIONS, **options))
        self.steps = []
        while True:
            told = self.receive()
            if told is None or told["kind"] != "inspecting":
                return told
            self.steps.append(told["step"])

    def connect(self):
        connection = http.client.HTTPConnection("worker", timeout=DEADLINE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(self.socket_path)
        return connection

    def request(self, method, path, body=None):
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text.decode()

    def wait(self):
        return self.process.wait(DEADLINE)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.lines.close()
        self.link.close()
        self.log.close()


class WorkerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="worker-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def start(self, **keys):
        worker = Worker(self.folder, **keys)
        self.addCleanup(worker.end)
        return worker

    def loaded(self, name, kind="generation", **options):
        worker = self.start()
        last = worker.load(os.path.join(MODELS, name), kind, **options)[-1]
        self.assertEqual(last["kind"] if last else None, "ready", "%s\n%s" % (last, worker.said()))
        return worker, last

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            out.write(content)
        return path


class Life(WorkerTest):
    def test_says_hello_and_opens_nothing(self):
        worker = self.start()
        self.assertEqual(worker.hello["kind"], "hello")
        self.assertEqual(worker.hello["protocol"], 3)
        self.assertEqual(worker.hello["pid"], worker.process.pid)
        self.assertIn(worker.hello["variant"], ("cpu", "cuda", "vulkan"))
        self.assertFalse(os.path.exists(worker.socket_path))
        # A standby worker holds no device: nothing of a card is open.
        opened = [os.readlink("/proc/%d/fd/%s" % (worker.process.pid, fd)) for fd in os.listdir("/proc/%d/fd" % worker.process.pid)]
        self.assertFalse([name for name in opened if name.startswith(("/dev/nvidia", "/dev/dri"))])

    def test_ends_with_the_link(self):
        worker = self.start()
        worker.lines.close()
        worker.link.close()
        self.assertEqual(worker.wait(), 0)

    def test_ends_with_the_link_while_serving(self):
        worker, _ = self.loaded("tiny-chat.gguf")
        worker.lines.close()
        worker.link.close()
        self.assertEqual(worker.wait(), 0)
        self.assertFalse(os.path.exists(worker.socket_path))

    def test_ends_on_order(self):
        worker = self.start()
        worker.send(kind="shutdown")
        self.assertEqual(worker.wait(), 0)

    def test_ends_on_sigterm_during_a_stream_without_hanging_the_client(self):
        worker, _ = self.loaded("tiny-chat.gguf")
        connection = worker.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 100000, "stream": True}))
        answer = connection.getresponse()
        self.assertTrue(answer.readline().startswith(b"data: "))
        worker.process.terminate()
        self.assertEqual(worker.wait(), 0)
        # The stream ends instead of waiting for ever; cut in the middle of chunks is how the client learns it.
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            while answer.readline():
                pass
        connection.close()
        self.assertFalse(os.path.exists(worker.socket_path))

    def test_drops_what_it_does_not_understand(self):
        worker = self.start()
        worker.link.sendall(b"no json\n{\"kind\":\"dance\"}\n{\"kind\":\"load\"}\n[[[[\n")
        last = worker.load(os.path.join(MODELS, "tiny-chat.gguf"))[-1]
        self.assertEqual(last["kind"], "ready")
        self.assertIn("unknown kind", worker.said())

    def test_ends_when_a_line_never_ends(self):
        worker = self.start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(6):
                worker.link.sendall(b"x" * (1 << 20))
        self.assertEqual(worker.wait(), 0)

    def test_kill_at_any_instant_of_a_load_leaves_nothing_running(self):
        for seed in range(12):
            worker = self.start()
            worker.order_load(os.path.join(MODELS, "tiny-chat.gguf"))
            for _ in range(seed % 6):
                message = worker.receive()
                if message is None or message["kind"] != "progress":
                    break
            worker.process.send_signal(signal.SIGKILL)
            self.assertEqual(worker.wait(), -signal.SIGKILL)
            while worker.receive() is not None:
                pass

    def test_usage_errors_say_what_to_do(self):
        for arguments in ([], ["--link-fd", "x", "--socket", "a.sock"], ["--link-fd", "77", "--socket", "a.sock"], ["--dance"]):
            done = subprocess.run([WORKER] + arguments, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn("llm-worker", done.stderr)
        self.assertIn("llm-worker", subprocess.run([WORKER, "--version"], capture_output=True, text=True).stdout)
        self.assertIn("not meant for people", subprocess.run([WORKER, "--help"], capture_output=True, text=True).stdout)

    def test_foreign_settings_in_the_environment_change_nothing(self):
        worker = self.start(environment={"LLAMA_ARG_CTX_SIZE": "64", "LLAMA_ARG_N_PARALLEL": "7", "LLAMA_API_KEY": "secret",
                                         "AIP_MODE": "PREDICTION"})
        last = worker.load(os.path.join(MODELS, "tiny-chat.gguf"), context=512, parallel=2)[-1]
        self.assertEqual((last["kind"], last["slots"], last["context"]), ("ready", 2, 512))
        self.assertEqual(worker.request("GET", "/v1/models")[0], 200)


class Loading(WorkerTest):
    def test_reports_stages_in_order_then_ready(self):
        worker = self.start()
        messages = worker.load(os.path.join(MODELS, "tiny-chat.gguf"), generation=42, context=512, parallel=2)
        self.assertEqual({message["generation"] for message in messages}, {42})
        order = ["metadata", "vocabulary", "weights", "context", "warm_up"]
        stages = [message["stage"] for message in messages[:-1]]
        self.assertEqual([stage for i, stage in enumerate(stages) if i == 0 or stages[i - 1] != stage], order)
        for message in messages[:-1]:
            self.assertGreaterEqual(message["fraction"], 0)
            self.assertLessEqual(message["fraction"], 1)
        ready = messages[-1]
        self.assertEqual((ready["slots"], ready["context"], ready["slot_context"], ready["context_train"]), (2, 512, 512, 2048))
        self.assertEqual([name for name, _ in ready["phases"]], order)
        self.assertTrue(all(took >= 0 for _, took in ready["phases"]))
        self.assertTrue(ready["capabilities"]["chat"])

    def test_socket_answers_once_ready_is_said_and_is_private(self):
        worker = self.start()
        worker.order_load(os.path.join(MODELS, "tiny-chat.gguf"))
        while True:
            message = worker.receive()
            if message["kind"] == "ready":
                break
        self.assertEqual(stat.S_IMODE(os.stat(worker.socket_path).st_mode), 0o600)
        self.assertEqual(worker.request("GET", "/health"), (200, {"status": "ok"}))

    def test_reports_memory_by_device(self):
        worker, ready = self.loaded("tiny-chat.gguf", context=512)
        host = [memory for memory in ready["memory"] if memory["device"] == "host"][0]
        self.assertGreater(host["mapped"], 1 << 20)
        # Two layers, 64 wide, keys and values in half precision.
        self.assertEqual(host["context"], 512 * 2 * 64 * 2 * 2)
        _, unmapped = self.loaded("tiny-chat.gguf", context=512, mmap=False)
        host = [memory for memory in unmapped["memory"] if memory["device"] == "host"][0]
        self.assertEqual(host["mapped"], 0)
        self.assertGreater(host["weights"], 1 << 20)

    def test_kv_type_and_context_are_obeyed(self):
        _, wide = self.loaded("tiny-chat.gguf", context=1024, parallel=1)
        _, narrow = self.loaded("tiny-chat.gguf", context=1024, parallel=1, kv_type="q8_0")
        self.assertLess(narrow["memory"][0]["context"], wide["memory"][0]["context"])

    def failure(self, path, kind="generation", **options):
        worker = self.start()
        last = worker.load(path, kind, generation=9, **options)[-1]
        self.assertEqual(last["kind"] if last else None, "failed", "%s\n%s" % (last, worker.said()))
        self.assertEqual(last["generation"], 9)
        self.assertFalse(os.path.exists(worker.socket_path))
        return last["error"]

    def test_typed_errors(self):
        missing = self.failure(os.path.join(self.folder, "nothing.gguf"))
        self.assertEqual((missing["code"], missing["reason"]), ("not_found", "io_error"))
        self.assertEqual(self.failure(self.folder)["reason"], "invalid_artifact")
        self.assertEqual(self.failure(self.file("text.gguf", b"<html>404</html>"))["reason"], "invalid_artifact")
        self.assertEqual(self.failure(self.file("empty.gguf", b""))["reason"], "invalid_artifact")
        tiny = os.path.join(MODELS, "tiny-chat.gguf")
        for options in ({"context": 1}, {"parallel": 0}, {"kv_type": "q3"}, {"threads": 0}, {"pooling": "huge"}, {"device": "cuda7"}):
            self.assertEqual(self.failure(tiny, **options)["reason"], "invalid_options", options)

    def test_unreadable_file(self):
        path = self.file("private.gguf", b"GGUF")
        os.chmod(path, 0)
        # Root, whom CI runs as, reads everything: it must do without that power for once.
        before = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        read = subprocess.run([*before, "cat", path], capture_output=True)
        self.assertNotEqual(read.returncode, 0, "the file is unreadable for whoever loads it")
        error = self.start(before=before).load(path)[-1]["error"]
        self.assertEqual(error["code"], "permission_denied", error)

    def test_truncated_model(self):
        with open(os.path.join(MODELS, "tiny-chat.gguf"), "rb") as model:
            whole = model.read()
        for size in (10, 1000, len(whole) // 4, len(whole) - 4096):
            error = self.failure(self.file("cut%d.gguf" % size, whole[:size]))
            self.assertEqual(error["reason"], "invalid_artifact", error)

    def test_unknown_architecture(self):
        with open(os.path.join(MODELS, "tiny-chat.gguf"), "rb") as model:
            whole = model.read()
        self.assertEqual(whole.count(b"\x05\x00\x00\x00\x00\x00\x00\x00llama"), 2, "the architecture and the tokenizer's kind")
        changed = whole.replace(b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00blama", 1)
        error = self.failure(self.file("blama.gguf", changed))
        self.assertEqual((error["code"], error["reason"]), ("unimplemented", "unsupported_model"))

    def test_vocabulary_without_weights(self):
        # Well-formed, and yet no model: the engine says so.
        def text(t):
            return struct.pack("<Q", len(t)) + t
        bare = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
        self.assertEqual(self.failure(self.file("bare.gguf", bare))["reason"], "invalid_artifact")

    def test_out_of_memory_is_typed(self):
        # A context that no machine holds, under a limit that the test sets itself.
        worker = self.start()
        import resource
        resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (3 << 30, 3 << 30))
        last = worker.load(os.path.join(MODELS, "switch-a.gguf"), context=40960, parallel=1)[-1]
        self.assertEqual(last["kind"], "failed", last)
        error = last["error"]
        self.assertEqual((error["code"], error["reason"]), ("resource_exhausted", "insufficient_memory"), error)
        self.assertEqual(error["fields"]["device"], "host")
        self.assertGreater(error["fields"]["needed"], 1 << 30)
        self.assertGreater(error["fields"]["free"], 0)

    def test_process_holds_nothing_of_a_device_after_a_failure(self):
        worker = self.start()
        worker.load(os.path.join(self.folder, "nothing.gguf"))
        worker.send(kind="shutdown")
        self.assertEqual(worker.wait(), 0)


class Serving(WorkerTest):
    def test_routes_of_a_generation_model(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=512, parallel=2)
        chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
        status, answer = worker.request("POST", "/v1/chat/completions", chat)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["object"], "chat.completion")
        self.assertEqual(answer["model"], "the-alias")
        self.assertEqual(answer["usage"]["completion_tokens"], 4)
        for path, body in (
                ("/v1/completions", {"prompt": "a", "max_tokens": 2}),
                ("/completion", {"prompt": "a", "n_predict": 2}),
                ("/v1/responses", {"input": "hello", "max_output_tokens": 4}),
                ("/v1/messages", dict(chat, max_tokens=4)),
                ("/v1/messages/count_tokens", chat),
                ("/v1/chat/completions/input_tokens", chat),
                ("/tokenize", {"content": "hello"}),
                ("/detokenize", {"tokens": [400, 401]}),
                ("/apply-template", chat)):
            status, answer = worker.request("POST", path, body)
            self.assertEqual(status, 200, "%s: %s" % (path, answer))
        for path in ("/health", "/props", "/slots", "/metrics", "/v1/models"):
            self.assertEqual(worker.request("GET", path)[0], 200, path)
        status, refused = worker.request("POST", "/v1/chat/completions", {"messages": 1})
        self.assertEqual((status, refused["error"]["code"], refused["error"]["param"]), (400, None, None), refused)
        self.assertEqual(worker.request("GET", "/nothing")[0], 404)

    def test_a_prompt_that_is_too_long_is_refused_in_the_words_of_clients(self):
        worker, ready = self.loaded("tiny-chat.gguf", context=512, parallel=1)
        # A few tokens too many; and so many bytes that they are never looked at.
        for text in ("word " * 2 * ready["slot_context"], "word " * 2_000_000):
            status, body = worker.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}]})
            self.assertEqual((status, body["error"]["type"], body["error"]["code"]),
                             (400, "invalid_request_error", "context_length_exceeded"), body)
            self.assertEqual(body["error"]["n_ctx"], ready["slot_context"])
            self.assertEqual(worker.request("POST", "/v1/completions", {"prompt": text})[0], 400)
            status, body = worker.request("POST", "/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": text}]})
            self.assertEqual((status, body["type"], body["error"]["type"]), (400, "error", "invalid_request_error"), body)
        with open("/proc/%d/status" % worker.process.pid) as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
        self.assertLess(peak, 200 * 1024, "reading what cannot fit took %d KiB" % peak)

    def test_what_large_requests_leave_in_the_heap_is_given_back(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=512)

        def held():
            with open("/proc/%d/status" % worker.process.pid) as file:
                return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
        ask = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        self.assertEqual(worker.request("POST", "/v1/chat/completions", ask)[0], 200)
        before = held()
        large = dict(ask, ignored=[[1]] * 500_000)
        senders = [threading.Thread(target=worker.request, args=("POST", "/v1/chat/completions", large)) for _ in range(3)]
        for sender in senders:
            sender.start()
        most = before
        while any(sender.is_alive() for sender in senders):
            most = max(most, held())
            senders[-1].join(0.05)
        self.assertGreater(most - before, 100 * 1024, "it was large")
        deadline = time.monotonic() + DEADLINE
        while held() - before > (most - before) // 4:
            self.assertLess(time.monotonic(), deadline, "%d of %d KiB stay" % (held() - before, most - before))
            select.select([], [], [], 0.05)

    def test_stream(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=512)
        connection = worker.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0, "stream": True}))
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        lines = [line for line in answer.read().split(b"\n") if line.startswith(b"data: ")]
        self.assertEqual(lines[-1], b"data: [DONE]")
        self.assertGreater(len(lines), 5)
        connection.close()

    def test_schema_is_kept(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024)
        schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
        status, answer = worker.request("POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": "hello"}], "max_tokens": 900, "temperature": 0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}})
        self.assertEqual(status, 200, answer)
        self.assertIn(json.loads(answer["choices"][0]["message"]["content"])["a"], ("x", "y"))

    def test_same_prompt_same_answer_at_temperature_0(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=512)
        body = {"prompt": "once upon a time", "max_tokens": 8, "temperature": 0}
        first = worker.request("POST", "/v1/completions", body)[1]["choices"][0]["text"]
        self.assertEqual(worker.request("POST", "/v1/completions", body)[1]["choices"][0]["text"], first)

    def test_a_continuation_keeps_the_answers_own_tokens(self):
        """A model of random weights hardly ever spells as the tokenizer would."""
        worker, _ = self.loaded("tiny-chat.gguf", context=512)

        def say(tokens, *said):
            body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": tokens, "temperature": 0}
            if said:
                body["messages"].append({"role": "assistant", "content": said[0]})
                body.update(continue_final_message=True, add_generation_prompt=False)
            status, answer = worker.request("POST", "/v1/chat/completions", body)
            self.assertEqual(status, 200, answer)
            return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"], answer["timings"]["cache_n"]

        say(1)  # so that each reads its prompt from the cache: read in one piece it rounds otherwise
        whole, prompt, _ = say(120)
        begun, _, _ = say(60)
        self.assertTrue(whole.startswith(begun))
        # An answer that is no stream has the part before it, too.
        text, all_before, cached = say(60, begun)
        self.assertEqual(text, whole)
        self.assertEqual(all_before, prompt + 60)
        self.assertGreaterEqual(cached, prompt + 58)

    def test_embedding(self):
        worker, ready = self.loaded("tiny-embed.gguf", "embedding")
        self.assertTrue(ready["capabilities"]["embeddings"])
        status, answer = worker.request("POST", "/v1/embeddings", {"input": ["one", "two", "one"]})
        self.assertEqual(status, 200, answer)
        one, two, again = [item["embedding"] for item in answer["data"]]
        self.assertEqual(len(one), 64)
        self.assertAlmostEqual(sum(x * x for x in one), 1, places=3)
        for a, b in zip(one, again):
            self.assertAlmostEqual(a, b, places=4)
        self.assertGreater(sum(abs(a - b) for a, b in zip(one, two)), 1e-3)

    def test_embedding_of_the_longest_text(self):
        worker, ready = self.loaded("tiny-embed.gguf", "embedding")
        status, answer = worker.request("POST", "/v1/embeddings", {"input": "word " * (ready["context_train"] - 10)})
        self.assertEqual(status, 200, answer)

    def test_rerank(self):
        worker, ready = self.loaded("tiny-rerank.gguf", "rerank")
        self.assertTrue(ready["capabilities"]["rerank"])
        status, answer = worker.request("POST", "/v1/rerank", {"query": "one", "documents": ["two", "three", "four"]})
        self.assertEqual(status, 200, answer)
        self.assertEqual(sorted(result["index"] for result in answer["results"]), [0, 1, 2])

    def test_sampling_defaults_reach_requests_that_leave_them_out(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=512, sampling={"temperature": 0.25, "top_k": 7, "max_tokens": 3})
        settings = worker.request("GET", "/props")[1]["default_generation_settings"]["params"]
        self.assertAlmostEqual(settings["temperature"], 0.25)
        self.assertEqual(settings["top_k"], 7)
        answer = worker.request("POST", "/v1/completions", {"prompt": "a"})[1]
        self.assertEqual(answer["usage"]["completion_tokens"], 3)

    def test_a_client_that_leaves_frees_its_slot(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=2048, parallel=1)
        connection = worker.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 100000, "stream": True}),
                           {"X-Conversation-Id": "keep-me"})
        connection.getresponse().readline()
        connection.close()
        left = time.monotonic()
        # Would wait for the whole of the other answer if that went on: context 2048.
        status, answer = worker.request("POST", "/v1/completions", {"prompt": "b", "max_tokens": 1})
        self.assertEqual(status, 200, answer)
        self.assertLess(time.monotonic() - left, 2, "a client that leaves frees its slot within two seconds")
        states = worker.request("GET", "/slots")[1]
        self.assertFalse(states[0]["is_processing"])

    def test_a_client_that_leaves_ends_the_reading_of_its_prompt(self):
        """The engine looks once a second whether its client is there, and stops between two batches of the prompt."""
        worker, _ = self.loaded("switch-a.gguf", context=8192, parallel=1)
        def body(words):
            return {"prompt": "some words of a long prompt " * (words // 6), "max_tokens": 1, "cache_prompt": False}
        def used():
            with open("/proc/%d/stat" % worker.process.pid) as stat:
                fields = stat.read().rsplit(") ", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        began = used()
        self.assertEqual(worker.request("POST", "/v1/completions", body(512))[0], 200)
        batch = used() - began  # of the processors: others may have them too
        connection = worker.connect()
        connection.request("POST", "/v1/completions", json.dumps(body(7000)))
        began = used()
        while used() - began < batch / 2:
            time.sleep(0.01)
        connection.close()
        left, at_leaving, last, still = time.monotonic(), used(), used(), time.monotonic()
        while time.monotonic() - still < 0.5:
            self.assertLess(time.monotonic() - left, DEADLINE)
            time.sleep(0.02)
            if used() > last + 0.02:
                last, still = used(), time.monotonic()
        self.assertFalse(worker.request("GET", "/slots")[1][0]["is_processing"])
        whole = batch * 7000 / 512
        spent = last - at_leaving
        print("a batch takes %.2f s of the processors; after the client left %.2f s went into its prompt, within %.2f s" %
              (batch, spent, still - left), file=sys.stderr)
        # The batch under way, those of the second until it is noticed, and one that was begun then.
        self.assertLess(spent, 2 * batch + 1.2 * os.cpu_count() + 0.1)
        self.assertLess(spent, whole - 2 * batch, "or nothing was shown")


class Keeping(WorkerTest):
    """Conversations outlive the process."""

    def setUp(self):
        super().setUp()
        self.kept = os.path.join(self.folder, "states")
        os.mkdir(self.kept)
        self.saves = 0

    def restoring(self, states, name="tiny-chat.gguf", **options):
        """A worker that has loaded with these states, and what it told of them."""
        worker, _ = self.loaded(name, states=states, **dict(dict(context=1024, parallel=2), **options))
        told = worker.receive()
        self.assertEqual(told["kind"], "restored", told)
        return worker, told

    def save(self, worker, limit=1 << 30, **more):
        self.saves += 1
        worker.send(**dict(dict(kind="save_states", id=self.saves, name="s%d" % self.saves, least_tokens=64,
                                places=[dict(folder=self.kept, limit=limit)]), **more))
        told = worker.receive()
        self.assertEqual((told["kind"], told["id"]), ("states_saved", self.saves), told)
        return told

    def talk(self, worker, text, slot=-1, tokens=4):
        status, answer = worker.request("POST", "/completion", {"prompt": text, "n_predict": tokens, "temperature": 0,
                                                                 "id_slot": slot, "cache_prompt": True})
        self.assertEqual(status, 200, answer)
        return answer

    LONG = "the quick brown fox jumps over the lazy dog " * 12
    OTHER = "a slow red hen runs under the busy cat and thinks " * 9

    def test_two_conversations_survive_the_process(self):
        worker, ready = self.loaded("tiny-chat.gguf", context=2048, parallel=2)
        self.assertTrue(ready["keeps_states"])
        self.talk(worker, self.LONG, slot=0)
        self.talk(worker, self.OTHER, slot=1)
        expected = self.talk(worker, self.LONG + "and", tokens=12)["content"]
        saved = self.save(worker)
        self.assertTrue(saved["complete"], saved)
        self.assertEqual((len(saved["slots"]), saved["wrong"], saved["resumptions"]), (2, [], []))
        self.assertGreater(saved["prompt_rate"], 0)
        self.assertEqual({os.stat(state["file"]).st_mode & 0o777 for state in saved["slots"]}, {0o600})
        worker.end()
        worker, told = self.restoring(saved["slots"], context=2048)
        self.assertEqual((told["slots"], told["refused"]), (2, []), told)
        self.assertEqual(told["tokens"], sum(state["tokens"] for state in saved["slots"]))
        again = self.talk(worker, self.LONG + "and", tokens=12)
        self.assertEqual(again["content"], expected)
        self.assertLess(again["timings"]["prompt_n"], 5, "the prompt was read again")
        self.assertLess(self.talk(worker, self.OTHER)["timings"]["prompt_n"], 5)
        later = self.save(worker)
        self.assertEqual(len(later["resumptions"]), 2, later)
        for resumption in later["resumptions"]:
            self.assertGreater(resumption["shared"], 64)
            self.assertGreaterEqual(resumption["reused"], resumption["shared"] - 1)
        self.assertEqual(self.save(worker)["resumptions"], [], "told once")

    def test_what_has_not_changed_is_not_written_again(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024, parallel=2)
        self.talk(worker, self.LONG)
        first = self.save(worker)["slots"]
        self.assertEqual(self.save(worker)["slots"], first)
        worker.end()
        worker, _ = self.restoring(first)
        self.assertEqual(self.save(worker)["slots"], first, "nor after a restore")
        os.remove(first[0]["file"])
        rewritten = self.save(worker)["slots"]
        self.assertNotEqual(rewritten[0]["file"], first[0]["file"])
        self.assertEqual(rewritten[0]["token_sum"], first[0]["token_sum"], "the same conversation")

    def test_what_is_not_worth_it_or_has_no_room_is_left_out(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024, parallel=2)
        self.talk(worker, "short")
        self.assertEqual(self.save(worker)["slots"], [])
        self.talk(worker, self.LONG)
        told = self.save(worker, limit=1000)
        self.assertEqual((told["slots"], len(told["wrong"]), told["complete"]), ([], 1, True), told)
        self.assertEqual(os.listdir(self.kept), [])

    def test_a_disk_that_cannot_be_written_costs_the_state_and_nothing_else(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024, parallel=2)
        self.talk(worker, self.LONG)
        told = self.save(worker, places=[dict(folder=os.path.join(self.folder, "nowhere"), limit=1 << 30)])
        self.assertEqual((told["slots"], told["complete"], len(told["wrong"])), ([], False, 1), told)
        self.assertLess(self.talk(worker, self.LONG)["timings"]["prompt_n"], 5)

    def test_a_damaged_file_never_reaches_the_engine(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024, parallel=2)
        expected = self.talk(worker, self.LONG, tokens=8)["content"]
        state = self.save(worker)["slots"][0]
        worker.end()
        with open(state["file"], "rb") as file:
            good = file.read()
        for name, content in (("a bit", good[:5000] + bytes([good[5000] ^ 4]) + good[5001:]), ("cut", good[:-7]),
                              ("empty", b""), ("longer", good + b"x"), ("another", os.urandom(len(good)))):
            with self.subTest(name):
                with open(state["file"], "wb") as out:
                    out.write(content)
                worker, told = self.restoring([state])
                self.assertEqual((told["slots"], told["refused"], len(told["wrong"])), (0, [state["file"]], 1), told)
                answer = self.talk(worker, self.LONG, tokens=8)
                self.assertEqual(answer["content"], expected)
                self.assertGreater(answer["timings"]["prompt_n"], 64, "it was read from its beginning")
                worker.end()
        os.remove(state["file"])
        self.assertEqual(self.restoring([state])[1]["refused"], [state["file"]])

    def test_a_sliding_window_model_goes_on_from_its_checkpoints(self):
        model = os.path.join(self.folder, "window.gguf")
        subprocess.run([os.path.join(os.path.dirname(WORKER), "make-random-model"), "--arch", "gemma2", "--window", "64", "--layers",
                        "4", "--heads", "2", "--vocab", os.path.join(MODELS, "tiny-chat.gguf"), "--out", model], check=True)
        worker, ready = self.loaded(model, context=2048, parallel=1)
        self.assertTrue(ready["keeps_states"])
        self.talk(worker, self.LONG)
        expected = self.talk(worker, self.LONG + "and so it goes", tokens=8)
        saved = self.save(worker)["slots"]
        length = saved[0]["tokens"]
        self.assertGreater(length, 2 * 64, "longer than the window")
        worker.end()
        # On where it ended, and from a point before its end, which only a checkpoint can give back.
        worker, told = self.restoring(saved, model, context=2048, parallel=1)
        self.assertEqual((told["slots"], told["tokens"]), (1, length), told)
        on = self.talk(worker, self.LONG + "and so it goes" + expected["content"] + "and on")
        self.assertGreater(on["timings"]["cache_n"], length - 16, on["timings"])
        worker.end()
        worker, _ = self.restoring(saved, model, context=2048, parallel=1)
        back = self.talk(worker, self.LONG + "and so it goes", tokens=8)
        self.assertGreater(back["timings"]["cache_n"], length // 2, back["timings"])
        self.assertEqual(back["content"], expected["content"])

    def test_an_embedding_model_keeps_nothing(self):
        _, ready = self.loaded("tiny-embed.gguf", "embedding")
        self.assertFalse(ready["keeps_states"])

    def test_a_cancelled_save_is_not_complete(self):
        worker, _ = self.loaded("tiny-chat.gguf", context=1024, parallel=2)
        self.talk(worker, self.LONG)
        worker.send(kind="cancel_save", id=self.saves + 1)
        told = self.save(worker)
        self.assertEqual((told["complete"], told["slots"], told["wrong"]), (False, [], []), told)
        self.assertTrue(self.save(worker)["complete"])


class Inspecting(WorkerTest):
    def test_tells_what_is_in_a_file(self):
        told = self.start(sandbox=True).inspect(os.path.join(MODELS, "switch-a.gguf"), context=4096, parallel=2)
        self.assertEqual(told["kind"], "inspected", told)
        self.assertEqual((told["inspection"], told["architecture"], told["quantization"], told["model_kind"]),
                         (7, "qwen3", "Q8_0", "generation"))
        self.assertEqual((told["layers"], told["embedding_length"], told["context_train"]), (28, 1024, 40960))
        self.assertEqual(told["size"], os.path.getsize(os.path.join(MODELS, "switch-a.gguf")))
        self.assertRegex(told["fingerprint"], "^[0-9a-f]{32}$")
        # 28 layers, 8 heads of 128 for keys and as many for values, half precision.
        self.assertEqual(told["predicted"][0]["context"], 4096 * 28 * 8 * 128 * 2 * 2)

    def test_a_card_that_is_named_is_charged(self):
        # In the sandbox nobody can look whether it is there.
        path = os.path.join(MODELS, "switch-a.gguf")
        told = self.start(sandbox=True).inspect(path, context=4096, parallel=2, device="cuda0")
        host, card = told["predicted"]
        self.assertEqual((host["device"], card["device"]), ("host", "cuda0"))
        self.assertEqual((host["context"], card["context"]), (0, 4096 * 28 * 8 * 128 * 2 * 2))
        # The embeddings stay on the host; here the output is made from them, so they lie on the card too.
        self.assertGreater(card["weights"], 0.97 * os.path.getsize(path) - (8 << 20))
        self.assertGreater(host["mapped"], 0)
        self.assertEqual((host["weights"], card["mapped"]), (0, 0))
        half = self.start(sandbox=True).inspect(path, context=4096, parallel=2, device="cuda0", gpu_layers=15)["predicted"]
        self.assertEqual(half[0]["context"], half[1]["context"])
        self.assertEqual(len(self.start(sandbox=True).inspect(path, device="cuda0", gpu_layers=0)["predicted"]), 1)

    def test_kinds(self):
        for name, kind in (("tiny-embed.gguf", "embedding"), ("tiny-rerank.gguf", "rerank"), ("tiny-chat.gguf", "generation")):
            self.assertEqual(self.start(sandbox=True).inspect(os.path.join(MODELS, name))["model_kind"], kind)

    def test_two_copies_have_one_fingerprint(self):
        copy = os.path.join(self.folder, "copy.gguf")
        shutil.copy(os.path.join(MODELS, "tiny-chat.gguf"), copy)
        first = self.start(sandbox=True).inspect(copy)["fingerprint"]
        self.assertEqual(first, self.start(sandbox=True).inspect(os.path.join(MODELS, "tiny-chat.gguf"))["fingerprint"])
        self.assertNotEqual(first, self.start(sandbox=True).inspect(os.path.join(MODELS, "tiny-chat-2.gguf"))["fingerprint"])

    def test_exact_prediction_agrees_with_the_load(self):
        worker = self.start()
        told = worker.inspect(os.path.join(MODELS, "switch-a.gguf"), exact=True, context=2048, parallel=2, device="host")
        self.assertTrue(told["exact"], told)
        ready = worker.load(os.path.join(MODELS, "switch-a.gguf"), context=2048, parallel=2, device="host")[-1]
        self.assertEqual(ready["kind"], "ready", ready)
        predicted, measured = told["predicted"][0], ready["memory"][0]
        self.assertEqual(predicted["context"], measured["context"])
        # What the engine repacks for the processor is held; what it maps is counted by the whole range of the mapping.
        self.assertAlmostEqual(predicted["weights"], measured["weights"], delta=0.02 * measured["weights"])
        self.assertLessEqual(predicted["mapped"], measured["mapped"])
        with open("/proc/%d/smaps_rollup" % worker.process.pid) as rollup:
            held = 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith(("Pss_Anon", "Pss_Shmem")))
        promised = sum(predicted[part] for part in ("weights", "context", "compute"))
        self.assertLessEqual(held, promised * 1.05, "a first reservation must cover what is held")
        self.assertGreaterEqual(held, promised * 0.1)

    def test_sandbox_is_shut_before_a_byte_is_parsed(self):
        worker = self.start(sandbox=True)
        self.assertEqual(worker.inspect(os.path.join(MODELS, "tiny-chat.gguf"))["kind"], "inspected")
        self.assertEqual(worker.wait(), 0)

    def test_says_what_it_does(self):
        worker = self.start(sandbox=True)
        worker.inspect(os.path.join(MODELS, "tiny-embed.gguf"))
        self.assertEqual(worker.steps, ["file", "template"])

    def hostile(self, name, template, key="tokenizer.chat_template"):
        with open(os.path.join(MODELS, name), "rb") as model:
            made = gguf.Model(model.read())
        made.set_text(key, template)
        return self.file("hostile-" + name, made.bytes())

    def test_templates_of_every_kind_of_model_are_run_where_they_can_do_no_harm(self):
        endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
        huge = "{% set ns = namespace(t='x' * 4096) %}{% for i in range(24) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"
        for name in ("tiny-chat.gguf", "tiny-embed.gguf", "tiny-rerank.gguf"):
            for key in ("tokenizer.chat_template", "tokenizer.chat_template.tool_use"):
                with self.subTest(name, key=key):
                    worker = self.start(sandbox=True)
                    self.assertIsNone(worker.inspect(self.hostile(name, endless, key)))
                    self.assertEqual(worker.steps[-1], "template")
                    self.assertEqual(worker.process.wait(10 * DEADLINE), -signal.SIGXCPU, "for its processor time")
                    worker = self.start(sandbox=True)
                    told = worker.inspect(self.hostile(name, huge, key))
                    if told is None:  # its time was over first
                        self.assertEqual(worker.steps[-1], "template")
                    else:
                        self.assertEqual(told["error"]["reason"], "invalid_artifact", told)
                        self.assertIn("memory", told["error"]["message"])

    def test_a_template_is_not_run_for_who_does_not_chat(self):
        for name, kind in (("tiny-embed.gguf", "embedding"), ("tiny-rerank.gguf", "rerank")):
            worker = self.start()
            path = self.hostile(name, "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
            self.assertEqual(worker.load(path, kind=kind, context=256)[-1]["kind"], "ready")

    def test_what_lies_behind_the_weights_is_not_read(self):
        path = os.path.join(self.folder, "padded.gguf")
        shutil.copy(os.path.join(MODELS, "tiny-chat.gguf"), path)
        os.truncate(path, 64 << 30)
        told = self.start(sandbox=True).inspect(path)
        self.assertEqual([device["mapped"] for device in told["predicted"]], [0])
        worker = self.start()
        ready = worker.load(path, context=256, parallel=1)[-1]
        self.assertEqual(ready["kind"], "ready", ready)
        with open("/proc/%d/status" % worker.process.pid) as status:
            most = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        self.assertLess(most, 1 << 20, "KiB")
        self.assertEqual(sum(device["mapped"] for device in ready["memory"]), 0)

    def test_errors_are_typed(self):
        for path, reason in ((os.path.join(self.folder, "nothing.gguf"), "io_error"), (self.folder, "invalid_artifact"),
                             (self.file("zero.gguf", b"\0" * 4096), "invalid_artifact")):
            told = self.start(sandbox=True).inspect(path)
            self.assertEqual((told["kind"], told["inspection"]), ("failed", 7))
            self.assertEqual(told["error"]["reason"], reason)

    def test_a_file_without_weights_is_no_model(self):
        with open(os.path.join(MODELS, "tiny-chat.gguf"), "rb") as model:
            bare = gguf.Model(model.read())
        bare.tensors, bare.data = [], b""
        told = self.start(sandbox=True).inspect(self.file("bare.gguf", bare.bytes()))
        self.assertEqual((told["kind"], told["error"]["reason"]), ("failed", "invalid_artifact"), told)
        self.assertIn("no weights", told["error"]["message"])

    def test_devices(self):
        worker = self.start()
        worker.send(kind="list_devices", servers=[])
        told = worker.receive()
        self.assertEqual(told["kind"], "devices_listed")
        self.assertIn("host", [device["id"] for device in told["devices"]])


class Hostile(WorkerTest):
    """Damaged model files. Each ends in a typed error or, where it is still a model, in an answer."""

    REASONS = ("invalid_artifact", "unsupported_model", "invalid_options", "insufficient_memory", "io_error")

    def mutants(self, count, seed):
        with open(os.path.join(MODELS, "tiny-chat.gguf"), "rb") as model:
            whole = model.read()
        rng = random.Random(seed)
        # Everything that is no vocabulary: the head, and the keys and the tensor table behind the tokenizer's arrays.
        tail_begin = whole.index(b"tokenizer.chat_template") - 2000
        tail_end = min(len(whole), whole.index(b"blk.1.ffn_norm.weight") + 200)
        for _ in range(count):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(0, 1500) if rng.random() < 0.4 else rng.randrange(tail_begin, tail_end)
                how = rng.randrange(6)
                if how == 0:
                    data[at] = rng.randrange(256)
                elif how == 1:
                    data[at] ^= 1 << rng.randrange(8)
                elif how == 2:
                    data[at:at + 8] = struct.pack("<Q", rng.choice([0, 1, 2 ** 31, 2 ** 32, 2 ** 63, 2 ** 64 - 1]))
                elif how == 3:
                    data[at:at + 4] = struct.pack("<I", rng.choice([0, 1, 255, 2 ** 31 - 1, 2 ** 32 - 1]))
                elif how == 4:
                    del data[at:at + rng.randint(1, 32)]
                else:
                    data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 32)))
            if rng.random() < 0.1:
                del data[rng.randrange(len(data)):]
            yield bytes(data)

    def test_inspection(self):
        verdicts = {}
        for number, data in enumerate(self.mutants(MUTANTS, SEED)):
            worker = self.start(sandbox=True)
            told = worker.inspect(self.file("m%d.gguf" % number, data))
            if told is None:
                self.fail("mutant %d of seed %d killed the inspection: %s" % (number, SEED, worker.wait()))
            verdict = told["error"]["reason"] if told["kind"] == "failed" else told["kind"]
            self.assertIn(verdict, self.REASONS + ("inspected",))
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            worker.end()
        self.assertGreater(verdicts.get("invalid_artifact", 0), MUTANTS // 5, verdicts)

    def test_load(self):
        verdicts = {}
        for number, data in enumerate(self.mutants(MUTANTS, SEED + 1)):
            worker = self.start()
            last = worker.load(self.file("m%d.gguf" % number, data), context=256, parallel=1)[-1]
            if last is None:
                self.fail("mutant %d of seed %d ended without a word: %s\n%s" % (number, SEED + 1, worker.wait(), worker.said()))
            verdict = last["error"]["reason"] if last["kind"] == "failed" else last["kind"]
            self.assertIn(verdict, self.REASONS + ("ready",), last)
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            worker.end()
        self.assertGreater(verdicts.get("invalid_artifact", 0), MUTANTS // 8, verdicts)

    def test_random_bytes(self):
        rng = random.Random(3)
        for size in (0, 1, 4, 24, 4096, 1 << 20):
            for prefix in (b"", b"GGUF\x03\x00\x00\x00"):
                data = prefix + bytes(rng.randrange(256) for _ in range(size))
                told = self.start(sandbox=True).inspect(self.file("r.gguf", data))
                self.assertEqual(told["kind"], "failed")
                self.assertEqual(told["error"]["reason"], "invalid_artifact")


def main():
    global WORKER, MODELS, MUTANTS, SEED
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--mutants", type=int, default=MUTANTS, help="damaged files for each hostile test")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments, rest = parser.parse_known_args()
    WORKER, MODELS = os.path.abspath(arguments.worker), os.path.abspath(arguments.models)
    MUTANTS, SEED = arguments.mutants, arguments.seed
    for name in ("tiny-chat.gguf", "tiny-embed.gguf", "tiny-rerank.gguf", "switch-a.gguf"):
        if not os.path.exists(os.path.join(MODELS, name)):
            sys.exit("%s is not in %s: run scripts/bootstrap --test-models" % (name, MODELS))
    unittest.main(argv=[sys.argv[0]] + rest)


if __name__ == "__main__":
    main()
