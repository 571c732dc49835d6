"""Hugging Face checkpoints through llm-importer and the daemon: what comes out is the model that went in.

The checkpoint is all-MiniLM-L6-v2, which scripts/bootstrap fetches.
"""
import fcntl
import json
import math
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import time
import unittest

from daemon import DaemonTest, program, wait_gone, worker_beside

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llm-manager"
CHECKPOINT = CACHE / "models" / "all-minilm-l6-v2"
# The example of the model's page, and what sentence-transformers answers to it.
HAPPY = "That is a happy person"
LIKE_HAPPY = {"That is a very happy person": 0.942915, "That is a happy dog": 0.694577, "Today is a sunny day": 0.256876}


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class Importer(DaemonTest):
    def run_importer(self, folder, out, *options, status=0):
        """Imports, and returns the last line that the importer said, with all notices of it."""
        done = subprocess.run([program("LLM_MANAGER_IMPORTER"), str(folder), str(out), *options],
                              stdout=subprocess.PIPE, text=True, timeout=60)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(done.returncode, status, lines[-1:])
        return lines

    def import_into(self, daemon, name, *options):
        return self.run_importer(CHECKPOINT, daemon.models / f"{name}.gguf", *options)

    def place(self):
        return pathlib.Path(self.folder())

    def copy_of_checkpoint(self):
        folder = self.place() / "checkpoint"
        shutil.copytree(CHECKPOINT, folder)
        return folder


class MiniLm(Importer):
    def embed(self, daemon, model, texts):
        answer = daemon.post("/v1/embeddings", {"model": model, "input": texts})
        self.assertEqual(answer.status, 200, answer)
        return [each["embedding"] for each in answer.json()["data"]]

    def test_vectors_are_those_of_sentence_transformers(self):
        daemon = self.make(config="models: {}\n", worker=program("LLM_MANAGER_REAL_WORKER"))
        said = self.import_into(daemon, "minilm-f16", "--quantize", "none")
        self.assertEqual([said[-2]["kind"], said[-2]["quantization"]], ["written", "F16"])
        # An embedding model's default.
        self.assertEqual(self.import_into(daemon, "minilm")[-2]["quantization"], "Q8_0")
        self.import_into(daemon, "minilm-4bit", "--quantize", "4bit")
        daemon.start()

        texts = ["This is an example sentence", HAPPY, *LIKE_HAPPY]
        exact = self.embed(daemon, "minilm-f16", texts)
        for value, expected in zip(exact[0], (0.0677, 0.0635, 0.0487)):
            self.assertAlmostEqual(value, expected, delta=0.0005)
        self.assertEqual(len(exact[0]), 384)
        self.assertAlmostEqual(math.sqrt(sum(x * x for x in exact[0])), 1, places=4)
        found = [cosine(exact[1], each) for each in exact[2:]]
        self.assertEqual(found, sorted(found, reverse=True))
        for value, expected in zip(found, LIKE_HAPPY.values()):
            self.assertAlmostEqual(value, expected, delta=0.0005)

        for name, least in (("minilm", 0.999), ("minilm-4bit", 0.98)):
            for text, vector, whole in zip(texts, self.embed(daemon, name, texts), exact):
                self.assertGreater(cosine(vector, whole), least, f"{name}: {text}")

    def test_the_kind_is_known_and_the_file_describes_itself(self):
        daemon = self.make(config="models: {}\n", worker=program("LLM_MANAGER_REAL_WORKER"))
        self.import_into(daemon, "minilm")
        daemon.start()
        self.assertEqual(daemon.load("minilm").status, 200)
        model = daemon.model("minilm")
        self.assertEqual(model["kind"], "embedding")


class Daemons(Importer):
    """A model_path that names a checkpoint: imported once, then loaded like any other."""

    def config(self, folder, **more):
        return json.dumps({"models": {"embedding": {"model_path": str(folder), **more}}})

    def start_with(self, folder, **more):
        return self.make(config=self.config(folder, **more), worker=program("LLM_MANAGER_REAL_WORKER")).start()

    def wait_imported(self, daemon):
        events = daemon.events(last_id=0)
        began = events.wait("import")
        ended = events.wait("job", job=began["job"])
        return ended

    def test_a_checkpoint_is_imported_once_and_loaded(self):
        daemon = self.start_with(CHECKPOINT, quantize="none")
        self.assertIsNone(self.wait_imported(daemon)["error"])
        answer = daemon.post("/v1/embeddings", {"model": "embedding", "input": "This is an example sentence"})
        self.assertEqual(answer.status, 200, answer)
        for value, expected in zip(answer.json()["data"][0]["embedding"], (0.0677, 0.0635, 0.0487)):
            self.assertAlmostEqual(value, expected, delta=0.0005)
        files = list(pathlib.Path(daemon.folder).rglob("all-minilm-l6-v2-*.gguf"))
        self.assertEqual(len(files), 1)
        made = files[0].stat()

        self.assertEqual(daemon.stop(), [])
        daemon.start()
        again = daemon.post("/v1/embeddings", {"model": "embedding", "input": "Hello"})
        self.assertEqual(again.status, 200, again)
        self.assertEqual(files[0].stat().st_ino, made.st_ino)

    def test_several_wait_for_each_other_and_each_ends_once(self):
        folders = []
        for _ in range(3):
            folders.append(self.copy_of_checkpoint())
            config = json.loads((folders[-1] / "config.json").read_text())
            (folders[-1] / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
        entries = "".join(f"  m{i}: {{model_path: {folder}, kind: embedding}}\n" for i, folder in enumerate(folders))
        daemon = self.make({}, "models:\n" + entries, worker=program("LLM_MANAGER_REAL_WORKER")).start()
        events = daemon.events(last_id=0)
        deadline = time.monotonic() + 60
        for i in range(3):
            while (answer := daemon.post("/v1/embeddings", {"model": f"m{i}", "input": "Hello"})).error()["code"] == "importing":
                self.assertLess(time.monotonic(), deadline, answer)
            self.assertEqual(answer.error()["code"], "unsupported_model", answer)
        events.sync()
        ended = [job["job"] for job in events.all("job") if (job["error"] or {}).get("code") == "unsupported_model"]
        self.assertEqual(len(ended), 3, "each ends")
        self.assertEqual(len(set(ended)), 3, "and once")

    def test_what_cannot_be_imported_says_why_and_is_tried_again_when_it_was_mended(self):
        folder = self.copy_of_checkpoint()
        right = (folder / "config.json").read_text()
        (folder / "config.json").write_text(json.dumps({**json.loads(right), "model_type": "mamba"}))
        daemon = self.start_with(folder)
        events = daemon.events(last_id=0)
        self.assertEqual(events.wait("job")["error"]["code"], "unsupported_model")
        refused = daemon.post("/v1/embeddings", {"model": "embedding", "input": "Hello"})
        self.assertEqual(refused.error()["code"], "unsupported_model", refused)
        self.assertIn("'mamba'", refused.error()["message"])

        (folder / "config.json").write_text(right)
        mark = events.mark()
        daemon.signal(signal.SIGHUP)
        self.assertIsNone(events.wait("job", since=mark)["error"])
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "Hello"}).status, 200)


class StandIns(Importer):
    """With an importer of our own: what the daemon does where the engine refuses its file, or the disk is full."""

    def start_with(self, script):
        """The script has the folder in $1, the file in $2, and in $4 the type where one was asked for."""
        folder = self.place()
        checkpoint, importer = folder / "checkpoint", folder / "importer"
        checkpoint.mkdir()
        for name in ("config.json", "model.safetensors"):
            (checkpoint / name).write_text("{}")
        importer.write_text(f"#!/bin/sh\n{script}\n")
        importer.chmod(0o755)
        config = json.dumps({"models": {"llm": {"model_path": str(checkpoint)}}})
        return self.start({}, config, folder=str(folder), worker=worker_beside(importer, folder))

    def test_the_next_quantisation_takes_the_place_of_what_is_refused(self):
        for how in ("fail", "fail_inspection"):
            with self.subTest(how):
                daemon = self.start_with(f'case "$4" in 8bit) text= ;; *) text={how}=unsupported_model ;; esac; echo "$text" > "$2"')
                daemon.events(last_id=0).wait("job", error=None)
                refused = daemon.load("llm")
                self.assertEqual(refused.error()["code"], "unsupported_model", refused)
                self.assertIn("imported again, as 8bit", refused.error()["message"])
                self.assertEqual(daemon.load("llm").status, 200)
                self.assertEqual(daemon.chat("llm").status, 200)
                warnings = daemon.get("/api/v1/system").json()["warnings"]
                self.assertEqual(len([w for w in warnings if "imported as 8bit instead" in w]), 1, warnings)

    def test_what_failed_for_want_of_room_is_tried_again_by_the_next_load(self):
        full = {"kind": "failed", "code": "resource_exhausted", "reason": "disk_full", "message": "no room"}
        daemon = self.start_with(f"[ -e \"$1/../room\" ] && exec touch \"$2\"; echo '{json.dumps(full)}'; exit 1")
        events = daemon.events(last_id=0)
        self.assertEqual(events.wait("job")["error"]["code"], "disk_full")
        self.assertEqual(daemon.chat("llm").error()["code"], "disk_full")
        self.assertEqual(daemon.load("llm").error()["code"], "disk_full")
        (pathlib.Path(daemon.folder) / "room").touch()
        self.assertEqual(daemon.load("llm").status, 200)


class Interruptions(Importer):
    def test_kill_9_leaves_nothing_visible_and_the_next_import_works(self):
        out = self.place() / "model.gguf"
        # Its pipe holds less than all that it has to tell, so that it cannot end before it is killed.
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        importer = subprocess.Popen([program("LLM_MANAGER_IMPORTER"), str(CHECKPOINT), str(out)], stdout=writer)
        os.close(writer)
        first = os.read(reader, 16)
        self.assertTrue(first.startswith(b'{"kind":"progress'[:16]), first)
        children = pathlib.Path(f"/proc/{importer.pid}/task/{importer.pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        importer.kill()
        importer.wait()
        os.close(reader)
        self.assertEqual(importer.returncode, -signal.SIGKILL)
        self.assertEqual(wait_gone([int(pid) for pid in children], 10), [])
        self.assertFalse(out.exists())
        self.run_importer(CHECKPOINT, out)
        self.assertTrue(out.exists())
        self.assertEqual(list(out.parent.glob(".*")), [], "what was left behind was taken over")

    def test_a_refusal_leaves_what_was_there(self):
        folder = self.copy_of_checkpoint()
        out = folder.parent / "model.gguf"
        out.write_text("before")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
        self.run_importer(folder, out, status=1)
        self.assertEqual(out.read_text(), "before")
        self.assertEqual(list(out.parent.glob(".*")), [])


class Hostile(Importer):
    """Each ends with one line that says why, within the sandbox's limits."""

    def refused(self, folder, reason="invalid_checkpoint"):
        last = self.run_importer(folder, folder.parent / "out.gguf", status=1)[-1]
        self.assertEqual(last["kind"], "failed")
        self.assertEqual(last["reason"], reason, last)
        self.assertFalse((folder.parent / "out.gguf").exists())
        return last["message"]

    def with_header(self, header, tail=b""):
        folder = self.copy_of_checkpoint()
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        (folder / "model.fp16.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + tail)
        return folder

    def test_an_architecture_that_nobody_built(self):
        folder = self.copy_of_checkpoint()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba2", "architectures": ["Mamba2"]}))
        message = self.refused(folder, "unsupported_model")
        self.assertIn("'mamba2'", message)
        for supported in ("Qwen3ForCausalLM", "LlamaForCausalLM", "BertModel", "XLMRobertaModel"):
            self.assertIn(supported, message)

    def test_headers_that_lie(self):
        tensor = {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}
        for header, tail, word in (
                ({"a": {**tensor, "shape": [2**40, 2**40]}}, b"\0" * 8, "contradict"),
                ({"a": {**tensor, "data_offsets": [0, 2**62]}}, b"\0" * 8, "truncated"),
                ({"a": tensor, "b": {**tensor, "data_offsets": [4, 12]}}, b"\0" * 12, "overlaps"),
                ({"a": tensor}, b"\0" * 9, "follow"),
                (b"[" * 100000, b"", "deep"),
                (b"{}" + b" " * 10, b"", "missing")):
            with self.subTest(word):
                self.assertIn(word, self.refused(self.with_header(header, tail)))

    def test_a_weight_that_is_no_number(self):
        folder = self.copy_of_checkpoint()
        file = folder / "model.fp16.safetensors"
        with file.open("r+b") as weights:
            length = struct.unpack("<Q", weights.read(8))[0]
            place = json.loads(weights.read(length))["embeddings.word_embeddings.weight"]["data_offsets"][0]
            weights.seek(8 + length + place + 2000)
            weights.write(b"\x00\x7c")  # infinite
        self.assertIn("token_embd.weight", self.refused(folder))

    def test_a_folder_that_is_none(self):
        folder = self.place() / "nothing"
        folder.mkdir()
        self.assertIn("no config.json", self.refused(folder))


if __name__ == "__main__":
    unittest.main()
