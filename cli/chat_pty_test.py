#!/usr/bin/env python3
"""`llm-manager chat` and `load` on a real terminal (a pty), against a daemon played here.

Usage: chat_pty_test.py PATH_OF_LLM_MANAGER. Every wait is for an event, with a deadline.
"""
import http.server
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import fcntl
import sys
import termios
import threading
import time
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1))
PATIENCE_S = 60


ANSWERS = {
    "/health": {"version": "9.9", "uptime_s": 60, "waiting": 3, "oldest_waiting_s": 1.5, "troubles": []},
    "/api/v1/devices": {"devices": [{"id": "host", "capacity": 1 << 34, "free": 1 << 33, "used": 1 << 31, "external": 1 << 31}]},
    "/api/v1/models": {"models": [{"id": "tiny", "state": "ready", "instance": {"id": 1, "slots": 4, "active": 2, "waiting": 3}}]},
    "/api/v1/explain?limit=50": {"decisions": [{"at_ms": 1700000000000, "kind": "load", "model": "tiny", "why": "somebody asked"}]},
}


class Daemon(http.server.ThreadingHTTPServer):
    """Answers `chat` with one word and then silence, until `go_on` is set or the client leaves."""

    daemon_threads = True

    def handle_error(self, *_):
        """A client that leaves in the middle is what is tested here."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.first_word_sent = threading.Event()
        self.client_left = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return "http://127.0.0.1:%d" % self.server_address[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, data, name=None):
        self.chunk(("event: %s\n" % name if name else "") + "data: " + json.dumps(data) + "\n\n")

    def word(self, text):
        self.event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})

    def do_GET(self):
        if self.path in ANSWERS:
            body = json.dumps(ANSWERS[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        known = self.path != "/v1/models/nosuch"
        body = json.dumps({"id": "tiny"} if known else
                          {"error": {"message": "there is no model nosuch", "code": "model_not_found"}}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.path == "/api/v1/models/load":
            self.event({"model": "tiny", "detail": "loading", "stage": "weights", "fraction": 0.5}, "progress")
            self.event({"model": "tiny", "changed": True, "took_s": 0.1, "phases": []}, "done")
            self.chunk("")
            return
        question = body["messages"][-1]["content"]
        if question.startswith("long"):
            self.word("endless ")
            self.server.first_word_sent.set()
            # The client's end of the connection is what this waits for.
            readable, _, _ = select.select([self.connection], [], [], PATIENCE_S)
            if readable and self.connection.recv(1) == b"":
                self.server.client_left.set()
            self.close_connection = True
            return
        self.word("answer to ")
        self.word(question)
        self.chunk("data: [DONE]\n\n")
        self.chunk("")


class Terminal:
    """The program on a pty."""

    def __init__(self, arguments, url, **environment):
        self.seen = ""
        pid, self.fd = pty.fork()
        if pid == 0:
            env = dict(os.environ, LLM_MANAGER_URL=url, TERM="xterm-256color", **environment)
            os.execve(PROGRAM, [PROGRAM] + arguments, env)
        self.pid = pid
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))

    def read_some(self, deadline):
        readable, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise AssertionError("nothing more came; so far:\n" + self.seen)
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, text):
        """Waits until `text` has been shown, and forgets what was shown up to its end."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            if not self.read_some(deadline):
                raise AssertionError("the program ended before %r; it showed:\n%s" % (text, self.seen))
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_until_it_catches_ctrl_c(self):
        """A program that shows nothing yet: the kernel tells what it has set up. Before that, exec would lose the signal."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if os.readlink("/proc/%d/exe" % self.pid) == os.path.realpath(PROGRAM):
                with open("/proc/%d/status" % self.pid) as status:
                    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status.read())[1], 16)
                if caught & 1 << (signal.SIGINT - 1):
                    return
            os.sched_yield()
        raise AssertionError("it never caught SIGINT")

    def end(self):
        deadline = time.monotonic() + PATIENCE_S
        while self.read_some(deadline):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


class ChatOnATerminal(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.server_close)
        self.addCleanup(self.daemon.shutdown)

    def chat(self, *arguments):
        terminal = Terminal(["chat", "tiny", *arguments], self.daemon.url())
        terminal.expect(">>> ")
        return terminal

    def test_a_conversation_remembers_and_clear_forgets(self):
        terminal = self.chat("--system", "Be brief.")
        terminal.type("one\r")
        terminal.expect("answer to one")
        terminal.expect(">>> ")
        terminal.type("two\r")
        terminal.expect("answer to two")
        terminal.expect(">>> ")
        said = [(m["role"], m["content"]) for m in self.daemon.asked[-1][1]["messages"]]
        self.assertEqual(said, [("system", "Be brief."), ("user", "one"), ("assistant", "answer to one"), ("user", "two")])
        terminal.type("/clear\r")
        terminal.expect("forgotten")
        terminal.type("/model other\r")
        terminal.expect("now talking to other")
        terminal.type("three\r")
        terminal.expect("answer to three")
        self.assertEqual([m["content"] for m in self.daemon.asked[-1][1]["messages"]], ["Be brief.", "three"])
        self.assertEqual(self.daemon.asked[-1][1]["model"], "other")
        terminal.expect(">>> ")
        terminal.type("/exit\r")
        self.assertEqual(terminal.end(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.chat()
        terminal.type("long story\r")
        terminal.expect("endless")
        self.assertTrue(self.daemon.first_word_sent.wait(PATIENCE_S))
        terminal.type("\x03")
        terminal.expect("(stopped)")
        terminal.expect(">>> ")
        self.assertTrue(self.daemon.client_left.wait(PATIENCE_S), "the daemon was not told")
        terminal.type("next\r")
        terminal.expect("answer to next")
        # What was read of the stopped answer is part of the conversation.
        said = [m["content"] for m in self.daemon.asked[-1][1]["messages"]]
        self.assertEqual(said, ["long story", "endless ", "next"])
        terminal.expect(">>> ")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), 0)

    def test_a_sigint_from_elsewhere_does_the_same(self):
        terminal = self.chat()
        terminal.type("long story\r")
        terminal.expect("endless")
        os.kill(terminal.pid, signal.SIGINT)
        terminal.expect("(stopped)")
        terminal.expect(">>> ")
        terminal.type("/exit\r")
        self.assertEqual(terminal.end(), 0)

    def test_a_second_ctrl_c_at_the_prompt_leaves(self):
        terminal = self.chat()
        terminal.type("half a line\x03")
        terminal.expect("again leaves")
        terminal.expect(">>> ")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(self.daemon.asked, [])

    def test_history_wide_characters_and_pasted_lines(self):
        terminal = self.chat()
        terminal.type("\u4f60\u597d\x7f\r")
        terminal.expect("answer to \u4f60")
        terminal.expect(">>> ")
        terminal.type("\x1b[A!\r")
        terminal.expect("answer to \u4f60!")
        terminal.expect(">>> ")
        terminal.type("\x1b[200~one\rtwo\x1b[201~\r")
        terminal.expect("answer to one")
        self.assertEqual(self.daemon.asked[-1][1]["messages"][-1]["content"], "one\ntwo")
        terminal.expect(">>> ")
        terminal.type("/exit\r")
        self.assertEqual(terminal.end(), 0)

    def test_the_terminal_is_given_back_as_it_was(self):
        terminal = Terminal(["chat", "tiny"], self.daemon.url())
        before = termios.tcgetattr(terminal.fd)
        terminal.expect(">>> ")
        terminal.type("one\r")
        terminal.expect("answer to one")
        terminal.expect(">>> ")
        terminal.type("\x04")
        # Between the last prompt and the end of the program the mode is the old one again.
        terminal.expect("\x1b[?2004l")
        deadline = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(terminal.fd)[3] != before[3]:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(terminal.end(), 0)

    def test_a_model_that_is_not_there_is_told_before_the_first_question(self):
        terminal = Terminal(["chat", "-m", "nosuch"], self.daemon.url())
        self.assertEqual(terminal.end(), 4)
        self.assertIn("there is no model nosuch", terminal.seen)
        terminal = self.chat()
        terminal.type("/model nosuch\r")
        terminal.expect("there is no model nosuch")
        terminal.expect(">>> ")
        terminal.type("one\r")
        terminal.expect("answer to one")
        self.assertEqual(self.daemon.asked[-1][1]["model"], "tiny")
        terminal.type("/exit\r")
        self.assertEqual(terminal.end(), 0)

    def test_one_question_interrupted_is_130(self):
        terminal = Terminal(["chat", "tiny", "long story"], self.daemon.url())
        terminal.expect("endless")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 130)

    def test_ctrl_c_while_standard_input_is_read_is_130(self):
        terminal = Terminal(["embed", "minilm", "a", "-"], self.daemon.url())
        terminal.wait_until_it_catches_ctrl_c()
        terminal.type("\x03")
        terminal.expect("interrupted")
        self.assertEqual(terminal.end(), 130)
        self.assertEqual(self.daemon.asked, [])

    def test_load_redraws_one_line_with_colours_only_where_wanted(self):
        terminal = Terminal(["load", "tiny"], self.daemon.url())
        terminal.expect("tiny is ready after 0.10 s")
        self.assertEqual(terminal.end(), 0)
        for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            terminal = Terminal(["list"], "http://127.0.0.1:1", **environment)
            self.assertEqual(terminal.end(), 3)
            self.assertEqual(bool(re.search("\x1b\\[31m", terminal.seen)), coloured, terminal.seen)


class TopOnATerminal(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.server_close)
        self.addCleanup(self.daemon.shutdown)

    def top(self, *arguments):
        return Terminal(["top", "-d", "0.1", *arguments], self.daemon.url())

    def test_it_draws_again_and_q_gives_the_screen_back(self):
        terminal = self.top()
        before = termios.tcgetattr(terminal.fd)
        terminal.expect("\x1b[?1049h")
        for _ in range(3):
            terminal.expect("llm-manager 9.9")
            terminal.expect("3 requests wait, the oldest for 1.50 s")
            terminal.expect("host")
            terminal.expect("tiny")
            terminal.expect("somebody asked")
        terminal.type("\x1b[A")  # an arrow is no Escape
        terminal.expect("llm-manager 9.9")
        terminal.expect("somebody asked")
        terminal.type("q")
        terminal.expect("\x1b[?1049l")
        self.assertEqual(terminal.end(), 0)
        self.assertTrue(before)

    def test_ctrl_c_ends_it_well(self):
        terminal = self.top()
        terminal.expect("somebody asked")
        terminal.type("\x03")
        terminal.expect("\x1b[?1049l")
        self.assertEqual(terminal.end(), 0)

    def test_a_daemon_that_goes_away_is_waited_for(self):
        terminal = self.top()
        terminal.expect("somebody asked")
        ANSWERS["/health"], kept = None, ANSWERS["/health"]
        try:
            terminal.expect("llm-manager   nobody")
        finally:
            ANSWERS["/health"] = kept
        terminal.expect("llm-manager 9.9")
        self.daemon.shutdown()
        self.daemon.server_close()
        terminal.expect("no daemon answers")
        terminal.type("q")
        self.assertEqual(terminal.end(), 0)


class LostOutput(unittest.TestCase):
    def test_an_answer_that_did_not_arrive_is_no_success(self):
        with open("/dev/full", "w") as full:
            ran = subprocess.run([PROGRAM, "config", "example"], stdout=full, stderr=subprocess.PIPE, text=True,
                                 timeout=PATIENCE_S, check=False)
        self.assertEqual(ran.returncode, 1)
        self.assertEqual(ran.stderr, "error: the output could not be written: No space left on device\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
