#!/usr/bin/env python3
"""Models that other tools keep: found by the daemon, loaded where they lie, never touched."""
import hashlib
import json
import pathlib
import signal
import time
import unittest

from daemon import PATIENCE_S, DaemonTest, fake_model


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

    def wait_listed(self, daemon, model):
        """Ollama's store is read in a child, a moment after the start."""
        deadline = time.monotonic() + PATIENCE_S
        while model not in self.models(daemon):
            self.assertLess(time.monotonic(), deadline, daemon.errors())

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
        daemon = self.start(folder=folder)
        self.wait_listed(daemon, "llama3.2-1b")
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
        daemon = self.start({}, off, folder=folder)
        self.assertEqual(sorted(self.models(daemon)), ["mine"])
        events = daemon.events()
        daemon.config.write_text(off.replace("ollama: off", f"ollama: {folder}/.ollama/models"))
        daemon.signal(signal.SIGHUP)
        events.wait("config")
        self.wait_listed(daemon, "llama3.2-1b")
        self.assertNotIn("studio-q4_0", self.models(daemon))


if __name__ == "__main__":
    unittest.main()
