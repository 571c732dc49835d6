"""What the daemon is told by files and flags, at start and by SIGHUP; and two daemons that want the same."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest

from daemon import DaemonTest, alive, fake_model, wait_gone

# The file in the users' guide, as it stands.
GUIDE = """\
models:
  llm:
    model_path: "/path/to/Qwen-8B"
    device: "cuda"
    max_length: 4096
    temperature: 0.7
    top_p: 0.9
    top_k: 50
  
  embedding:
    model_path: "/path/to/Qwen3-Embedding-0.6B" 
    max_length: 512
    batch_size: 32

vtuber:
  response:
    max_tokens: 150
    min_tokens: 10
    filter_repetition: true
    enable_traditional_chinese: true
"""


class AtStart(DaemonTest):
    def test_the_guides_file_is_accepted_as_it_stands(self):
        daemon = self.start({"alpha": fake_model()}, config=GUIDE)
        models = {m["id"]: m for m in daemon.get("/api/v1/models").json()["models"]}
        for name, path in (("llm", "/path/to/Qwen-8B"), ("embedding", "/path/to/Qwen3-Embedding-0.6B")):
            model = next(m for m in models.values() if m["path"] == path)
            self.assertEqual(model["state"], "failed")
            self.assertIn(path, model["error"]["message"])
            self.assertIn(path, daemon.errors())
        # The error is that model's alone.
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertEqual(daemon.chat("llm").status, 404)

    def test_the_guides_file_with_real_paths_works(self):
        daemon = self.make({"Qwen-8B": fake_model(say="here"), "Qwen3-Embedding-0.6B": fake_model(kind="embedding")})
        text = GUIDE.replace("/path/to/Qwen-8B", str(daemon.models / "Qwen-8B.gguf"))
        daemon.config.write_text(text.replace("/path/to/Qwen3-Embedding-0.6B", str(daemon.models / "Qwen3-Embedding-0.6B.gguf")))
        daemon.start()
        self.assertEqual(daemon.chat("llm", fake_tokens=1).json()["choices"][0]["message"]["content"], "here")
        self.assertEqual(daemon.chat("chat", fake_tokens=1).status, 200)
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "x"}).status, 200)
        # Without a name: the role's.
        self.assertEqual(daemon.post("/v1/chat/completions", {"messages": []}).status, 200)
        self.assertEqual(daemon.post("/v1/embeddings", {"input": "x"}).status, 200)
        # There is no card here: told, and run on the host.
        if not any(d["kind"] != "host" for d in daemon.get("/api/v1/devices").json()["devices"]):
            self.assertIn("runs on the host", daemon.errors())
        # The explicit context reached the worker.
        self.assertEqual(daemon.model(daemon.get("/v1/models/llm").json()["id"])["instance"]["context"], 4096)

    def test_errors_name_file_line_key_and_what_was_meant(self):
        for text, line, key, meant in (("residency:\n  mode: fit\n  max_load: 1\n", 3, "max_load", "max_loaded"),
                                       ("residency: {mode: fits}\n", 1, "fits", "fit"),
                                       ("server:\n  listen: [1]\n", 2, "listen", "")):
            with self.subTest(text=text):
                daemon = self.make({"alpha": fake_model()}, config=text)
                code, said = daemon.run_to_end()
                self.assertEqual(code, 2, said)
                self.assertIn(f"{daemon.config}:{line}", said)
                self.assertIn(key, said)
                self.assertIn(meant, said)

    def test_sections_that_are_not_ours_warn_once(self):
        daemon = self.start({"alpha": fake_model()}, config="residensy: {mode: fit}\nmodels: {llm: {model_path: x.gguf, colour: red}}\n")
        warnings = daemon.get("/api/v1/system").json()["warnings"]
        for word in ("residensy", "colour"):
            self.assertEqual(sum(word in w for w in warnings), 1, warnings)
            self.assertEqual(daemon.errors().count(word), 1)

    def test_names_that_nothing_has_are_told(self):
        daemon = self.start({"alpha": fake_model()}, config="devices: {hots: {limit: 2GB}}\nroles: {chat: nope}\n")
        warnings = daemon.get("/api/v1/system").json()["warnings"]
        self.assertEqual(sum("devices.hots" in w and "did you mean host?" in w for w in warnings), 1, warnings)
        self.assertTrue(any("roles.chat" in w and "nope" in w for w in warnings), warnings)
        self.assertIn("nope", daemon.errors())
        asked = daemon.chat(model="chat")
        self.assertEqual(asked.status, 404)
        self.assertIn("roles.chat: no model is named nope", asked.json()["error"]["message"])
        checks = daemon.get("/api/v1/diagnose").json()["checks"]
        for word in ("hots", "nope"):
            self.assertTrue(any(word in c["message"] for c in checks if c["status"] == "warning"), checks)

    def test_a_quantisation_that_nobody_makes(self):
        daemon = self.make({"alpha": fake_model()}, config="models:\n  llm:\n    quantize: 5bit\n")
        code, said = daemon.run_to_end()
        self.assertEqual(code, 2, said)
        self.assertIn(f"{daemon.config}:3", said)
        self.assertIn("8bit", said)

    def test_a_file_whose_name_is_no_text_harms_no_list(self):
        daemon = self.make({"alpha": fake_model()})
        with open(os.path.join(os.fsencode(daemon.models), b"caf\xe9.gguf"), "wb") as file:
            file.write(b"GGUF")
        daemon.start()
        for path in ("/api/v1/models", "/v1/models", "/api/v1/system", "/api/v1/diagnose", "/api/v1/instances"):
            json.loads(daemon.get(path).body.decode())  # UTF-8, strictly
        self.assertEqual([m["id"] for m in daemon.get("/api/v1/models").json()["models"] if m["family"] == "local"], ["alpha"])
        self.assertIn("caf\\xE9.gguf", daemon.errors())
        self.assertEqual(daemon.chat("alpha").status, 200)

    def test_a_clean_end_leaves_nothing_in_shared_memory(self):
        before = set(os.listdir("/dev/shm"))
        daemon = self.start({"alpha": fake_model()})
        self.assertEqual(daemon.chat("alpha").status, 200)
        made = {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("llm-manager-")}
        self.assertTrue(made)
        daemon.stop()
        # Another daemon of this machine may have made one meanwhile: ours is gone.
        self.assertTrue(made - set(os.listdir("/dev/shm")), made)

    def test_a_file_that_is_no_yaml(self):
        daemon = self.make({"alpha": fake_model()}, config="models: {llm: [\n")
        code, said = daemon.run_to_end()
        self.assertEqual(code, 2, said)
        self.assertIn(str(daemon.config), said)

    def test_a_config_file_that_is_not_there(self):
        daemon = self.make({"alpha": fake_model()})
        daemon.config.unlink()
        code, said = daemon.run_to_end()
        self.assertEqual(code, 2, said)
        self.assertIn(str(daemon.config), said)

    def test_flags_that_are_wrong(self):
        daemon = self.make({"alpha": fake_model()}, listen="nowhere")
        code, said = daemon.run_to_end()
        self.assertNotEqual(code, 0)
        self.assertIn("nowhere", said)

    def test_a_worker_program_that_is_not_there(self):
        daemon = self.make({"alpha": fake_model()}, worker="/nowhere/llm-worker")
        code, said = daemon.run_to_end()
        self.assertEqual(code, 1, said)
        self.assertIn("/nowhere/llm-worker", said)


class Reload(DaemonTest):
    def test_sighup_reloads_and_tells_what_changed(self):
        daemon = self.start({"alpha": fake_model(), "beta": fake_model()}, config="residency: {keep_alive: 5min}\n")
        daemon.load("alpha")
        pid = daemon.worker("alpha").pid
        log = daemon.events()
        daemon.write_model("gamma", fake_model())
        daemon.config.write_text("residency: {keep_alive: 7min}\nmodels: {fine: {model_path: models/beta.gguf, max_length: 1234}}\n")
        daemon.signal(signal.SIGHUP)
        news = log.wait("config")
        self.assertTrue(any("keep_alive" in c for c in news["changes"]), news)
        self.assertIn("gamma is there now", news["changes"])
        self.assertEqual(daemon.chat("gamma").status, 200)
        self.assertEqual(daemon.chat("fine").status, 200)
        self.assertEqual(daemon.model("fine")["instance"]["context"], 1234)
        # What did not change stays loaded.
        self.assertEqual(daemon.worker("alpha").pid, pid)
        expires = daemon.model("alpha")["instance"]["expires_in_s"]
        self.assertGreater(expires, 5 * 60)

    def test_a_bad_file_is_told_and_nothing_changes(self):
        daemon = self.start({"alpha": fake_model()}, config="residency: {keep_alive: 5min}\n")
        log = daemon.events()
        daemon.config.write_text("residency: {keep_alive: soon}\n")
        daemon.signal(signal.SIGHUP)
        # The next reload that works shows that the bad one was survived.
        self._wait_for_text(daemon, "was not reloaded")
        self.assertEqual(daemon.chat("alpha").status, 200)
        daemon.config.write_text("residency: {keep_alive: 6min}\n")
        daemon.signal(signal.SIGHUP)
        log.wait("config")

    def _wait_for_text(self, daemon, text):
        """Asks the daemon, which is one thread, until it has written that."""
        for _ in range(10_000):
            daemon.get("/health")
            if text in daemon.errors():
                return
        self.fail(f"it never wrote {text!r}: {daemon.errors()}")

    def test_a_model_that_is_taken_out_goes(self):
        daemon = self.start({"alpha": fake_model(), "beta": fake_model()})
        daemon.load("beta")
        pid = daemon.worker("beta").pid
        log = daemon.events()
        (daemon.models / "beta.gguf").unlink()
        daemon.signal(signal.SIGHUP)
        self.assertEqual(log.wait("config")["changes"], ["beta is gone"])
        self.assertEqual(wait_gone([pid], 10), [])
        self.assertEqual(daemon.chat("beta").status, 404)
        self.assertEqual([m["id"] for m in daemon.get("/v1/models").json()["data"]], ["alpha"])

    def test_a_file_that_was_replaced_is_loaded_anew(self):
        daemon = self.start({"alpha": fake_model(say="old")})
        self.assertIn("old", daemon.chat("alpha").json()["choices"][0]["message"]["content"])
        other = daemon.models / "alpha.new"
        other.write_text(fake_model(say="new"))
        other.replace(daemon.models / "alpha.gguf")
        log = daemon.events()
        daemon.signal(signal.SIGHUP)
        log.wait("config")
        self.assertIn("new", daemon.chat("alpha").json()["choices"][0]["message"]["content"])


    def test_a_file_that_was_wrong_is_noticed_when_it_is_mended(self):
        daemon = self.start({"alpha": fake_model(fail="invalid_artifact"), "beta": fake_model()})
        log = daemon.events()
        self.assertEqual(daemon.chat("alpha").status, 400)
        log.wait("state", model="alpha", detail="failed")
        other = daemon.models / "alpha.new"
        other.write_text(fake_model(say="mended"))
        other.replace(daemon.models / "alpha.gguf")
        answer = daemon.chat("alpha")
        self.assertEqual(answer.status, 200, answer)
        self.assertIn("mended", answer.json()["choices"][0]["message"]["content"])


class NotStarted(DaemonTest):
    def refusal(self, daemon):
        done = subprocess.run([*daemon.arguments, "--json"], stdin=subprocess.DEVNULL, capture_output=True,
                              env=daemon.environment, cwd=daemon.folder, timeout=60)
        return done.returncode, json.loads(done.stdout)["error"], done.stderr.decode()

    def test_a_malformed_address_is_refused_before_anything_is_touched(self):
        for listen in ("nowhere", "127.0.0.1:", "127.0.0.1:99999", ":80", "127.0.0.1:http"):
            with self.subTest(listen=listen):
                daemon = self.make({"alpha": fake_model()}, listen=listen)
                code, error, said = self.refusal(daemon)
                self.assertEqual((code, error["code"], error["type"]), (2, "invalid_listen", "client_error"))
                self.assertIn(error["message"], said)
                self.assertIn("HOST:PORT", said)
                self.assertFalse(daemon.data.exists())

    def test_a_wrong_configuration_as_json(self):
        daemon = self.make({}, config="server: {lisen: 127.0.0.1:0}\n")
        code, error, said = self.refusal(daemon)
        self.assertEqual((code, error["type"]), (2, "client_error"))
        self.assertIn("listen", error["message"])
        self.assertIn("listen", said)

    def test_a_taken_port_as_json(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            daemon = self.make({"alpha": fake_model()}, listen=f"127.0.0.1:{other.getsockname()[1]}")
            code, error, said = self.refusal(daemon)
        self.assertEqual((code, error["type"]), (1, "client_error"))
        self.assertIn(error["message"], said)


class TwoDaemons(DaemonTest):
    def test_a_data_folder_has_one_daemon(self):
        first = self.start({"alpha": fake_model()})
        first.load("alpha")
        pid = first.worker("alpha").pid
        second = self.make({"alpha": fake_model()}, folder=first.folder)
        code, said = second.run_to_end()
        self.assertEqual(code, 1, said)
        self.assertIn("another daemon uses", said)
        self.assertIn(str(first.data), said)
        # It must not have taken the first one's workers for orphans.
        self.assertTrue(alive(pid))
        self.assertEqual(first.chat("alpha").status, 200)

    def test_a_port_has_one_daemon(self):
        first = self.start({"alpha": fake_model()})
        second = self.make({"alpha": fake_model()}, listen=first.address)
        code, said = second.run_to_end()
        self.assertEqual(code, 1, said)
        self.assertIn(first.address.rpartition(":")[2], said)
        self.assertEqual(second.workers(), [])
        self.assertEqual(first.chat("alpha").status, 200)

    def test_a_port_of_somebody_else(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            daemon = self.make({"alpha": fake_model()}, listen=f"127.0.0.1:{other.getsockname()[1]}")
            code, said = daemon.run_to_end()
        self.assertEqual(code, 1, said)
        self.assertEqual(daemon.workers(), [])


class Places(DaemonTest):
    def test_private_folders(self):
        daemon = self.start({"alpha": fake_model()})
        daemon.load("alpha")
        for folder in (daemon.data, daemon.data / "run"):
            self.assertEqual(os.stat(folder).st_mode & 0o077, 0, folder)
        self.assertEqual(os.stat(daemon.worker("alpha").socket).st_mode & 0o077, 0)

    def test_the_system_call_tells_where_everything_is(self):
        daemon = self.start({"alpha": fake_model()})
        system = daemon.get("/api/v1/system").json()
        self.assertEqual(system["pid"], daemon.pid)
        self.assertEqual(pathlib.Path(system["data"]), daemon.data)
        self.assertEqual(system["listening"], [f"http://{daemon.address}"])
        self.assertEqual(pathlib.Path(system["config_file"]), daemon.config)
        log_file = pathlib.Path(system["log_file"])
        self.assertIn("llm-manager", log_file.read_text())
        for check in daemon.get("/api/v1/diagnose").json()["checks"]:
            self.assertIn(check["status"], ("ok", "warning", "problem"))
        metrics = daemon.get("/metrics").body.decode()
        self.assertIn("llm_manager_model_ready", metrics)


class Ending(DaemonTest):
    def test_a_shutdown_lets_answers_end(self):
        daemon = self.start({"alpha": fake_model(token_ms=80, tokens=10)})
        stream = daemon.chat_stream("alpha")
        stream.event()
        daemon.signal(signal.SIGTERM)
        events = stream.events()
        self.assertEqual(events[-1].data, "[DONE]")

    def test_new_requests_are_refused_while_it_ends(self):
        daemon = self.start({"alpha": fake_model(token_ms=100, tokens=20), "beta": fake_model()})
        stream = daemon.chat_stream("alpha")
        stream.event()
        log = daemon.events()
        daemon.signal(signal.SIGTERM)
        log.wait("state", model="alpha", detail="draining")
        answer = daemon.chat("beta")
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.error()["code"], "shutting_down")
        self.assertEqual(stream.events()[-1].data, "[DONE]")

    def test_sigint_too_and_while_loading(self):
        daemon = self.start({"slow": fake_model(stage_ms=20000)})
        log = daemon.events()
        stream = daemon.chat_stream("slow")
        log.wait("progress", model="slow", stage="metadata")
        daemon.signal(signal.SIGINT)
        events = stream.events()
        # Told as an error, or, where the stream had not begun, by a status.
        self.assertTrue(stream.status == 503 or "error" in events[-1].data, (stream.status, events))

    def test_an_end_without_any_request(self):
        self.start({"alpha": fake_model()})
        self.start({})


if __name__ == "__main__":
    unittest.main(verbosity=2)
