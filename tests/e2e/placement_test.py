"""Several devices, for real: llama.cpp's RPC servers on loopback, each a device to the engine. Where models are placed,
that a model answers the same however it is cut, and what becomes of it when one of its devices dies."""
import contextlib
import os
import select
import socket
import subprocess
import time
import unittest

from daemon import PATIENCE_S, program
from real_engine_test import QUESTION, RealEngine, model_file

MIB = 1 << 20


class RpcServer:
    """One device: a process that serves one client at a time."""

    def __init__(self, port=None):
        self.program = os.path.join(os.path.dirname(program("LLM_MANAGER_REAL_WORKER")), "ggml-rpc-server")
        if not os.access(self.program, os.X_OK):
            raise AssertionError(f"{self.program} is not there: scripts/bootstrap --peer builds it")
        if port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.program, "--host", "127.0.0.1", "--port", str(self.port), "--threads", "1"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # It does not say when it listens: asked until it does, or is dead.
        deadline = time.monotonic() + PATIENCE_S
        death = os.pidfd_open(self.process.pid)
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
                if select.select([death], [], [], 0.02)[0]:
                    break
        finally:
            os.close(death)
        self.stop()
        raise AssertionError(f"{self.program} does not listen on {self.address}")

    def stop(self):
        self.process.kill()
        self.process.wait()


class PlacementTest(RealEngine):
    def devices(self, count):
        servers = []
        for _ in range(count):
            server = RpcServer()
            self.addCleanup(server.stop)
            servers.append(server)
        return servers

    def on_devices(self, servers, models, more="", **of_device):
        """A daemon with these devices. `models`: the section's lines."""
        listed = ", ".join(f'"{s.address}"' for s in servers)
        limits = "".join(f"  {name}: {{limit: {limit}}}\n" for name, limit in of_device.items())
        return self.start_real(config=f"{more}devices:\n  rpc: [{listed}]\n{limits}models:\n{models}")

    def llm(self, more=""):
        return f"  llm: {{model_path: {model_file('models', '*tinyllama*.gguf')}, max_length: 512, parallel: 1{more}}}\n"

    def embedding(self, more=""):
        return f"  embedding: {{model_path: {model_file('models-test', 'tiny-embed.gguf')}{more}}}\n"

    def answer(self, daemon, model="llm"):
        answer = daemon.chat(model, QUESTION, temperature=0, max_tokens=16)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["choices"][0]["message"]["content"]

    @staticmethod
    def shares(daemon, model):
        return [(s["device"], s["layers"]) for s in daemon.model(model)["instance"]["placement"]]

    @staticmethod
    def device(daemon, name):
        return next(d for d in daemon.get("/api/v1/devices").json()["devices"] if d["id"] == name)


class Layouts(PlacementTest):
    def test_five_as_the_guide_says(self):
        daemon = self.on_devices(self.devices(5), self.llm() + self.embedding())
        listed = daemon.get("/api/v1/devices").json()["devices"]
        self.assertEqual([d["id"] for d in listed], ["host"] + [f"rpc{i}" for i in range(5)])
        for device in listed[1:]:
            self.assertEqual((device["kind"], device["usable"]), ("rpc", True))
            self.assertGreater(device["capacity"], 0)
            self.assertIn("behind an RPC server", device["unknown"])

        text = self.answer(daemon)
        self.assertIn("Paris", text)
        shares = self.shares(daemon, "llm")
        self.assertEqual([device for device, _ in shares], ["rpc0", "rpc1", "rpc2", "rpc3"])
        self.assertEqual(sum(layers for _, layers in shares), 23, "22 layers and the output")
        instance = daemon.model("llm")["instance"]
        weights = {device: told["weights"] for device, told in instance["memory"].items()}
        for device, layers in shares:
            self.assertGreater(weights[device], 20 * MIB)
            self.assertEqual(instance["held_bytes"][device], sum(instance["memory"][device][part] for part in ("weights", "context", "compute")))
            self.assertGreater(self.device(daemon, device)["reserved"], 20 * MIB)
        self.assertNotIn("rpc4", weights)
        self.assertTrue(any("it lies where it was placed" in d["why"] for d in daemon.decisions("llm", "load")), daemon.decisions("llm"))

        vectors = daemon.post("/v1/embeddings", {"model": "embedding", "input": "a sentence"})
        self.assertEqual(vectors.status, 200, vectors)
        self.assertEqual(self.shares(daemon, "embedding"), [("rpc4", None)])
        self.assertEqual(daemon.model("llm")["state"], "ready", "each has a device of its own")
        self.assertEqual(self.answer(daemon), text)

    def test_however_it_is_cut_it_says_the_same(self):
        # One daemon after the other: every RPC server has one client.
        servers = self.devices(4)
        texts = {}
        for count, limit in ((1, None), (2, "230MB"), (4, "146MB")):
            limits = {f"rpc{i}": limit for i in range(count)} if limit else {}
            daemon = self.on_devices(servers[:count], self.llm(), **limits)
            texts[count] = self.answer(daemon)
            self.assertEqual(len(self.shares(daemon, "llm")), count, self.shares(daemon, "llm"))
            if limit:
                for device, _ in self.shares(daemon, "llm"):
                    self.assertLessEqual(self.device(daemon, device)["reserved"], self.device(daemon, device)["limit"])
            self.assertEqual(daemon.stop(), [])
        self.assertIn("Paris", texts[1])
        self.assertEqual(set(texts.values()), {texts[1]})

    def test_with_fewer_the_embedding_model_takes_the_last(self):
        for count, text_on in ((4, ["rpc0", "rpc1", "rpc2"]), (2, ["rpc0"])):
            daemon = self.on_devices(self.devices(count), self.llm(", layout: guide") + self.embedding(", layout: guide"))
            self.answer(daemon)
            self.assertEqual([device for device, _ in self.shares(daemon, "llm")], text_on)
            self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "a"}).status, 200)
            self.assertEqual(self.shares(daemon, "embedding"), [(f"rpc{count - 1}", None)])
            self.assertEqual(daemon.model("llm")["state"], "ready")

    def test_one_device_is_shared_in_turns(self):
        daemon = self.on_devices(self.devices(1), self.llm() + self.embedding())
        log = daemon.events()
        text = self.answer(daemon)
        self.assertEqual(self.shares(daemon, "llm"), [("rpc0", None)])
        mark = log.mark()
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "a"}).status, 200)
        # An RPC server has one client: the other one makes room.
        gone = log.wait("state", since=mark, model="llm", detail="absent")
        self.assertEqual(gone["cause"], "evicted")
        release = gone["release"]
        self.assertEqual(release["outcome"], "unknown", "nobody here measures what is behind the server")
        self.assertEqual({row["device"]: row["freed"] for row in release["devices"]}["rpc0"], 0)
        self.assertEqual(self.shares(daemon, "embedding"), [("rpc0", None)])
        self.assertEqual(self.answer(daemon), text)

    def test_the_owners_word(self):
        servers = self.devices(3)
        daemon = self.on_devices(servers, self.llm(", devices: [rpc1, rpc2], max_devices: 1, reserve: {rpc1: 23GB}"))
        self.answer(daemon)
        self.assertEqual(self.shares(daemon, "llm"), [("rpc2", None)])
        self.assertEqual(daemon.stop(), [])
        daemon = self.on_devices(servers, self.llm(", device: rpc2, gpu_layers: 3"))
        self.answer(daemon)
        self.assertEqual(self.shares(daemon, "llm"), [("rpc2", None)])
        memory = daemon.model("llm")["instance"]["memory"]
        self.assertGreater(memory["host"]["mapped"], memory["rpc2"]["weights"], "most of it stayed")
        self.assertEqual(daemon.stop(), [])
        small = {f"rpc{i}": "100MB" for i in range(3)}
        daemon = self.on_devices(servers, self.llm(", max_devices: 2"), **small)
        answer = daemon.chat("llm", QUESTION, max_tokens=1)
        self.assertEqual(answer.status, 507, answer)
        details = answer.error()["details"]
        self.assertTrue(details["device"].startswith("rpc"), details)
        self.assertGreater(details["needed"], details["free"])


class Losses(PlacementTest):
    def test_one_dies_in_the_middle(self):
        servers = self.devices(5)
        daemon = self.on_devices(servers, self.llm() + self.embedding())
        log = daemon.events()
        text = self.answer(daemon)
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "a"}).status, 200)
        embedding_pid = daemon.model("embedding")["instance"]["pid"]
        stream = daemon.chat_stream("llm", "Count to one hundred.", max_tokens=400, ignore_eos=True)
        self.assertIsNotNone(stream.event(), "it answers")
        mark = log.mark()
        servers[2].stop()
        events = stream.events()
        error = next(e.json()["error"] for e in events if "error" in e.json())
        self.assertEqual(error["code"], "device_lost", error)
        failed = log.wait("state", since=mark, model="llm", detail="failed")
        self.assertEqual(failed["error"]["code"], "device_lost")
        self.assertEqual(failed["error"]["details"]["device"], "rpc2")

        # What is left: four cards, so no longer the guide's rule for five.
        self.assertEqual(self.answer(daemon), text)
        self.assertNotIn("rpc2", [device for device, _ in self.shares(daemon, "llm")])
        self.assertEqual(daemon.model("embedding")["instance"]["pid"], embedding_pid, "others are untouched")
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "embedding", "input": "a"}).status, 200)
        self.assertFalse(self.device(daemon, "rpc2")["usable"])
        self.assertIn("everything", self.device(daemon, "rpc2")["unknown"])

    def test_one_that_is_away_from_the_beginning(self):
        servers = self.devices(2)
        servers[0].stop()
        daemon = self.on_devices(servers, self.llm() + self.embedding(", device: rpc0"))
        self.assertEqual([self.device(daemon, f"rpc{i}")["usable"] for i in range(2)], [False, True])
        self.answer(daemon)
        self.assertEqual(self.shares(daemon, "llm"), [("rpc1", None)])
        answer = daemon.post("/v1/embeddings", {"model": "embedding", "input": "a"})
        self.assertEqual((answer.status, answer.error()["code"]), (503, "device_lost"), answer)
        self.assertEqual(daemon.model("llm")["state"], "ready")


if __name__ == "__main__":
    unittest.main(verbosity=2)
