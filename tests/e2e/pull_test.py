#!/usr/bin/env python3
"""Pulls from a stand-in of the hubs: by the child alone with seeded trouble, and through daemon and command line
with kill -9 in the middle."""
import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fake_hub"))
from daemon import PATIENCE_S, DaemonTest, alive, fake_model, pids_of, program, wait_gone  # noqa: E402
from hub import Hub, Trouble, Tunnels  # noqa: E402

CHUNK = 64 * 1024
STREAMS = 4
RUNS = int(os.environ.get("LLM_MANAGER_PULL_RUNS", "20"))
SEED = int(os.environ.get("LLM_MANAGER_PULL_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


def tuning(**more):
    values = {"chunk": CHUNK, "streams": STREAMS, "backoff_ms": 2, "attempts": 8, "silence_ms": 700, **more}
    return " ".join(f"{name}={value}" for name, value in values.items())


def environment_of(hub, folder, **more):
    return {"HF_ENDPOINT": hub.url, "LLM_MANAGER_OLLAMA_REGISTRY": hub.url, "NPM_CONFIG_REGISTRY": hub.url,
            "HOME": str(folder), "LLM_MANAGER_PULL_TUNING": tuning(), **more}


def noise(size, seed):
    return random.Random(seed).randbytes(size)


def visible(folder):
    """Every file that is not in a hidden folder."""
    folder = pathlib.Path(folder)
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")
                  if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts))


class Child:
    """The process that the daemon starts for a pull, started by hand."""

    def __init__(self, hub, folder, source, **environment):
        self.folder = pathlib.Path(folder)
        variables = {name: os.environ[name] for name in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
                     if name in os.environ}
        variables.update(environment_of(hub, folder, **environment))
        self.process = subprocess.Popen([program("LLM_MANAGER"), "__pull", str(self.folder), "key"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=variables)
        self.process.stdin.write(source.encode() + b"\n")
        self.process.stdin.close()
        self.process.stdin = None

    def end(self):
        """Its last word."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        if err:
            raise AssertionError(f"the child wrote on standard error: {err.decode(errors='replace')}")
        lines = [json.loads(line) for line in out.decode().splitlines()]
        self.lines = lines
        return lines[-1]

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Children(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="lm-pull-")
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name) / "models"

    def hub(self, trouble=None):
        hub = Hub(trouble)
        self.addCleanup(hub.close)
        return hub

    def test_a_file_arrives(self):
        hub, folder = self.hub(Trouble(hops=3, private="secret")), self.folder()
        data = noise(700_000, 1)
        hub.add("owner/tiny-GGUF", {"tiny-Q8_0.gguf": b"x" * 10, "tiny-Q4_K_M.gguf": data, "mmproj-tiny-F16.gguf": b"proj" * 50})
        end = Child(hub, folder, "hf:owner/tiny-GGUF", HF_TOKEN="secret").end()
        self.assertEqual(end["kind"], "done", end)
        self.assertEqual(visible(folder), ["owner/tiny-GGUF/mmproj-tiny-F16.gguf", "owner/tiny-GGUF/tiny-Q4_K_M.gguf"])
        self.assertEqual((folder / "owner/tiny-GGUF/tiny-Q4_K_M.gguf").read_bytes(), data)
        self.assertFalse((folder / ".pull/key").exists())
        self.assertEqual(hub.sent["owner/tiny-GGUF/tiny-Q4_K_M.gguf"], len(data))
        for _, path, _, key, host in hub.requests:
            self.assertEqual(key, None if host.startswith("localhost") else "Bearer secret", path)
        self.assertTrue(any(host.startswith("localhost") for *_, host in hub.requests))
        # Again: it is there, and not a byte of it is fetched.
        self.assertEqual(Child(hub, folder, "hf:owner/tiny-GGUF:q4_k_m", HF_TOKEN="secret").end()["kind"], "done")
        self.assertEqual(hub.sent["owner/tiny-GGUF/tiny-Q4_K_M.gguf"], len(data))

    def test_all_parts_of_a_split_file(self):
        hub, folder = self.hub(), self.folder()
        parts = {f"Q4_K_M/big-Q4_K_M-0000{i}-of-00003.gguf": noise(100_000 + i, i) for i in (1, 2, 3)}
        hub.add("owner/big", {**parts, "Q8_0/big-Q8_0.gguf": b"no"})
        self.assertEqual(Child(hub, folder, "hf:owner/big").end()["kind"], "done")
        self.assertEqual(visible(folder), sorted(f"owner/big/{name}" for name in parts))

    def test_refusals_are_told(self):
        hub, folder = self.hub(Trouble(private="secret")), self.folder()
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": b"x"})
        def error(source, **environment):
            end = Child(hub, folder, source, **environment).end()
            self.assertEqual(end["kind"], "failed", end)
            self.assertEqual(visible(folder), [])
            return end
        self.assertIn("HF_TOKEN", error("hf:owner/tiny")["message"])
        missing = error("hf:owner/tiny:Q9_9", HF_TOKEN="secret")
        self.assertEqual(missing["reason"], "not_found")
        self.assertIn("tiny-Q4_0.gguf", missing["message"])
        self.assertEqual(error("hf:owner/none", HF_TOKEN="secret")["reason"], "not_found")
        self.assertEqual(error("ftp://x/y.gguf")["reason"], "bad_source")
        self.assertEqual(error("hf:nobody")["reason"], "bad_source")
        self.assertEqual(error("npm:thing@1.0.0", NPM_CONFIG_REGISTRY="")["reason"], "no_registry")
        refused = error("hf:owner/tiny", HF_TOKEN="secret", HF_ENDPOINT="https://hub.invalid",
                        https_proxy=f"http://me:pass@127.0.0.1:{hub.port}")
        self.assertEqual(refused["reason"], "proxy_refused")
        self.assertIn(("CONNECT", "hub.invalid:443", None, "Basic " + base64.b64encode(b"me:pass").decode(), None),
                      hub.requests)

    def test_a_proxy_passes_on(self):
        hub, folder = self.hub(Trouble(hops=0)), self.folder()
        hub.add_plain("a.gguf", noise(1000, 1))
        end = Child(hub, folder, "http://elsewhere.invalid/plain/a.gguf", http_proxy=hub.url).end()
        # The stand-in is asked in absolute form, which it does not route: that it was asked is what counts.
        self.assertEqual(end["kind"], "failed")
        self.assertTrue(any(path.startswith("http://elsewhere.invalid:80/plain/a.gguf") for _, path, *_ in hub.requests))
        direct = Child(hub, folder, f"{hub.url}/plain/a.gguf", http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1").end()
        self.assertEqual(direct["kind"], "done", direct)

    def test_https_and_a_tunnel(self):
        folder = self.folder()
        folder.mkdir(parents=True)
        key, roots = folder.parent / "key.pem", folder.parent / "roots.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", roots, "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(roots, key)
        hub = Hub(Trouble(cut=0.1, seed=SEED), tls)
        self.addCleanup(hub.close)
        tunnels = Tunnels("Basic " + base64.b64encode(b"me:pass").decode())
        self.addCleanup(tunnels.close)
        data = noise(600_000, 5)
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": data, "other-Q8_0.gguf": data[:9]})
        untrusted = Child(hub, folder, "hf:owner/tiny").end()
        self.assertEqual(untrusted["reason"], "tls_failed")
        done = Child(hub, folder, "hf:owner/tiny", SSL_CERT_FILE=str(roots)).end()
        self.assertEqual(done["kind"], "done", done)
        self.assertEqual(tunnels.asked, [])
        refused = Child(hub, folder, "hf:owner/tiny:Q8_0", SSL_CERT_FILE=str(roots), https_proxy=tunnels.url).end()
        self.assertEqual(refused["reason"], "proxy_refused")
        os.remove(folder / "owner/tiny/tiny-Q4_0.gguf")
        proxy = tunnels.url.replace("http://", "http://me:pass@")
        done = Child(hub, folder, "hf:owner/tiny", SSL_CERT_FILE=str(roots), HTTPS_PROXY=proxy).end()
        self.assertEqual(done["kind"], "done", done)
        self.assertEqual((folder / "owner/tiny/tiny-Q4_0.gguf").read_bytes(), data)
        self.assertEqual(set(tunnels.asked), {f"127.0.0.1:{hub.port}", f"localhost:{hub.port}"})

    def test_a_wrong_hash_leaves_nothing(self):
        hub, folder = self.hub(Trouble(wrong_bytes=True)), self.folder()
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": noise(300_000, 1)})
        end = Child(hub, folder, "hf:owner/tiny").end()
        self.assertEqual((end["kind"], end["reason"]), ("failed", "wrong_hash"))
        self.assertEqual(visible(folder), [])
        self.assertEqual(sorted(p.name for p in (folder / ".pull/key").iterdir()), ["lock", "source"])

    def test_a_disk_that_is_too_small_is_told_first(self):
        hub, folder = self.hub(), self.folder()
        hub.add("owner/huge", {"huge-Q4_0.gguf": b"x"})
        hub.repositories["owner/huge"]["siblings"][0]["lfs"]["size"] = 1 << 58
        end = Child(hub, folder, "hf:owner/huge").end()
        self.assertEqual((end["kind"], end["reason"], end["code"]), ("failed", "disk_full", "resource_exhausted"))
        self.assertGreater(end["fields"]["needed"], 1 << 58)
        self.assertEqual(sum(hub.sent.values()), 0)

    def test_hostile_paths_are_left_out(self):
        hub, folder = self.hub(), self.folder()
        hub.add("owner/evil", {"../../escape-Q4_0.gguf": b"x", "/root-Q4_0.gguf": b"x", ".hidden-Q4_0.gguf": b"x"})
        self.assertEqual(Child(hub, folder, "hf:owner/evil").end()["kind"], "failed")
        self.assertEqual(visible(folder.parent), [])

    def test_other_places(self):
        hub, folder = self.hub(), self.folder()
        model, plain = noise(200_000, 2), noise(150_000, 3)
        hub.add_ollama("library/tiny", "1b", model)
        self.assertEqual(Child(hub, folder, "ollama:tiny:1b").end()["kind"], "done")
        self.assertEqual((folder / "ollama/tiny/tiny-1b.gguf").read_bytes(), model)
        hub.add_plain("plain.gguf", plain)
        self.assertEqual(Child(hub, folder, f"{hub.url}/plain/plain.gguf").end()["kind"], "done")
        self.assertEqual((folder / f"web/127.0.0.1_{hub.port}/plain/plain.gguf").read_bytes(), plain)
        tarball = io.BytesIO()
        with tarfile.open(fileobj=tarball, mode="w:gz") as tar:
            for name, data in (("package/package.json", b"{}"), ("package/run.js", b"evil"),
                               ("package/model/config.json", b"{}"), ("package/model/model.safetensors", model),
                               ("package/../../escape.json", b"evil")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        data = tarball.getvalue()
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        hub.add_package("thing", "1.0.0", data, integrity)
        end = Child(hub, folder, "npm:thing@1.0.0").end()
        self.assertEqual(end["kind"], "done", end)
        self.assertEqual([f for f in visible(folder) if f.startswith("npm/")],
                         ["npm/thing@1.0.0/model/config.json", "npm/thing@1.0.0/model/model.safetensors"])
        self.assertEqual((folder / "npm/thing@1.0.0/model/model.safetensors").read_bytes(), model)
        hub.add_package("thing", "1.0.1", gzip.compress(b"nothing"), integrity)
        self.assertEqual(Child(hub, folder, "npm:thing@1.0.1").end()["reason"], "wrong_hash")

    def test_nothing_is_mixed(self):
        """Different sources lie in different places, however alike their names are."""
        hub, folder = self.hub(), self.folder()
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": b"main" * 100}, commit="1" * 40)
        self.assertEqual(Child(hub, folder, "hf:owner/tiny").end()["kind"], "done")
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": b"next" * 100}, commit="2" * 40)
        self.assertEqual(Child(hub, folder, "hf:owner/tiny@refs/pr/2").end()["kind"], "done")
        hub.add_plain("a/x.gguf", b"a" * 100)
        hub.add_plain("b/x.gguf", b"b" * 100)
        for one in "ab":
            self.assertEqual(Child(hub, folder, f"{hub.url}/plain/{one}/x.gguf?token=SECRET").end()["kind"], "done")
        hub.add_ollama("library/tiny", "1b", b"library" * 9)
        hub.add_ollama("someone/tiny", "1b", b"someone" * 9)
        hub.add("ollama/tiny", {"tiny-1b.gguf": b"hub" * 9})
        for source in ("ollama:tiny:1b", "ollama:someone/tiny:1b", "hf:ollama/tiny"):
            self.assertEqual(Child(hub, folder, source).end()["kind"], "done")
        web = f"web/127.0.0.1_{hub.port}/plain"
        self.assertEqual({name: (folder / name).read_bytes()[:1] for name in visible(folder)}, {
            "owner/tiny/tiny-Q4_0.gguf": b"m", "owner/tiny@refs%2Fpr%2F2/tiny-Q4_0.gguf": b"n", f"{web}/a/x.gguf": b"a",
            f"{web}/b/x.gguf": b"b", "ollama/tiny/tiny-1b.gguf": b"l", "ollama/someone/tiny/tiny-1b.gguf": b"s",
            "hf@ollama/tiny/tiny-1b.gguf": b"h"})

    def test_an_end_between_the_parts_waits_for_the_last(self):
        """SIGTERM while the parts are put in their places: all of them are there, and it says so."""
        hub, folder = self.hub(), self.folder()
        count = 60
        parts = {f"big-{i:05}-of-{count:05}.gguf": b"%d" % i for i in range(1, count + 1)}
        hub.add("owner/big", parts)
        child = Child(hub, folder, "hf:owner/big")
        first = folder / "owner/big"
        deadline = time.monotonic() + PATIENCE_S
        while not first.exists() or not os.listdir(first):
            self.assertLess(time.monotonic(), deadline)
        child.process.terminate()
        end = child.end()
        self.assertEqual((end["kind"], len(end["files"])), ("done", count), end)
        self.assertEqual(len(visible(folder)), count)

    def test_half_in_place_is_finished_by_the_next(self):
        """The state that kill -9 between two parts leaves: a folder in the way of the second."""
        hub, folder = self.hub(), self.folder()
        parts = {f"big-0000{i}-of-00003.gguf": b"first%d" % i for i in (1, 2, 3)}
        hub.add("owner/big", parts)
        blocked = folder / "owner/big/big-00002-of-00003.gguf"
        (blocked / "in the way").mkdir(parents=True)
        self.assertEqual(Child(hub, folder, "hf:owner/big").end()["kind"], "failed")
        self.assertEqual(visible(folder), ["owner/big/big-00001-of-00003.gguf"])
        self.assertTrue((folder / ".pull/key/arriving").exists(), "so that nobody lists it")
        (blocked / "in the way").rmdir()
        blocked.rmdir()
        # What was begun is finished, also where there is something newer by now: never a part of each.
        hub.add("owner/big", {name: b"second" for name in parts}, commit="2" * 40)
        self.assertEqual(Child(hub, folder, "hf:owner/big").end()["kind"], "done")
        self.assertEqual([(folder / "owner/big" / name).read_bytes() for name in parts], list(parts.values()))
        self.assertFalse((folder / ".pull/key").exists())
        self.assertEqual(Child(hub, folder, "hf:owner/big").end()["kind"], "done")
        self.assertEqual({(folder / "owner/big" / name).read_bytes() for name in parts}, {b"second"})

    def test_no_byte_twice_after_kill(self):
        """kill -9 in the middle, five times; each costs at most the chunks that were under way."""
        hub, folder = self.hub(Trouble(rate=4_000_000)), self.folder()
        data = noise(4_000_000, 7)
        name = "owner/tiny/tiny-Q4_0.gguf"
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": data})
        kills = 5
        for i in range(kills):
            child = Child(hub, folder, "hf:owner/tiny")
            hub.wait_sent(name, (i + 1) * 500_000 + i * STREAMS * CHUNK)
            child.kill()
            self.assertEqual(visible(folder), [])
        self.assertEqual(Child(hub, folder, "hf:owner/tiny").end()["kind"], "done")
        self.assertEqual((folder / name).read_bytes(), data)
        self.assertGreater(hub.sent[name], len(data))
        self.assertLessEqual(hub.sent[name], len(data) + kills * STREAMS * CHUNK)

    def test_seeded_trouble(self):
        """Each run ends with the whole right file, or a clear error and nothing visible."""
        outcomes = {}
        for run in range(RUNS):
            seed = SEED + run
            with self.subTest(seed=seed), contextlib.ExitStack() as stack:
                dice = random.Random(seed)
                trouble = Trouble(seed=seed, cut=dice.choice((0, 0.1, 0.3)), busy=dice.choice((0, 0.1)),
                                  server_error=dice.choice((0, 0.1, 0.3)), stall=dice.choice((0, 0, 0.02)),
                                  slow=dice.choice((0, 0.1)), list_errors=dice.choice((0, 0.3)),
                                  no_ranges=dice.random() < 0.15, wrong_bytes=dice.random() < 0.15,
                                  hops=dice.randint(1, 4), most_troubles=dice.choice((3, 10, 1000)))
                hopeless = dice.random() < 0.05
                if hopeless:
                    trouble.server_error, trouble.most_troubles = 1.0, 10**9
                hub = Hub(trouble)
                stack.callback(hub.close)
                folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lm-pull-"))) / "models"
                data = noise(dice.choice((1, CHUNK - 1, CHUNK, CHUNK + 1, 500_000, 1_500_000)), seed)
                name = "owner/tiny/tiny-Q4_0.gguf"
                hub.add("owner/tiny", {"tiny-Q4_0.gguf": data})
                kills = dice.choice((0, 0, 1, 2))
                for i in range(kills):
                    child = Child(hub, folder, "hf:owner/tiny")
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.process.wait(dice.random() * 0.1)
                    child.kill()
                before = hub.sent[name]
                end = Child(hub, folder, "hf:owner/tiny").end()
                outcome = end["kind"] if end["kind"] == "done" else end["reason"]
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if end["kind"] == "done":
                    self.assertEqual((folder / name).read_bytes(), data)
                    self.assertFalse(trouble.wrong_bytes or hopeless)
                else:
                    self.assertIn(end["reason"], ("wrong_hash", "server_error", "rate_limited", "bad_upstream",
                                                  "silence_timeout", "first_byte_timeout", "connection_lost"), end)
                    self.assertTrue(end["message"])
                    self.assertEqual(visible(folder), [])
                    if trouble.wrong_bytes:
                        continue
                if not trouble.no_ranges and not trouble.wrong_bytes:
                    # A cut connection goes on where it was: only what a kill took is fetched again.
                    self.assertLessEqual(hub.sent[name], len(data) + kills * STREAMS * CHUNK,
                                         f"{before} before the last run")
        print(f"seeds {SEED}…{SEED + RUNS - 1}: {outcomes}; again by LLM_MANAGER_PULL_SEED={SEED}")
        self.assertGreaterEqual(outcomes.get("done", 0), RUNS // 2)


class Daemons(DaemonTest):
    def hub(self, trouble=None):
        hub = Hub(trouble)
        self.addCleanup(hub.close)
        return hub

    def serve(self, hub, **more):
        folder = self.folder()
        return self.start({"other": fake_model()}, folder=folder, environment=environment_of(hub, folder), **more)

    @staticmethod
    def models(daemon):
        return daemon.folder / ".cache/llm-manager/models"

    def command(self, daemon, *words, code=0):
        done = subprocess.run([program("LLM_MANAGER"), "--url", f"http://{daemon.address}", *words],
                              capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "HOME": str(daemon.folder)})
        self.assertEqual(done.returncode, code, done)
        return done.stdout

    def child(self, daemon):
        for pid in pids_of(daemon.folder):
            with contextlib.suppress(OSError):
                if b"__pull" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        self.fail("no pull runs")

    def test_pull_chat_and_remove(self):
        hub = self.hub()
        model = fake_model().encode() + b"#" * 300_000
        hub.add("owner/tiny-GGUF", {"tiny-Q4_K_M.gguf": model})
        daemon = self.serve(hub)
        log = daemon.events()
        text = self.command(daemon, "pull", "hf:owner/tiny-GGUF")
        self.assertIn("hf:owner/tiny-GGUF@main is here", text)
        self.assertIn("llm-manager chat tiny-q4_k_m", text)
        self.assertEqual(log.wait("pull", state="done")["models"], ["tiny-q4_k_m"])
        self.assertEqual(daemon.chat("tiny-q4_k_m").status, 200)
        self.assertEqual(self.command(daemon, "pulls").split()[7:10], ["1", "hf:owner/tiny-GGUF@main", "done"])
        refused = daemon.post("/api/v1/models/remove", {"model": "tiny-q4_k_m"})
        self.assertEqual(refused.error()["code"], "model_loaded")
        daemon.unload("tiny-q4_k_m")
        self.assertIn("tiny-q4_k_m is removed", self.command(daemon, "rm", "tiny-q4_k_m"))
        self.assertEqual(visible(self.models(daemon)), [])
        self.assertEqual(daemon.chat("tiny-q4_k_m").status, 404)
        # What no pull has fetched stays.
        kept = daemon.post("/api/v1/models/remove", {"model": "other"})
        self.assertEqual((kept.status, kept.error()["code"]), (403, "not_pulled"))
        self.assertTrue((daemon.models / "other.gguf").exists())
        self.assertEqual(daemon.post("/api/v1/models/remove", {"model": "other", "force": True}).status, 200)
        self.assertFalse((daemon.models / "other.gguf").exists())

    def test_half_of_a_model_is_never_listed(self):
        hub = self.hub()
        hub.add("owner/big", {f"big-0000{i}-of-00002.gguf": fake_model().encode() + b"#" * i for i in (1, 2)})
        daemon = self.serve(hub)
        blocked = self.models(daemon) / "owner/big/big-00002-of-00002.gguf"
        (blocked / "in the way").mkdir(parents=True)
        self.assertNotEqual(daemon.post("/api/v1/pull", {"source": "hf:owner/big"}).status, 200)
        self.assertEqual(visible(self.models(daemon)), ["owner/big/big-00001-of-00002.gguf"])
        daemon.signal(signal.SIGHUP)
        daemon.events(last_id=0).wait("config")
        self.assertEqual([model["id"] for model in daemon.get("/api/v1/models").json()["models"]], ["other"])
        # Cancelled, nothing of it stays.
        self.assertEqual(daemon.post("/api/v1/pulls/1/cancel").status, 200)
        (blocked / "in the way").rmdir()
        blocked.rmdir()
        done = daemon.post("/api/v1/pull", {"source": "hf:owner/big"})
        self.assertEqual((done.status, done.json()["models"]), (200, ["big"]), done)

    def test_pause_resume_cancel(self):
        hub = self.hub(Trouble(rate=2_000_000))
        data = fake_model().encode() + b"#" * 4_000_000
        name = "owner/tiny/tiny-Q4_0.gguf"
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": data})
        daemon = self.serve(hub)
        log = daemon.events()
        pull = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny", "wait": False}).json()["id"]
        again = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny@main", "wait": False})
        self.assertEqual((again.status, again.json()["id"]), (202, pull))
        hub.wait_sent(name, 800_000)
        child = self.child(daemon)
        self.assertEqual(daemon.post(f"/api/v1/pulls/{pull}/pause").json()["state"], "paused")
        self.assertEqual(wait_gone([child], 5), [])
        mark = log.mark()
        self.assertEqual(daemon.post(f"/api/v1/pulls/{pull}/resume").status, 200)
        log.wait("pull", since=mark, stage="downloading")
        hub.wait_sent(name, 2_000_000)
        self.assertEqual(daemon.post(f"/api/v1/pulls/{pull}/cancel").json()["state"], "cancelled")
        refused = daemon.post(f"/api/v1/pulls/{pull}/resume")
        self.assertEqual(refused.error()["code"], "pull_ended")
        # The same again begins from nothing, behind the removal of what was there.
        hub.trouble.rate = 0
        done = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny"})
        self.assertEqual((done.status, done.json()["state"]), (200, "done"))
        self.assertEqual((self.models(daemon) / name).read_bytes(), data)
        self.assertEqual(daemon.post("/api/v1/pulls/99/pause").status, 404)

    def test_kills_in_the_middle(self):
        hub = self.hub(Trouble(rate=2_000_000))
        data = fake_model().encode() + b"#" * 6_000_000
        name = "owner/tiny/tiny-Q4_0.gguf"
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": data})
        daemon = self.serve(hub)
        daemon.post("/api/v1/pull", {"source": "hf:owner/tiny", "wait": False})
        hub.wait_sent(name, 700_000)
        # The child: it is started again by itself.
        child = self.child(daemon)
        os.kill(child, signal.SIGKILL)
        hub.wait_sent(name, 1_500_000)
        # The daemon: its child dies with it, and the next daemon goes on.
        child = self.child(daemon)
        daemon.kill()
        self.assertEqual(wait_gone([child], 2), [])
        self.assertEqual(visible(self.models(daemon)), [])
        hub.trouble.rate = 0
        daemon.start()
        log = daemon.events()
        if daemon.get("/api/v1/pulls").json()["pulls"][0]["state"] != "done":
            log.wait("pull", state="done")
        self.assertEqual((self.models(daemon) / name).read_bytes(), data)
        self.assertEqual(daemon.chat("tiny-q4_0").status, 200)
        self.assertLessEqual(hub.sent[name], len(data) + 2 * STREAMS * CHUNK)

    def test_a_failed_pull_and_its_successor(self):
        """What is unfinished belongs to the pull that goes on with it."""
        hub = self.hub(Trouble(server_error=1.0, seed=1))
        data = fake_model().encode() + b"#" * 2_000_000
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": data})
        daemon = self.serve(hub)
        failed = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny"})
        self.assertEqual((failed.status, failed.error()["code"]), (503, "server_error"))
        hub.trouble.server_error, hub.trouble.rate = 0, 2_000_000
        second = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny", "wait": False}).json()["id"]
        self.assertEqual(second, 2)
        hub.wait_sent("owner/tiny/tiny-Q4_0.gguf", 300_000)
        self.assertEqual(daemon.post("/api/v1/pulls/1/resume").error()["code"], "pull_ended")
        self.assertEqual(daemon.post("/api/v1/pulls/1/cancel").status, 200)
        hub.trouble.rate = 0
        self.assertEqual(daemon.post("/api/v1/pull", {"source": "hf:owner/tiny"}).json()["state"], "done")
        self.assertEqual(hub.sent["owner/tiny/tiny-Q4_0.gguf"], len(data))

    def test_into_the_configured_folder(self):
        hub, folder = self.hub(), self.folder()
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": fake_model().encode() + b"#" * 9})
        mine = pathlib.Path(folder) / "mine"
        mine.mkdir()
        daemon = self.start({"other": fake_model()}, f"model_folders: [{mine}]", folder=folder,
                            environment=environment_of(hub, folder))
        done = daemon.post("/api/v1/pull", {"source": "hf:owner/tiny"}).json()
        self.assertEqual((done["models"], done["files"]), (["tiny-q4_0"], [str(mine / "owner/tiny/tiny-Q4_0.gguf")]))
        self.assertEqual(daemon.post("/api/v1/models/remove", {"model": "tiny-q4_0"}).status, 200)
        self.assertEqual(visible(mine), [])

    def test_ctrl_c_pauses(self):
        hub = self.hub(Trouble(rate=1_000_000))
        hub.add("owner/tiny", {"tiny-Q4_0.gguf": fake_model().encode() + b"#" * 4_000_000})
        daemon = self.serve(hub)
        log = daemon.events()
        waiting = subprocess.Popen([program("LLM_MANAGER"), "--url", f"http://{daemon.address}", "pull", "hf:owner/tiny"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                   env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
        log.wait("pull", stage="downloading")
        hub.wait_sent("owner/tiny/tiny-Q4_0.gguf", 300_000)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=PATIENCE_S)
        self.assertEqual((waiting.returncode, out), (130, ""), err)
        self.assertIn("llm-manager pulls resume 1", err)
        self.assertEqual(daemon.get("/api/v1/pulls/1").json()["state"], "paused")

    def test_what_is_wrong_is_told_at_once(self):
        hub = self.hub()
        daemon = self.serve(hub)
        wrong = daemon.post("/api/v1/pull", {"source": "hf:nobody"})
        self.assertEqual((wrong.status, wrong.error()["code"]), (400, "bad_source"))
        self.assertEqual(daemon.get("/api/v1/pulls").json()["pulls"], [])
        self.command(daemon, "pull", "hf:owner/none", code=4)
        self.assertIn("failed", self.command(daemon, "pulls"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
