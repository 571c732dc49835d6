"""Socket.IO's clients by hand, as its protocol 5 on Engine.IO 4 has it: what they chat, and how many they may be.
tests/web asks the same with the real client."""
import base64
import contextlib
import json
import os
import selectors
import socket
import struct
import unittest

from daemon import PATIENCE_S, SANITIZED, DaemonTest, fake_model, held_bytes

IDLE = 200 if SANITIZED else 2000
CHATTING = 50 if SANITIZED else 500
MIB = 1 << 20


class SocketIo:
    """A client over a WebSocket, in one namespace."""

    def __init__(self, daemon, auth=None, query="", space="/", receive_buffer=0):
        host, _, port = daemon.address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""
        self.prefix = "" if space == "/" else space + ","
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: localhost\r\n"
                             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.bytes:
            self._receive()
        head, _, self.bytes = self.bytes.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        opened = self.packet()
        assert opened.startswith("0{"), opened
        self.send(f"40{self.prefix}" + (json.dumps(auth) if auth is not None else ""))
        self.admitted = self.packet()

    def _receive(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the daemon has hung up")
        self.bytes += piece

    def send(self, text):
        payload = text.encode()
        size = len(payload)
        head = bytes([0x81, 0x80 | size]) if size < 126 else struct.pack(">BBH", 0x81, 0xFE, size)
        self.socket.sendall(head + b"\0\0\0\0" + payload)

    def buffered(self):
        """The next frame's text where all of it is there; None where it is not."""
        if len(self.bytes) < 2:
            return None
        size, at = self.bytes[1] & 0x7F, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(self.bytes) < at:
                return None
            size = int.from_bytes(self.bytes[2:at], "big")
        if len(self.bytes) < at + size:
            return None
        text = self.bytes[at:at + size].decode()
        self.bytes = self.bytes[at + size:]
        return text

    def packet(self):
        while (text := self.buffered()) is None:
            self._receive()
        if text == "2":
            self.send("3")
            return self.packet()
        return text

    def emit(self, event, datum, ack=""):
        self.send(f"42{self.prefix}{ack}" + json.dumps([event, datum]))

    def event(self, *names, **fields):
        """The next event of these names, with these fields: its name and datum."""
        while True:
            text = self.packet()
            if text.startswith("42" + self.prefix + "["):
                name, datum = json.loads(text[2 + len(self.prefix):])
                if (not names or name in names) and all(datum.get(k) == v for k, v in fields.items()):
                    return name, datum

    def acknowledged(self, number):
        mark = f"43{self.prefix}{number}["
        while not (text := self.packet()).startswith(mark):
            pass
        return json.loads(text[len(mark) - 1:])[0]

    def answer(self):
        """The pieces of the next answer, and its end."""
        pieces = []
        while True:
            name, datum = self.event("chat_chunk", "chat_done", "chat_error")
            if name != "chat_chunk":
                return pieces, name, datum
            pieces.append(datum)

    def close(self):
        self.socket.close()


class SocketIoTest(DaemonTest):
    def connect(self, daemon, **more):
        client = SocketIo(daemon, **more)
        self.addCleanup(client.close)
        return client


class Chat(SocketIoTest):
    def test_an_answer_in_pieces_and_whole(self):
        daemon = self.start({"alpha": fake_model(tokens=6)})
        client = self.connect(daemon)
        client.emit("chat_message", {"message": "Hello"}, ack=7)
        accepted = client.acknowledged(7)
        pieces, name, done = client.answer()
        self.assertEqual(name, "chat_done")
        self.assertEqual("".join(p["content"] for p in pieces), "w0 w1 w2 w3 w4 w5")
        self.assertGreater(len(pieces), 1)
        self.assertEqual({p["id"] for p in pieces} | {accepted["id"]}, {done["id"]})
        self.assertEqual((done["role"], done["content"], done["type"], done["model_used"], done["finish_reason"]),
                         ("assistant", "w0 w1 w2 w3 w4 w5", "text", "alpha", "stop"))
        self.assertRegex(done["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")

    def test_what_was_said_before_is_told_to_the_model(self):
        daemon = self.start({"alpha": fake_model(say="Paris", tokens=1), "beta": fake_model(say="Rome", tokens=1)})
        one, other = self.connect(daemon), self.connect(daemon)
        one.emit("chat_message", {"message": "first", "selected_model": "alpha"})
        one.answer()
        other.emit("chat_message", {"message": "not in this", "selected_model": "alpha"})
        other.answer()
        one.emit("chat_message", {"message": "second", "selected_model": "beta"})
        self.assertEqual(one.answer()[2]["content"], "Rome")
        said = [(m["role"], m["content"]) for m in json.loads(daemon.worker("beta").last()["body"])["messages"]]
        self.assertEqual(said, [("user", "first"), ("assistant", "Paris"), ("user", "second")])

    def test_errors_are_told_and_nothing_else_suffers(self):
        daemon = self.start({"alpha": fake_model(tokens=2), "broken": fake_model(fail="invalid_artifact")})
        client = self.connect(daemon)
        for datum, code in (({"message": "x", "selected_model": "nobody"}, "model_not_found"), ({}, "invalid_field"),
                            ({"message": 7}, "invalid_field"), ("text", "invalid_field"),
                            ({"message": "x", "images": [7]}, "invalid_field"),
                            ({"message": "x", "selected_model": "alpha", "room_id": {}}, "invalid_field")):
            client.emit("chat_message", datum, ack=1)
            self.assertEqual(client.acknowledged(1)["error"]["code"], code, datum)
            self.assertEqual(client.event("chat_error")[1]["code"], code, datum)
        client.emit("chat_message", {"message": "x", "selected_model": "broken"})
        self.assertEqual(client.answer()[1:][0], "chat_error")
        client.emit("chat_message", {"message": "x", "selected_model": "alpha"})
        self.assertEqual(client.answer()[1], "chat_done")

    def test_a_room_hears_together(self):
        daemon = self.start({"alpha": fake_model(tokens=4)})
        one, two, stranger = (self.connect(daemon) for _ in range(3))
        two.emit("join_room", {"room_id": "r"}, ack=1)
        self.assertEqual(two.acknowledged(1), {"room_id": "r"})
        question = {"message": "Hello", "selected_model": "alpha", "room_id": "r"}
        one.emit("chat_message", question)
        self.assertEqual(two.event("chat_message")[1]["content"], "Hello")
        for client in (one, two):
            pieces, _, done = client.answer()
            self.assertEqual("".join(p["content"] for p in pieces), done["content"])
            self.assertEqual(done["room_id"], "r")
        stranger.emit("chat_message", {"message": "x", "selected_model": "alpha"})
        self.assertNotIn("room_id", stranger.event("chat_chunk")[1])
        # Who is not in it neither stops nor hears what is said there.
        stranger.emit("chat_stop", {"room_id": "r"}, ack=5)
        self.assertEqual(stranger.acknowledged(5), {"stopped": False})
        # What was said is the room's.
        two.emit("chat_message", question)
        two.answer()
        self.assertEqual(len(json.loads(daemon.worker("alpha").last()["body"])["messages"]), 3)

    def test_who_leaves_sets_the_model_free(self):
        daemon = self.start({"alpha": fake_model(tokens=100000, token_ms=20)})
        client = self.connect(daemon)
        client.emit("chat_message", {"message": "x", "selected_model": "alpha"})
        client.event("chat_chunk")
        client.close()
        daemon.worker("alpha").wait(cancelled=1)

    def test_an_answer_can_be_stopped(self):
        daemon = self.start({"alpha": fake_model(tokens=100000, token_ms=20)})
        client = self.connect(daemon)
        client.emit("chat_message", {"message": "x", "selected_model": "alpha"})
        client.event("chat_chunk")
        client.emit("chat_stop", {}, ack=1)
        _, name, done = client.answer()
        self.assertEqual((name, done["finish_reason"]), ("chat_done", "stopped"))
        client.emit("chat_message", {"message": "y", "selected_model": "alpha"})
        self.assertTrue(client.event("chat_chunk")[1]["content"].startswith("w0"))

    def test_translations(self):
        daemon = self.start({"alpha": fake_model(say="Bonjour", tokens=1)})
        client = self.connect(daemon)
        client.emit("translation_request", {"text": "Hello", "source_lang": "en", "target_lang": "fr"}, ack=3)
        self.assertEqual(client.acknowledged(3)["translation"], "Bonjour")
        self.assertEqual(client.event("translation_result")[1],
                         {"text": "Hello", "source_lang": "en", "target_lang": "fr", "model_used": "alpha",
                          "translation": "Bonjour"})
        client.emit("translation_request", {"text": "Hello"})
        self.assertEqual(client.event("translation_result")[1]["error"]["code"], "invalid_field")


class Status(SocketIoTest):
    def test_models_and_devices_are_told_as_they_change(self):
        daemon = self.start({"alpha": fake_model()})
        for space in ("/", "/status"):
            with self.subTest(space=space), contextlib.closing(SocketIo(daemon, space=space)) as client:
                self.assertEqual(client.event("model_status", model="alpha")[1]["state"], "unloaded")
                self.assertEqual(client.event("gpu_status")[1]["devices"][0]["id"], "host")
                daemon.load("alpha")
                client.event("model_status", model="alpha", state="ready")
                daemon.unload("alpha")
                released = client.event("model_status", model="alpha", state="unloaded")[1]
                self.assertTrue(released["release"]["proved"], released)


class Keys(SocketIoTest):
    CONFIG = "server: {key_file: keys.env}\n"

    def test_who_is_not_from_here_needs_a_key(self):
        daemon = self.make({"alpha": fake_model(tokens=2)}, "server: {keys: {user_env: USER_KEY}}\n",
                           environment={"USER_KEY": "sk-user-1234567890"})
        daemon.start()
        stranger = {"X-Forwarded-For": "192.0.2.1"}  # as a proxy passes on who is elsewhere

        def admitted(auth, query="", header=()):
            path = "/socket.io/?EIO=4&transport=polling"
            opened = daemon.get(path + query, headers={**stranger, **dict(header)})
            self.assertEqual(opened.status, 200, opened)
            path += "&sid=" + json.loads(opened.body[1:])["sid"]
            daemon.post(path, "40" + json.dumps(auth), headers=stranger)
            return daemon.get(path, headers=stranger).body.decode().split("\x1e")[0]

        self.assertIn("missing_key", admitted({}))
        self.assertIn("wrong_key", admitted({"token": "guess"}))
        for way in (({"token": "sk-user-1234567890"},), ({"key": "sk-user-1234567890"},), ({}, "&key=sk-user-1234567890"),
                    ({}, "", {"Authorization": "Bearer sk-user-1234567890"})):
            self.assertTrue(admitted(*way).startswith('40{"sid":'), way)


class Many(SocketIoTest):
    def test_idle_clients_cost_little(self):
        daemon = self.start({"alpha": fake_model()})
        # What the first costs is the daemon's own.
        self.connect(daemon).event("gpu_status")
        before = held_bytes(daemon.pid)
        clients = [self.connect(daemon) for _ in range(IDLE)]
        for client in clients:
            client.event("gpu_status")
        grown = held_bytes(daemon.pid) - before
        print(f"{IDLE} idle clients hold {grown / MIB:.1f} MiB, {grown / IDLE:.0f} bytes each", flush=True)
        if not SANITIZED:
            self.assertLessEqual(grown, 40_000_000)

    def test_many_chat_without_loss_or_reorder(self):
        tokens = 40
        daemon = self.start({"alpha": fake_model(tokens=tokens, slots=64, token_ms=1)},
                            "scheduling: {queue_per_model: 2000, queue_total: 2000}\n")
        expected = " ".join(f"w{i}" for i in range(tokens))
        clients = [self.connect(daemon) for _ in range(CHATTING)]
        # One of them does not look.
        lazy = self.connect(daemon, receive_buffer=4096)
        for number, client in enumerate([lazy, *clients]):
            client.emit("chat_message", {"message": f"question {number}"})
        said = {client: "" for client in clients}
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.socket, selectors.EVENT_READ, client)
            open_ones = len(clients)
            while open_ones:
                ready = selector.select(PATIENCE_S)
                self.assertTrue(ready, f"{open_ones} clients wait for something")
                for key, _ in ready:
                    client = key.data
                    client._receive()
                    while (text := client.buffered()) is not None:
                        if text == "2":
                            client.send("3")
                        if not text.startswith("42["):
                            continue
                        name, datum = json.loads(text[2:])
                        self.assertNotEqual(name, "chat_error", datum)
                        if name == "chat_chunk":
                            said[client] += datum["content"]
                        if name == "chat_done":
                            self.assertEqual(datum["content"], expected)
                            self.assertEqual(said[client], expected)
                            selector.unregister(client.socket)
                            open_ones -= 1
        pieces, _, done = lazy.answer()
        self.assertEqual("".join(p["content"] for p in pieces), expected)
        self.assertEqual(done["content"], expected)


if __name__ == "__main__":
    unittest.main()
