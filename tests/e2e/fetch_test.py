#!/usr/bin/env python3
"""Models that are named by where they come from: loading one fetches and imports it, and says how far it is."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fake_hub"))
from daemon import PATIENCE_S, DaemonTest, fake_model, program  # noqa: E402
from hub import Hub  # noqa: E402
from pull_test import environment_of, tuning, visible  # noqa: E402

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llm-manager"
CHECKPOINT = CACHE / "models" / "all-minilm-l6-v2"


class Fetching(DaemonTest):
    def hub(self, trouble=None):
        hub = Hub(trouble)
        self.addCleanup(hub.close)
        return hub

    def serve(self, hub, config="models: {}\n", models=None, worker=None, **variables):
        folder = self.folder()
        # In pieces as they come from a hub: the checkpoint is a thousand times as large as what pull_test takes.
        variables.setdefault("LLM_MANAGER_PULL_TUNING", tuning(chunk=8 << 20, silence_ms=30_000))
        return self.start(models or {}, config, folder=folder, worker=worker, environment=environment_of(hub, folder, **variables))

    def command(self, daemon, *words, code=0):
        done = subprocess.run([program("LLM_MANAGER"), "--url", f"http://{daemon.address}", *words],
                              capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "HOME": str(daemon.folder)})
        self.assertEqual(done.returncode, code, done)
        return done

    @staticmethod
    def add_tiny(hub):
        hub.add("owner/tiny-GGUF", {"tiny-Q4_K_M.gguf": fake_model().encode() + b"#" * 400_000, "tiny-Q8_0.gguf": b"x"})

    @staticmethod
    def add_minilm(hub):
        modules = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                   for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))]
        hub.add("owner/minilm", {**{path.name: path.read_bytes() for path in CHECKPOINT.iterdir() if path.is_file()},
                                 "modules.json": json.dumps(modules).encode(),
                                 "1_Pooling/config.json": b'{"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}'})

    def test_a_load_fetches_and_says_how_far_it_is(self):
        hub = self.hub()
        self.add_tiny(hub)
        daemon = self.serve(hub, MODEL_NAME="owner/tiny-GGUF")
        self.assertEqual(sum(hub.sent.values()), 0, "nothing is fetched before somebody asks")
        self.assertEqual(daemon.model("llm")["error"]["code"], "not_fetched")
        done = self.command(daemon, "load", "llm")
        self.assertIn("fetching it", done.stderr)
        self.assertEqual(daemon.chat("llm").status, 200)
        self.assertEqual(list(hub.sent), ["owner/tiny-GGUF/tiny-Q4_K_M.gguf"])
        # The next daemon finds it.
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(daemon.chat("chat").status, 200)

    def test_a_request_begins_it_and_is_told_to_come_again(self):
        hub = self.hub()
        self.add_tiny(hub)
        daemon = self.serve(hub, "models: {llm: {model_path: 'hf:owner/tiny-GGUF:Q4_K_M'}}\n")
        events = daemon.events()
        refused = daemon.chat("llm")
        self.assertEqual((refused.status, refused.error()["code"]), (503, "not_fetched"), refused)
        self.assertIn("Retry-After", refused.headers)
        events.wait("pull", state="done")
        self.assertEqual(daemon.chat("llm").status, 200)
        self.assertEqual(len(daemon.get("/api/v1/pulls").json()["pulls"]), 1)

    def test_what_cannot_be_fetched_says_why(self):
        daemon = self.serve(self.hub(), MODEL_NAME="owner/none")
        failed = daemon.post("/api/v1/models/load", {"model": "llm"})
        self.assertEqual(failed.error()["code"], "not_found", failed)
        # A request does not ask the hub again and again.
        self.assertEqual(daemon.chat("llm").error()["code"], "not_found")
        self.assertEqual(len(daemon.get("/api/v1/pulls").json()["pulls"]), 1)

    def vector(self, daemon, model):
        answer = daemon.post("/v1/embeddings", {"model": model, "input": "This is an example sentence"})
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["data"][0]["embedding"]

    def test_a_checkpoint_is_fetched_imported_and_loaded(self):
        hub = self.hub()
        self.add_minilm(hub)
        daemon = self.serve(hub, worker=program("LLM_MANAGER_REAL_WORKER"), EMBEDDING_MODEL_NAME="owner/minilm")
        done = self.command(daemon, "load", "embedding")
        self.assertIn("importing it", done.stderr)
        for value, expected in zip(self.vector(daemon, "embedding"), (0.0677, 0.0635, 0.0487)):
            self.assertAlmostEqual(value, expected, delta=0.002)

    def test_a_pulled_checkpoint_is_a_model_until_it_is_removed(self):
        hub = self.hub()
        self.add_minilm(hub)
        daemon = self.serve(hub, worker=program("LLM_MANAGER_REAL_WORKER"))
        pulled = daemon.post("/api/v1/pull", {"source": "hf:owner/minilm"}).json()
        self.assertEqual(pulled["models"], ["minilm"], pulled)
        self.assertEqual([model["id"] for model in daemon.get("/api/v1/models").json()["models"]], ["minilm"])
        self.command(daemon, "load", "minilm")
        self.assertEqual(len(self.vector(daemon, "minilm")), 384)
        daemon.unload("minilm")
        self.assertIn("minilm is removed", self.command(daemon, "rm", "minilm").stdout)
        self.assertEqual(visible(daemon.folder / ".cache/llm-manager/models"), [])
        self.assertEqual([p for p in pathlib.Path(daemon.folder).rglob("minilm-*.gguf") if ".pull" not in p.parts], [])
        self.assertEqual(daemon.get("/api/v1/models").json()["models"], [])

    def test_a_key_in_an_address_is_shown_to_nobody(self):
        hub = self.hub()
        hub.add_plain("tiny.gguf", b"# a model\n")
        daemon = self.serve(hub, f"models: {{llm: {{model_path: '{hub.url}/plain/tiny.gguf?token=SECRET'}}}}\n")
        listed = [daemon.get(path).body for path in ("/api/v1/models", "/v1/models", "/api/v1/explain?model=llm")]
        self.command(daemon, "load", "llm")
        listed += [daemon.get(path).body for path in ("/api/v1/models", "/api/v1/pulls")]
        self.assertEqual([body for body in listed if b"SECRET" in body], [])
        self.assertNotIn("SECRET", daemon.errors())
        self.assertEqual(daemon.chat("llm").status, 200)

    def test_what_another_tool_has_is_not_fetched(self):
        hub, folder = self.hub(), pathlib.Path(self.folder())
        snapshot = folder / ".cache/huggingface/hub/models--owner--tiny/snapshots" / ("1" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "tiny-Q4_0.gguf").write_text(fake_model())
        daemon = self.start({}, "models: {llm: {model_path: owner/tiny}}\n", folder=folder, environment=environment_of(hub, folder))
        self.assertEqual(daemon.chat("llm").status, 200)
        self.assertEqual(hub.requests, [])


if __name__ == "__main__":
    unittest.main()
