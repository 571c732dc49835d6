#!/usr/bin/env python3
"""Models that other tools keep: found by the daemon, loaded where they lie, never touched."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import unittest

from daemon import DaemonTest, fake_model, program, worker_beside

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llm-manager"
CHECKPOINT = CACHE / "models" / "all-minilm-l6-v2"


class Stores(DaemonTest):
    def put(self, folder, name, text):
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def put_ollama(self, folder, name, tag, text):
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.put(folder, f".ollama/models/blobs/sha256-{digest}", text)
        layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(text)}]
        self.put(folder, f".ollama/models/manifests/registry.ollama.ai/library/{name}/{tag}",
                 json.dumps({"schemaVersion": 2, "layers": layers}))

    @staticmethod
    def models(daemon):
        return {model["id"]: (model["origin"], model["aliases"]) for model in daemon.get("/api/v1/models").json()["models"]}

    @staticmethod
    def wait_for_ollamas(daemon):
        """Its store is read in a child, a moment after the start or the reload."""
        daemon.events(last_id=0).wait("config", changes=["llama3.2-1b is there now"])

    def serve(self, folder, config=""):
        return self.start({}, config, folder=folder, worker=worker_beside(program("LLM_MANAGER_IMPORTER"), folder))

    def fill(self, folder):
        self.put_ollama(folder, "llama3.2", "1b", fake_model() + "# of Ollama")
        self.put_ollama(folder, "broken", "1b", fake_model() + "# another")
        self.put(folder, ".ollama/models/manifests/registry.ollama.ai/library/broken/1b", "[" * 5000)
        self.put(folder, ".lmstudio/models/owner/repo/studio-Q4_0.gguf", fake_model() + "# of LM Studio")
        twice = fake_model() + "# twice"
        self.put(folder, "models/mine.gguf", twice)
        self.put(folder, ".lmstudio/models/owner/repo/same.gguf", twice)
        self.put_ollama(folder, "also", "latest", twice)
        cache = ".cache/huggingface/hub/models--owner--tiny-GGUF"
        blob = self.put(folder, f"{cache}/blobs/{'a' * 64}", fake_model() + "# of the cache")
        self.put(folder, f"{cache}/refs/main", "1" * 40)
        link = pathlib.Path(folder) / cache / "snapshots" / ("1" * 40) / "cached-Q8_0.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)

    def test_all_are_listed_once_and_loaded_where_they_lie(self):
        folder = self.folder()
        self.fill(folder)
        daemon = self.serve(folder)
        self.wait_for_ollamas(daemon)
        models = self.models(daemon)
        self.assertEqual(sorted(models), ["cached-q8_0", "llama3.2-1b", "mine", "studio-q4_0"])
        self.assertEqual({id: origin for id, (origin, _) in models.items()}["llama3.2-1b"], "Ollama")
        self.assertEqual(sorted(models["mine"][1]), ["also", "same"])
        for model in ("llama3.2-1b", "cached-q8_0", "studio-q4_0", "same"):
            self.assertEqual(daemon.chat(model).status, 200, model)
        for model in ("llama3.2-1b", "cached-q8_0"):
            daemon.unload(model)
            refused = daemon.post("/api/v1/models/remove", {"model": model, "force": True})
            self.assertEqual((refused.status, refused.error()["code"]), (403, "not_ours"), refused)

    def test_each_can_be_switched_off(self):
        folder = self.folder()
        self.fill(folder)
        off = "sources: {ollama: off, lm_studio: off, huggingface: off}\n"
        daemon = self.serve(folder, off)
        self.assertEqual(sorted(self.models(daemon)), ["mine"])
        daemon.config.write_text(off.replace("ollama: off", f"ollama: {folder}/.ollama/models"))
        daemon.signal(signal.SIGHUP)
        self.wait_for_ollamas(daemon)
        self.assertNotIn("studio-q4_0", self.models(daemon))

    def test_a_checkpoint_in_the_cache_is_imported_once_it_is_asked_for(self):
        folder = pathlib.Path(self.folder())
        snapshots = folder / ".cache/huggingface/hub"
        shutil.copytree(CHECKPOINT, snapshots / "models--owner--minilm/snapshots" / ("1" * 40))
        whisper = snapshots / "models--owner--whisper/snapshots" / ("2" * 40)
        shutil.copytree(CHECKPOINT, whisper)
        config = json.loads((whisper / "config.json").read_text())
        (whisper / "config.json").write_text(json.dumps({**config, "model_type": "whisper", "architectures": ["Whisper"]}))
        # One whose file lies beside it is that file.
        shutil.copytree(CHECKPOINT, folder / "models" / "mine")
        self.put(folder, "models/mine.gguf", fake_model())
        daemon = self.start({}, "", folder=str(folder), worker=program("LLM_MANAGER_REAL_WORKER"))
        daemon.events(last_id=0).wait("config", changes=["minilm is there now"])
        self.assertEqual(sorted(self.models(daemon)), ["mine", "minilm"])
        self.assertEqual((daemon.model("minilm")["error"]["code"], daemon.model("minilm")["kind"]), ("not_imported", "embedding"))
        self.assertEqual(list(daemon.data.rglob("*.gguf")), [], "nothing is imported before somebody asks")
        events = daemon.events()
        asked = daemon.post("/v1/embeddings", {"model": "minilm", "input": "This is an example sentence"})
        self.assertEqual(asked.status, 503, asked)
        self.assertIn("Retry-After", asked.headers)
        self.assertIsNone(events.wait("job")["error"])
        answer = daemon.post("/v1/embeddings", {"model": "minilm", "input": "This is an example sentence"})
        self.assertEqual(answer.status, 200, answer)
        for value, expected in zip(answer.json()["data"][0]["embedding"], (0.0677, 0.0635, 0.0487)):
            self.assertAlmostEqual(value, expected, delta=0.002)
        # The next daemon has it at once.
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(daemon.load("minilm").status, 200)


if __name__ == "__main__":
    unittest.main()
