"""What grows: descriptors and memory over many cycles, and the price of a thousand idle listeners.

Bytes are judged only where no sanitizer adds its own; there CI's release build runs this file.
"""
import os
import resource
import select
import socket
import time
import unittest

from daemon import DaemonTest, PATIENCE_S, SANITIZED, fake_model, status_of


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# The standby worker comes and goes with its descriptors; what leaks does so in each round.
STANDBY = 8


def anonymous(pid):
    return status_of(pid)["RssAnon"]


class Cycles(DaemonTest):
    def test_loads_and_unloads_leave_nothing(self):
        daemon = self.start({"a1": fake_model(tokens=2), "b2": fake_model(tokens=2)}, config="log: {level: warning}\n")

        def cycle():
            for name in ("a1", "b2"):
                self.assertEqual(daemon.chat(name).status, 200)
                left = daemon.chat_stream(name, fake_tokens=100000, fake_token_ms=50)
                left.event()
                left.close()
                self.assertEqual(daemon.unload(name).status, 200)
            self.assertEqual(daemon.chat("nobody").status, 404)
            self.assertEqual(daemon.post("/api/v1/models/inspect", {"model": "a1"}).status, 200)

        rounds = 10 if SANITIZED else 40
        for _ in range(rounds):
            cycle()
        before = descriptors(daemon.pid), anonymous(daemon.pid)
        for _ in range(rounds):
            cycle()
        after = descriptors(daemon.pid), anonymous(daemon.pid)
        self.assertLessEqual(after[0], before[0] + STANDBY, "descriptors")
        if not SANITIZED:
            self.assertLess(after[1] - before[1], 1 << 20, "bytes")
        self.assertLessEqual(len(daemon.workers()), 1, "the standby alone")

    @unittest.skipIf(SANITIZED, "a sanitizer keeps what was freed")
    def test_large_bodies_leave_nothing(self):
        daemon = self.start({"a1": fake_model(tokens=1)})
        body = b'{"model": "nobody", "prompt": "' + b"x" * (20 << 20) + b'"}'
        before = anonymous(daemon.pid)
        for _ in range(6):
            connection = daemon.connection()
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            self.assertEqual(connection.getresponse().status, 404)
            connection.close()
        deadline = time.monotonic() + PATIENCE_S
        while (more := anonymous(daemon.pid) - before) >= 4 << 20:  # the last connection's end has no event
            self.assertLess(time.monotonic(), deadline, f"{more} bytes are kept")
            time.sleep(0.05)

    def test_many_requests_leave_nothing(self):
        daemon = self.start({"a1": fake_model(tokens=1)})
        count = 300 if SANITIZED else 3000
        daemon.load("a1")

        def ask(count):
            connection = daemon.connection()
            body = b'{"model": "a1", "messages": [{"role": "user", "content": "x"}]}'
            for _ in range(count):
                connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                self.assertEqual(response.status, 200)
            connection.close()
        ask(count)
        before = descriptors(daemon.pid), anonymous(daemon.pid)
        ask(count)
        after = descriptors(daemon.pid), anonymous(daemon.pid)
        self.assertLessEqual(after[0], before[0] + STANDBY)
        if not SANITIZED:
            self.assertLess(after[1] - before[1], 512 << 10)
            # The whole daemon, after thousands of requests.
            self.assertLess(status_of(daemon.pid)["RssAnon"], 20 << 20)


class Idle(DaemonTest):
    def test_a_thousand_listeners(self):
        count = 1000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertGreater(hard, count + 200, "the test itself needs more descriptors: raise `ulimit -n`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        daemon = self.start({"a1": fake_model()})
        host, port = daemon.address.split(":")

        def listen(n):
            listeners = []
            for _ in range(n):
                client = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
                self.addCleanup(client.close)
                client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                listeners.append(client)
            for client in listeners:
                text = b""
                while b": llm-manager\n\n" not in text:
                    piece = client.recv(4096)
                    self.assertTrue(piece)
                    text += piece
            return listeners

        def hear(listeners, what):
            for client in listeners:
                text = b""
                while what not in text:
                    piece = client.recv(65536)
                    self.assertTrue(piece)
                    text += piece

        warm = listen(20)
        daemon.load("a1")
        hear(warm, b'"detail":"ready"')
        open_before, before = descriptors(daemon.pid), anonymous(daemon.pid)
        listeners = listen(count)
        per_listener = (anonymous(daemon.pid) - before) / count
        if not SANITIZED:
            print(f"{per_listener / 1024:.1f} KiB for each idle listener", flush=True)
            self.assertLessEqual(per_listener, 20 << 10)
        # All of them are told, and others are served meanwhile.
        daemon.unload("a1")
        self.assertEqual(daemon.chat("a1").status, 200)
        hear(listeners, b'"detail":"absent"')
        for client in listeners:
            client.close()
        # Their ends are seen when the daemon next writes to them or polls; a listener's descriptor goes with it.
        log = daemon.events()
        for _ in range(200):
            daemon.unload("a1")
            daemon.load("a1")
            if descriptors(daemon.pid) <= open_before + STANDBY:
                break
        self.assertLessEqual(descriptors(daemon.pid), open_before + STANDBY)
        log.close()

    def test_a_listener_that_does_not_read_costs_little(self):
        daemon = self.start({"a1": fake_model()})
        host, port = daemon.address.split(":")
        lazy = socket.create_connection((host, int(port)))
        self.addCleanup(lazy.close)
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        before = anonymous(daemon.pid)
        for _ in range(30):
            daemon.load("a1")
            daemon.unload("a1")
        if not SANITIZED:
            self.assertLess(anonymous(daemon.pid) - before, 4 << 20)
        ready, _, _ = select.select([lazy], [], [], PATIENCE_S)
        self.assertTrue(ready)


if __name__ == "__main__":
    unittest.main(verbosity=2)
