"""kill -9 at random moments, of workers and of the daemon. Every request ends exactly once, nobody else notices, nothing
is left behind, and the next request is served.

LLM_MANAGER_DEATHS=W,D: how many worker and daemon kills (default 10,3). LLM_MANAGER_DEATHS_SEED repeats a run.
"""
import json
import os
import random
import signal
import subprocess
import threading
import time
import unittest

from daemon import DaemonTest, InBackground, fake_model, pids_of, wait_gone

WORKER_KILLS, DAEMON_KILLS = map(int, os.environ.get("LLM_MANAGER_DEATHS", "10,3").split(","))
SEED = int(os.environ.get("LLM_MANAGER_DEATHS_SEED", time.time_ns() % 1_000_000))

MOMENTS = ("queued", "loading", "prefill", "decode", "draining")


def start_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def outcome_of(stream):
    """How a stream ended, in a word; fails where it did not end properly. Closes it."""
    try:
        return read_outcome(stream)
    finally:
        stream.close()


def read_outcome(stream):
    if stream.status != 200:
        return json.loads(stream.response.read())["error"]["code"]
    events = stream.events()
    assert not stream.cut, f"cut in the middle: {events[-3:]}"
    errors = [e for e in events if '"error"' in e.data]
    done = [e for e in events if e.data == "[DONE]"]
    assert len(errors) + len(done) == 1, f"ended {len(errors) + len(done)} times: {events[-5:]}"
    last = events[-1]
    assert last in errors or last in done, f"something after the end: {events[-3:]}"
    return "done" if done else errors[0].json()["error"]["code"]


class WorkerDeaths(DaemonTest):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}, {WORKER_KILLS} worker kills", flush=True)
        self.random = random.Random(SEED)

    def test_kill_9_at_any_moment(self):
        models = {"victim": fake_model(memory_mb=40, slots=2, stage_ms=20, first_byte_ms=60, token_ms=5, tokens=60),
                  "bystander": fake_model(token_ms=5, tokens=400)}
        daemon = self.start(models, config="limits: {drain_unload: 400ms, retry_first: 10ms, retry_most: 10ms}\n")
        daemon.load("bystander")
        bystander = daemon.worker("bystander").pid
        descriptors = None
        for number in range(WORKER_KILLS):
            moment = MOMENTS[number % len(MOMENTS)]
            with self.subTest(number=number, moment=moment, seed=SEED):
                other = daemon.chat_stream("bystander", fake_tokens=40)
                other.event()
                killed = self.one_death(daemon, moment)
                self.assertEqual(outcome_of(other), "done")
                self.assertEqual(wait_gone(killed, 2), [])
                again = daemon.chat("victim", fake_tokens=1)
                self.assertEqual(again.status, 200, again)
                self.assertEqual(daemon.worker("bystander").pid, bystander)
                self.assertTrue(daemon.unload("victim").json()["release"]["proved"])
                self.assertEqual(daemon.get("/health").json()["waiting"], 0)
                # What it held is charged to nobody: only the bystander is.
                reserved = daemon.get("/api/v1/devices").json()["devices"][0]["reserved"]
                self.assertEqual(reserved, sum(daemon.model("bystander")["instance"]["reserved"].values()))
            if number == len(MOMENTS) - 1:
                descriptors = self.descriptors(daemon, max)
        if descriptors is not None:
            self.assertLessEqual(self.descriptors(daemon, min), descriptors + 1, "one leaked at each death would be more")

    def descriptors(self, daemon, most_or_least):
        """The most, or the least, that the daemon had open within a second: a standby's come and go."""
        counts = []
        for _ in range(20):
            counts.append(len(os.listdir(f"/proc/{daemon.pid}/fd")))
            time.sleep(0.05)
        return most_or_least(counts)

    def one_death(self, daemon, moment):
        """Brings the victim to the moment, kills its worker at a random instant of it; the pids that were killed."""
        log = daemon.events()
        if moment == "queued":
            # More requests than slots: some wait for a slot when it dies.
            streams = [daemon.chat_stream("victim") for _ in range(6)]
            log.wait("state", model="victim", detail="ready")
        elif moment == "loading":
            streams = [daemon.chat_stream("victim") for _ in range(2)]
            stage = self.random.choice(("metadata", "vocabulary", "weights", "context", "warm_up"))
            log.wait("progress", model="victim", stage=stage)
        else:
            daemon.load("victim")
            streams = [daemon.chat_stream("victim") for _ in range(2)]
            if moment == "decode":
                for _ in range(self.random.randrange(1, 20)):
                    streams[0].event()
            elif moment == "prefill":
                daemon.worker("victim").wait(asked=1)
            elif moment == "draining":
                streams[0].event()
                unloading = InBackground(daemon.unload, "victim")
                log.wait("state", model="victim", detail="draining")
        worker = daemon.worker("victim")
        threading.Event().wait(self.random.random() * 0.02)  # the random instant
        worker.kill()
        outcomes = [outcome_of(stream) for stream in streams]
        for outcome in outcomes:
            self.assertIn(outcome, ("done", "worker_died", "unloaded", "cancelled", "model_unloaded", "shutting_down"), outcomes)
        if moment in ("prefill", "decode", "draining"):
            self.assertTrue(all(o != "done" for o in outcomes), outcomes)
        if moment == "draining":
            self.assertEqual(unloading.result().status, 200)
        log.close()
        return [worker.pid]


class DaemonDeaths(DaemonTest):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}, {DAEMON_KILLS} daemon kills", flush=True)
        self.random = random.Random(SEED + 1)

    def test_kill_9_of_the_daemon_leaves_nobody(self):
        models = {"a1": fake_model(memory_mb=30, stage_ms=20, token_ms=10, tokens=1000),
                  "b2": fake_model(memory_mb=30, stage_ms=20, ignore_sigterm=1, hang_at="stop"),
                  "c3": fake_model(stage_ms=300, inspect_ms=50)}
        daemon = self.make(models)
        for number in range(DAEMON_KILLS):
            with self.subTest(number=number, seed=SEED):
                daemon.start()
                streams = []
                for name in self.random.sample(sorted(models), self.random.randrange(1, 4)):
                    streams.append(daemon.chat_stream(name))
                if self.random.random() < 0.5:
                    streams[0].next()
                threading.Event().wait(self.random.random() * 0.3)  # the random moment
                children = daemon.workers()
                self.assertTrue(children)
                killed_at = time.monotonic()
                for stream in streams:
                    stream.close()
                daemon.kill()
                self.assertEqual(wait_gone(children, max(0, killed_at + 2 - time.monotonic())), [])
                self.assertEqual(wait_gone(pids_of(daemon.folder), max(0.1, killed_at + 2 - time.monotonic())), [])
        # And after all of them it starts and serves as if nothing had been.
        daemon.start()
        self.assertEqual(daemon.chat("a1", fake_tokens=1).status, 200)
        run = daemon.data / "run"
        records = [p for p in run.rglob("*.run")]
        self.assertEqual(len(records), len(daemon.workers()), "records of the dead are left")

    def test_the_next_start_reaps_what_outlived_the_daemon_and_says_so(self):
        # The kernel ends a daemon's children with it; one outlives it only where that failed. So a process that
        # nobody watches is put in the place of the dead worker.
        daemon = self.start({"a1": fake_model(memory_mb=20)})
        daemon.load("a1")
        worker = daemon.worker("a1")
        record = daemon.data / "run" / f"{worker.pid}.run"
        lines = dict(line.split(" ", 1) for line in record.read_text().splitlines())
        daemon.kill()
        self.assertEqual(wait_gone([worker.pid], 2), [])
        self.assertTrue(record.exists(), "a daemon that is killed leaves its records")
        orphan, stranger = (subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) for _ in range(2))
        for process in (orphan, stranger):
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
        for process, started in ((orphan, start_ticks(orphan.pid)), (stranger, start_ticks(stranger.pid) - 1)):
            lines.update(pid=process.pid, start=started)
            record.with_name(f"{process.pid}.run").write_text("".join(f"{k} {v}\n" for k, v in lines.items()))
        daemon.start()
        self.assertEqual(orphan.wait(5), -signal.SIGKILL)
        self.assertIn(f"a llm-worker ({orphan.pid}) of an earlier daemon was still running and was ended", daemon.errors())
        # Another process that has the number of a dead worker by now is not touched.
        self.assertIsNone(stranger.poll())
        for process in (orphan, stranger, worker):
            self.assertFalse(record.with_name(f"{process.pid}.run").exists())
        self.assertEqual(daemon.chat("a1").status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
