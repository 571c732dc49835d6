"""Workers that are garbled, silent, hanging, lying or stubborn: the daemon says what was wrong and goes on."""
import os
import stat
import time
import unittest

from daemon import DaemonTest, InBackground, alive, fake_model, pids_of, program, wait_gone


class AtStart(DaemonTest):
    def greeting(self, how):
        """A worker program that greets in a strange way."""
        folder = self.folder()
        script = os.path.join(folder, "worker")
        with open(script, "w") as file:
            file.write(f'#!/bin/sh\nexec "{program("LLM_MANAGER_FAKE_WORKER")}" --greeting {how} "$@"\n')
        os.chmod(script, os.stat(script).st_mode | stat.S_IXUSR)
        return script

    def test_a_worker_of_another_protocol(self):
        code, said = self.make({"alpha": fake_model()}, worker=self.greeting("wrong_protocol")).run_to_end()
        self.assertEqual(code, 1)
        self.assertIn("protocol", said)
        self.assertIn("scripts/bootstrap", said)

    def test_a_worker_that_dies_at_once(self):
        code, said = self.make({"alpha": fake_model()}, worker=self.greeting("death")).run_to_end()
        self.assertEqual(code, 1)
        self.assertIn("could not be started", said)

    def test_a_worker_that_talks_nonsense(self):
        for how in ("garbage", "endless_line"):
            with self.subTest(how=how):
                daemon = self.make({"alpha": fake_model()}, worker=self.greeting(how))
                began = time.monotonic()
                code, said = daemon.run_to_end()
                self.assertEqual(code, 1, said)
                self.assertLess(time.monotonic() - began, 15)
                self.assertEqual(daemon.workers(), [])

    def test_a_program_that_is_no_worker(self):
        code, said = self.make({"alpha": fake_model()}, worker="/bin/true").run_to_end()
        self.assertEqual(code, 1, said)
        self.assertIn("/bin/true", said)


class WhileLoading(DaemonTest):
    """Each model loads badly the first time (in some way), and well after that."""

    def check(self, code, limits="", **how):
        daemon = self.start({"bad": fake_model(times=1, memory_mb=32, **how), "good": fake_model()}, config=limits)
        log = daemon.events()
        self.assertEqual(daemon.chat("good").status, 200)
        good = daemon.worker("good").pid
        answer = daemon.chat("bad")
        self.assertGreaterEqual(answer.status, 400, answer)
        self.assertEqual(answer.error()["code"], code, answer)
        log.wait("state", model="bad", detail="failed")
        # Its process is gone, what it held is charged to nobody, and the next one works.
        self.assertLessEqual(len([p for p in daemon.workers() if p != good]), 1, "the standby at most")
        again = daemon.chat("bad")
        self.assertEqual(again.status, 200, again)
        self.assertEqual(daemon.worker("good").pid, good)
        return answer

    def test_garbage(self):
        self.check("worker_garbled", garbage=1)

    def test_a_line_without_an_end(self):
        self.check("line_too_long", endless_line=1)

    def test_silence(self):
        self.check("load_timeout", "limits: {load_silence: 1s}\n", silent=1)

    def test_a_hang_in_the_middle(self):
        self.check("load_timeout", "limits: {load_silence: 1s}\n", hang_at="loading")

    def test_somebody_elses_ready(self):
        self.check("load_timeout", "limits: {load_silence: 1s}\n", wrong_generation=1)

    def test_death(self):
        for by in ("kill", "abort", "exit"):
            with self.subTest(by=by):
                answer = self.check("worker_died", crash_at="loading", crash_by=by)
                self.assertIn({"kill": "SIGKILL", "abort": "SIGABRT", "exit": "3"}[by], answer.error()["message"])

    def test_a_hang_that_ignores_sigterm(self):
        self.check("load_timeout", "limits: {load_silence: 1s, stop_grace: 200ms}\n", hang_at="loading", ignore_sigterm=1)

    def test_a_message_of_a_later_version_is_dropped(self):
        daemon = self.start({"alpha": fake_model(unknown_kind=1, ready_twice=1)})
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertEqual(daemon.chat("alpha").status, 200)

    def test_ready_without_a_socket(self):
        daemon = self.start({"liar": fake_model(ready_before_socket=1), "good": fake_model()})
        answer = daemon.chat("liar")
        self.assertEqual(answer.status, 503, answer)
        self.assertEqual(daemon.chat("good").status, 200)


class WhileInspecting(DaemonTest):
    def test_readers_that_die_hang_or_refuse(self):
        daemon = self.start({"dies": fake_model(crash_at="inspection"), "hangs": fake_model(hang_at="inspection"),
                             "refuses": fake_model(fail_inspection="unsupported_model"), "good": fake_model()})
        for name, code in (("dies", "invalid_artifact"), ("refuses", "unsupported_model")):
            for call in (lambda: daemon.post("/api/v1/models/inspect", {"model": name}), lambda: daemon.chat(name)):
                answer = call()
                self.assertGreaterEqual(answer.status, 400)
                self.assertEqual(answer.error()["code"], code)
        hanging = InBackground(daemon.chat, "hangs")
        self.assertEqual(daemon.chat("good").status, 200)
        self.assertEqual(hanging.result().error()["code"], "invalid_artifact")
        self.assertLessEqual(len(daemon.workers()), 2, "good's and the standby")


class WhileServing(DaemonTest):
    def test_a_worker_that_lies_about_its_memory_is_measured(self):
        daemon = self.start({"liar": fake_model(memory_mb=150, claim_mb=1)})
        daemon.load("liar")
        held = daemon.worker("liar").held()
        self.assert_close(daemon.model("liar")["instance"]["held_bytes"]["host"], held, 0.02)
        release = daemon.unload("liar").json()["release"]
        self.assert_close(release["freed"], held, 0.02)

    def test_a_worker_that_dies_in_its_answers(self):
        for moment in ("prefill", "decode"):
            for streams in (True, False):
                with self.subTest(moment=moment, streams=streams):
                    daemon = self.start({"bad": fake_model(times=1, crash_at=moment, tokens=5, token_ms=10),
                                         "good": fake_model(tokens=60, token_ms=20)})
                    other = daemon.chat_stream("good")
                    other.event()
                    if streams:
                        stream = daemon.chat_stream("bad")
                        events = stream.events()
                        errors = [e for e in events if "error" in e.data]
                        if stream.status == 200:
                            self.assertEqual(len(errors), 1, events)
                            self.assertIn("error", events[-1].data)
                            self.assertEqual(errors[0].json()["error"]["code"], "worker_died")
                            self.assertFalse(stream.cut)
                        else:
                            self.assertEqual(stream.status, 503)
                    else:
                        answer = daemon.chat("bad")
                        self.assertEqual((answer.status, answer.error()["code"]), (503, "worker_died"))
                        self.assertIn("Retry-After", answer.headers)
                    self.assertEqual(daemon.chat("bad").status, 200)
                    self.assertEqual(other.events()[-1].data, "[DONE]")

    def test_a_worker_that_hangs_in_an_answer_can_be_unloaded(self):
        daemon = self.start({"bad": fake_model(hang_at="decode"), "good": fake_model()},
                            config="limits: {drain_unload: 300ms}\n")
        stream = daemon.chat_stream("bad")
        stream.event()
        self.assertEqual(daemon.chat("good").status, 200)
        self.assertTrue(daemon.unload("bad").json()["changed"])
        self.assertIn("error", stream.events()[-1].data)

    def test_a_worker_that_ignores_sigterm_is_killed(self):
        daemon = self.start({"stubborn": fake_model(ignore_sigterm=1, memory_mb=50), "worse": fake_model(hang_at="stop")},
                            config="limits: {stop_grace: 200ms}\n")
        for name in ("stubborn", "worse"):
            daemon.load(name)
            worker = daemon.worker(name)
            began = time.monotonic()
            release = daemon.unload(name).json()["release"]
            self.assertLess(time.monotonic() - began, 5)
            self.assertTrue(release["proved"])
            self.assertEqual(release["residual"], 0)
            self.assertFalse(alive(worker.pid))

    def test_shutdown_with_stubborn_workers(self):
        daemon = self.start({"stubborn": fake_model(ignore_sigterm=1), "worse": fake_model(hang_at="stop"),
                             "busy": fake_model(hang_at="decode")}, config="limits: {stop_grace: 200ms}\n")
        daemon.load("stubborn")
        daemon.load("worse")
        self.assertEqual(daemon.stop(), [])

    def test_the_standby_is_replaced(self):
        daemon = self.start({"alpha": fake_model()})
        daemon.load("alpha")
        used = daemon.worker("alpha").pid

        def standby():
            """Started a moment after the load; asking the daemon, which is one thread, passes that moment."""
            for _ in range(2000):
                found = [pid for pid in daemon.workers() if pid != used]
                if found:
                    return found
                daemon.get("/health")
            self.fail("there is no standby")
        first = standby()
        self.assertEqual(len(first), 1)
        os.kill(first[0], 9)
        self.assertEqual(wait_gone(first, 5), [])
        daemon.unload("alpha")
        self.assertEqual(daemon.load("alpha").status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
