#!/usr/bin/env python3
"""The private daemon's life: it ends with its program, however that ends."""
import os
import pathlib
import signal
import subprocess
import sys
import unittest

from home import HomeTest, PATIENCE_S, pids_of, wait_gone

OPEN = """
import asyncio, os, signal, sys, threading
from llm_manager import LLMManager
manager = LLMManager(CONFIG)
assert asyncio.run(manager.initialize()), manager.last_error
print(manager._native.private_daemon, flush=True)
sys.stdin.readline()
"""
# A question that is never answered is under way.
BUSY = OPEN + """
threading.Thread(target=lambda: asyncio.run(manager.generate_response("Hello")), daemon=True).start()
async def asked():
    while manager._native.model("chat")["active"] == 0:
        await asyncio.sleep(0.01)
asyncio.run(asked())
print("busy", flush=True)
"""


class Life(HomeTest):
    def run_to_end(self, code, kill=None, more_output=(), **model):
        config = self.config(self.model("alpha", **model))
        with self.program(code, config) as program:
            daemon = int(program.stdout.readline() or 0)
            self.assertGreater(daemon, 0, "it did not start a daemon")
            there = [pid for pid in pids_of(self.home) if pid not in (program.pid, os.getpid())]
            self.assertIn(daemon, there)
            self.assertGreaterEqual(len(there), 2, "a daemon and a worker")
            # Only now that its processes are counted may it go on to its end.
            program.stdin.write("\n")
            program.stdin.flush()
            for line in more_output:
                self.assertEqual(program.stdout.readline().strip(), line)
            if kill is not None:
                program.send_signal(kill)
            try:
                errors = program.communicate(timeout=PATIENCE_S)[1]
            except subprocess.TimeoutExpired:
                program.kill()
                raise
            self.assertEqual(wait_gone(there, 10), [], "left behind")
            return program.returncode, errors

    def test_an_end_without_cleanup(self):
        self.assertEqual(self.run_to_end(OPEN), (0, ""))

    def test_sys_exit(self):
        self.assertEqual(self.run_to_end(OPEN + "sys.exit(3)"), (3, ""))

    def test_an_exception(self):
        code, errors = self.run_to_end(OPEN + "raise ValueError('mine')")
        self.assertEqual(code, 1)
        self.assertIn("ValueError: mine", errors)

    def test_os_exit(self):
        self.assertEqual(self.run_to_end(OPEN + "os._exit(4)")[0], 4)

    def test_kill_while_it_answers(self):
        code, _ = self.run_to_end(BUSY + "signal.pause()", kill=signal.SIGKILL, more_output=("busy",), hang_at="decode")
        self.assertEqual(code, -signal.SIGKILL)

    def test_ctrl_c_while_it_answers(self):
        code, errors = self.run_to_end(BUSY + "signal.pause()", kill=signal.SIGINT, more_output=("busy",),
                                       hang_at="decode")
        self.assertIn(code, (1, -signal.SIGINT))
        self.assertIn("KeyboardInterrupt", errors)

    def test_ctrl_c_in_a_call_that_waits(self):
        code = OPEN + """
def interrupt():
    while manager._native.model("embedding")["active"] == 0:
        pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
manager.get_embeddings(["Hello"])
"""
        config = self.config(self.model("alpha"), self.model("vectors", kind="embedding", hang_at="prefill"))
        with self.program(code, config) as program:
            errors = program.communicate("\n", timeout=PATIENCE_S)[1]
        self.assertIn("KeyboardInterrupt", errors)
        self.assertEqual(wait_gone(pids_of(self.home), 10), [])

    def test_the_end_of_an_interpreter_with_an_answer_under_way(self):
        self.assertEqual(self.run_to_end(BUSY, more_output=("busy",), hang_at="decode")[0], 0)

    def test_a_child_does_not_keep_its_parents_daemon(self):
        # The child lives until its standard input ends, long after its parent.
        code = OPEN + """
if os.fork() == 0:
    from llm_manager import LLMManagerError
    try:
        manager.get_gpu_status()
    except LLMManagerError as error:
        print(error.reason, flush=True)
    sys.stdout.close()
    os.close(1), os.close(2)
    signal.pause()
os.wait3(os.WNOHANG)
signal.pause()
"""
        config = self.config(self.model("alpha"))
        with self.program(code, config) as program:
            daemon = int(program.stdout.readline())
            program.stdin.write("\n")
            program.stdin.flush()
            self.assertEqual(program.stdout.readline().strip(), "forked")
            there = pids_of(self.home)
            child = [pid for pid in there if pid not in (program.pid, os.getpid())
                     and pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("python")]
            self.assertEqual(len(child), 1)
            program.kill()
            program.wait(PATIENCE_S)
            self.assertEqual(wait_gone([daemon], 10), [])
            os.kill(child[0], signal.SIGKILL)
            self.assertEqual(wait_gone(child, 10), [])

    async def test_a_daemon_that_was_killed_is_told_and_cleaned_up(self):
        from llm_manager import UnavailableError
        manager = await self.manager(self.config(self.model("alpha")))
        there = [pid for pid in pids_of(self.home) if pid != os.getpid()]
        os.kill(manager._native.private_daemon, signal.SIGKILL)
        with self.assertRaises(UnavailableError) as raised:
            while True:
                manager.get_gpu_status()
        self.assertEqual(raised.exception.reason, "no_daemon")
        manager.cleanup()
        manager.cleanup()
        self.assertEqual(wait_gone(there, 10), [])

    async def test_two_at_a_time_and_what_is_learned_stays(self):
        config = self.config(self.model("alpha"))
        one, two = await self.manager(config), await self.manager(config)
        self.assertNotEqual(one._native.address, two._native.address)
        self.assertEqual(await one.generate_response("Hello"), await two.generate_response("Hello"))
        address = one._native.address
        one.cleanup()
        two.cleanup()
        third = await self.manager(config)
        self.assertEqual(third._native.address, address)
        self.assertEqual(third._native.model("chat")["footprint"].keys(), {"host"})


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    unittest.main(verbosity=2)
