"""The event stream and jobs: what listeners are told, and that they can come back for what they missed."""
import json
import os
import pathlib
import signal
import subprocess
import unittest

from daemon import DaemonTest, InBackground, fake_model, program


class Events(DaemonTest):
    def test_a_listener_comes_back_for_what_it_missed(self):
        daemon = self.start({"alpha": fake_model()})
        log = daemon.events()
        daemon.load("alpha")
        ready = log.wait("state", detail="ready")
        log.close()
        daemon.unload("alpha")
        again = daemon.events(last_id=ready["_id"])
        absent = again.wait("state", detail="absent")
        missed = [e["detail"] for e in again.all("state")]
        self.assertEqual(missed[:4], ["draining", "stopping", "reclaiming", "absent"])
        ids = [e["_id"] for kind in ("state", "decision", "job", "phases") for e in again.all(kind)]
        self.assertTrue(all(i > ready["_id"] for i in ids))
        self.assertEqual(len(ids), len(set(ids)))
        self.assertIn("release", absent)

    def test_every_event_has_a_time_and_rising_numbers(self):
        daemon = self.start({"alpha": fake_model()})
        stream = daemon.events()
        daemon.load("alpha")
        daemon.unload("alpha")
        stream.sync()
        with stream._changed:
            events = list(stream._events)
        numbers = [e["_id"] for e in events]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        times = [e["at_ms"] for e in events]
        self.assertEqual(times, sorted(times))
        kinds = {e["_kind"] for e in events}
        self.assertLessEqual({"state", "progress", "phases", "decision", "job"}, kinds)

    def test_many_listeners_hear_the_same(self):
        daemon = self.start({"alpha": fake_model()})
        logs = [daemon.events() for _ in range(20)]
        daemon.load("alpha")
        for log in logs:
            log.sync()
        heard = [[e["_id"] for e in log.all("state")] for log in logs]
        self.assertTrue(heard[0])
        self.assertTrue(all(h == heard[0] for h in heard))

    def test_decisions_tell_why(self):
        daemon = self.start({"a1": fake_model(), "b2": fake_model()}, config="residency: {max_loaded: 1}\n")
        for name in ("a1", "b2"):
            self.assertEqual(daemon.chat(name).status, 200)
        evicted = daemon.decisions("a1", "evict")
        self.assertEqual(len(evicted), 1)
        self.assertIn("b2", evicted[0]["why"])
        self.assertEqual(daemon.get("/api/v1/explain?model=nobody").status, 404)
        for limit in ("abc", "", "0", "-1", "5x", "99999999999999999999"):
            answer = daemon.get(f"/api/v1/explain?limit={limit}")
            self.assertEqual((answer.status, answer.error()["code"]), (400, "invalid_field"), limit)
        newest = daemon.get("/api/v1/explain?limit=1").json()["decisions"]
        self.assertEqual(len(newest), 1)
        # They survive a restart.
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(daemon.decisions("a1", "evict"), evicted)


class Recordings(DaemonTest):
    def replay(self, recording):
        done = subprocess.run([program("LLM_MANAGER"), "replay", str(recording), "--json"], capture_output=True,
                              timeout=60, env={"PATH": os.environ["PATH"]})
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_a_recorded_day_is_decided_again_as_it_was(self):
        folder = self.folder()
        recording = pathlib.Path(folder) / "day.jsonl"
        daemon = self.make({"alpha": fake_model(), "beta": fake_model(), "broken": fake_model(fail="internal", times=1)},
                           config="residency: {max_loaded: 1}\n", arguments=["--record", str(recording)])
        daemon.start()
        log = daemon.events()
        for name in ("alpha", "beta", "alpha"):
            self.assertEqual(daemon.chat(name).status, 200)
        self.assertEqual(daemon.chat("broken").status, 500)
        self.assertEqual(daemon.chat("alpha").status, 200)
        os.kill(daemon.worker("alpha").pid, signal.SIGKILL)
        log.wait("state", model="alpha", detail="failed")
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertEqual(daemon.post("/api/v1/models/unload", {"model": "alpha"}).status, 200)
        log.sync()
        seen = [[e["model"], e["detail"]] for e in log.all("state")]
        self.assertGreater(len(seen), 20)
        self.assertEqual(recording.stat().st_mode & 0o777, 0o600)
        # Also while the daemon still writes.
        for stop in (False, True):
            if stop:
                self.assertEqual(daemon.stop(), [])
            lines = self.replay(recording)
            decided = [line["text"].split()[1:3] for line in lines if line.get("command") == "PublishState"]
            self.assertEqual(decided[:len(seen)], seen)
        self.assertEqual(lines[0]["event"], "SettingsChanged")
        self.assertEqual(lines[-1].get("command"), "FinishShutdown")

    def test_the_environment_names_a_recording_and_a_bad_one_keeps_it_from_starting(self):
        recording = pathlib.Path(self.folder()) / "day.jsonl"
        daemon = self.make({"alpha": fake_model()}, environment={"LLM_MANAGER_EVENT_LOG": str(recording)})
        daemon.start()
        self.assertEqual(daemon.stop(), [])
        self.assertEqual(self.replay(recording)[0]["event"], "SettingsChanged")
        daemon = self.make({"alpha": fake_model()}, environment={"LLM_MANAGER_EVENT_LOG": "/not/there/day.jsonl"})
        code, said = daemon.run_to_end()
        self.assertEqual(code, 1)
        self.assertIn("/not/there/day.jsonl", said)


class Jobs(DaemonTest):
    def test_a_load_as_a_job(self):
        daemon = self.start({"alpha": fake_model(stage_ms=100)})
        log = daemon.events()
        started = daemon.load("alpha", wait=False)
        self.assertEqual(started.status, 202)
        number = started.json()["job"]
        self.assertFalse(daemon.get(f"/api/v1/jobs/{number}").json()["done"])
        done = log.wait("job", job=number)
        self.assertIsNone(done["error"])
        job = daemon.get(f"/api/v1/jobs/{number}").json()
        self.assertTrue(job["done"])
        self.assertEqual((job["kind"], job["model"], job["error"]), ("load", "alpha", None))
        # What whoever waits for a load is told, but for the time, which goes on.
        told = job["result"]
        waited = daemon.load("alpha").json()
        self.assertEqual(told.keys(), waited.keys())
        self.assertEqual((told["model"], told["changed"], told["state"], told["kind"]), ("alpha", True, "ready", "generation"))
        self.assertIn("weights", [phase["name"] for phase in told["phases"]])
        self.assertEqual(told["instance"]["pid"], waited["instance"]["pid"])
        self.assertGreater(told["took_s"], 0.1)
        again = daemon.get(f"/api/v1/jobs/{number}").json()["result"]
        self.assertEqual(again["took_s"], told["took_s"], "it has ended")
        self.assertEqual(daemon.model("alpha")["state"], "ready")
        daemon.unload("alpha")
        self.assertEqual(daemon.get(f"/api/v1/jobs/{number}").json()["result"]["state"], "unloaded")

    def test_a_job_that_fails(self):
        daemon = self.start({"alpha": fake_model(fail="unsupported_model")})
        log = daemon.events()
        number = daemon.load("alpha", wait=False).json()["job"]
        self.assertEqual(log.wait("job", job=number)["error"]["code"], "unsupported_model")
        self.assertEqual(daemon.get(f"/api/v1/jobs/{number}").json()["error"]["code"], "unsupported_model")

    def test_a_load_as_a_stream(self):
        daemon = self.start({"alpha": fake_model(stage_ms=60), "broken": fake_model(stage_ms=60, fail="io_error")})
        stream = daemon.stream("/api/v1/models/load", {"model": "alpha", "stream": True})
        events = stream.events()
        self.assertEqual({e.name for e in events[:-1]}, {"progress"})
        self.assertEqual(events[-1].name, "done")
        done = events[-1].json()
        self.assertEqual((done["model"], done["state"], done["changed"]), ("alpha", "ready", True))
        self.assertGreater(done["took_s"], 0.25)
        self.assertIn("weights", [p["name"] for p in done["phases"]])
        stages = [e.json()["stage"] for e in events[:-1] if e.json()["stage"]]
        self.assertIn("weights", stages)
        by_header = daemon.stream("/api/v1/models/load", {"model": "broken"}, headers={"Accept": "text/event-stream"})
        last = by_header.events()[-1]
        self.assertEqual((last.name, last.json()["error"]["code"]), ("error", "io_error"))

    def test_loads_of_the_same_model_share_one_load(self):
        daemon = self.start({"alpha": fake_model(stage_ms=100)})
        log = daemon.events()
        loads = [InBackground(daemon.load, "alpha") for _ in range(5)]
        self.assertEqual([l.result().status for l in loads], [200] * 5)
        self.assertEqual(log.loads("alpha"), 1)

    def test_an_inspection(self):
        daemon = self.start({"alpha": fake_model(memory_mb=33, context=777), "broken": "nonsense\n"})
        found = daemon.post("/api/v1/models/inspect", {"model": "alpha"}).json()
        self.assertEqual((found["name"], found["architecture"], found["context_train"]), ("alpha", "fake", 777))
        self.assertEqual(found["predicted_total"], 33 << 20)
        by_path = daemon.post("/api/v1/models/inspect", {"path": str(daemon.models / "alpha.gguf")}).json()
        self.assertEqual(by_path["fingerprint"], found["fingerprint"])
        broken = daemon.post("/api/v1/models/inspect", {"model": "broken"})
        self.assertEqual((broken.status, broken.error()["code"]), (400, "invalid_artifact"))
        self.assertEqual(daemon.model("alpha")["state"], "unloaded")


if __name__ == "__main__":
    unittest.main(verbosity=2)
