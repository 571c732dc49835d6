#!/usr/bin/env python3
"""A stand-in for the places that models are pulled from, on one port of the loopback address:

  /api/models/OWNER/REPO/revision/REV      the hub's description of a repository
  /OWNER/REPO/resolve/REV/PATH             redirects to a content address on another origin ("localhost")
  /v2/NAMESPACE/NAME/manifests/TAG, /v2/NAMESPACE/NAME/blobs/sha256:…   Ollama's registry
  /PACKAGE/VERSION, /tarballs/NAME         npm's
  /plain/NAME                              a file without anything around it

Misbehaviour comes from a Trouble, each of whose chances is asked at every request for content, by a seeded
generator. What was sent is counted per content, chunk by chunk, in `Hub.sent`.
"""
import argparse
import collections
import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import random
import re
import socket
import threading
import time


@dataclasses.dataclass
class Trouble:
    seed: int = 0
    cut: float = 0.0           # the connection ends in the middle of an answer
    server_error: float = 0.0  # 500, 502, 503
    busy: float = 0.0          # 429, with and without Retry-After
    stall: float = 0.0         # bytes stop coming
    slow: float = 0.0          # few bytes at a time
    list_errors: float = 0.0   # the same two for descriptions
    no_ranges: bool = False
    wrong_bytes: bool = False  # the content is not what its hash says
    hops: int = 1              # redirections before the content
    most_troubles: int = 1000  # after so many it behaves
    rate: int = 0              # bytes a second and connection; 0: as fast as it goes
    private: str = ""          # the key without which descriptions are not told


class Content:
    def __init__(self, name, data, promised=None):
        self.name, self.data = name, data
        self.sha256 = promised or hashlib.sha256(data).hexdigest()


class Hub:
    def __init__(self, trouble=None, tls=None):
        """tls: an ssl.SSLContext of a server, for a hub behind https."""
        self.trouble = trouble or Trouble()
        self.scheme = "https" if tls else "http"
        self.random = random.Random(self.trouble.seed)
        self.lock = threading.Lock()
        self.repositories, self.contents, self.manifests, self.packages = {}, {}, {}, {}
        self.requests = []                          # (method, path, range, authorization, host)
        self.sent = collections.Counter()           # bytes, by content
        self.ranges = collections.Counter()         # how often each range was begun, by (content, range)
        self.troubles = 0
        self.more = threading.Condition(self.lock)  # something was sent
        hub = self

        class Answers(Handler):
            pass
        Answers.hub = hub
        self.server = Server(("127.0.0.1", 0), Answers)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def close(self):
        self.server.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    # ---- what it has

    def add(self, repository, files, promised=None, commit="c" * 40):
        """files: name -> bytes; promised: name -> another sha256 than the true one."""
        siblings = []
        for name, data in files.items():
            content = Content(f"{repository}/{name}", data, (promised or {}).get(name))
            self.contents[content.name] = content
            siblings.append({"rfilename": name, "size": len(data), "blobId": "0" * 40,
                             "lfs": {"sha256": content.sha256, "size": len(data), "pointerSize": 134}})
        siblings.append({"rfilename": "README.md", "size": 3, "blobId": "1" * 40})
        self.repositories[repository] = {"id": repository, "sha": commit, "siblings": siblings}

    def add_ollama(self, name, tag, data):
        content = Content(f"blob/{name}:{tag}", data)
        self.contents[content.name] = content
        self.contents["sha256:" + content.sha256] = content
        self.manifests[(name, tag)] = {"schemaVersion": 2, "layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + content.sha256, "size": len(data)},
            {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "a" * 64, "size": 5}]}

    def add_package(self, name, version, data, integrity):
        self.contents[f"tarballs/{name}"] = Content(f"tarballs/{name}", data)
        self.packages[(name, version)] = {"name": name, "version": version, "dist": {
            "tarball": f"{self.url}/tarballs/{name}", "integrity": integrity}}

    def add_plain(self, name, data):
        self.contents[f"plain/{name}"] = Content(f"plain/{name}", data)

    # ---- for tests

    def wait_sent(self, name, least, limit_s=60):
        """Until so many bytes of a content were sent."""
        deadline = time.monotonic() + limit_s
        with self.more:
            while self.sent[name] < least:
                if not self.more.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{self.sent[name]} bytes of {name} were sent after {limit_s} s, not {least}")

    def chance(self, share):
        with self.lock:
            if share <= 0 or self.troubles >= self.trouble.most_troubles or self.random.random() >= share:
                return False
            self.troubles += 1
            return True

    def pick(self, *choices):
        with self.lock:
            return self.random.choice(choices)

    def fraction(self):
        with self.lock:
            return self.random.random()


class Tunnels:
    """A proxy that answers CONNECT and nothing else, and knows whom it has connected with."""

    def __init__(self, authorization=None):
        self.authorization, self.asked = authorization, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            self.answer(client)

    def answer(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = client.recv(1)
            if not byte:
                return
            head += byte
        where = head.split()[1].decode()
        self.asked.append(where)
        if self.authorization and f"Proxy-Authorization: {self.authorization}".encode() not in head:
            return client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
            back.start()
            self.pump(client, server)
            back.join()

    @staticmethod
    def pump(source, target):
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        # close() alone leaves an accept() waiting.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments):
        self.stopping = threading.Event()
        super().__init__(*arguments)

    def handle_error(self, request, client_address):
        pass  # clients that were killed


class Cut(Exception):
    pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *arguments):
        pass

    def setup(self):
        super().setup()
        # A cut must be seen where it happens: what lies in a socket's buffers was sent, but may not arrive.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)

    def do_GET(self):
        hub, path = self.hub, self.path.split("?")[0]
        with hub.lock:
            hub.requests.append((self.command, self.path, self.headers.get("Range"),
                                 self.headers.get("Authorization"), self.headers.get("Host")))
        try:
            self.route(path)
        except Cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_CONNECT(self):
        with self.hub.lock:
            self.hub.requests.append((self.command, self.path, None, self.headers.get("Proxy-Authorization"), None))
        self.say(403, {"error": "no tunnels here"})

    def route(self, path):
        hub = self.hub
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self.describe(hub.repositories.get(found[1]))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.redirect(f"{found[1]}/{found[3]}", hub.trouble.hops)
        if found := re.fullmatch(r"/hop/(\d+)/(.+)", path):
            return self.redirect(found[2], int(found[1]))
        if found := re.fullmatch(r"/content/(.+)", path):
            return self.send(hub.contents.get(found[1]))
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            return self.describe(hub.manifests.get((found[1], found[2])))
        if found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]+)", path):
            return self.send(hub.contents.get(found[2]))
        if path.startswith(("/plain/", "/tarballs/")):
            return self.send(hub.contents.get(path[1:]))
        if found := re.fullmatch(r"/([^/]+)/([^/]+)", path):
            return self.describe(hub.packages.get((found[1], found[2])))
        self.say(404, {"error": "nothing there"})

    # ---- answers

    def say(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def describe(self, found):
        hub, trouble = self.hub, self.hub.trouble
        if hub.chance(trouble.list_errors):
            return self.refuse(hub.pick(429, 500, 503))
        if trouble.private and self.headers.get("Authorization") != f"Bearer {trouble.private}":
            return self.say(401, {"error": "Invalid username or password."})
        if found is None:
            return self.say(404, {"error": "Repository not found"})
        self.say(200, found)

    def refuse(self, status):
        headers = {"Retry-After": "0"} if status in (429, 503) and self.hub.pick(True, False) else {}
        self.say(status, {"error": "not now"}, headers)

    def redirect(self, name, hops):
        # The last hop is another origin, where no key may arrive.
        if hops > 1:
            where = f"/hop/{hops - 1}/{name}"
        else:
            where = f"{self.hub.scheme}://localhost:{self.hub.port}/content/{name}?signature=abc%2Fdef"
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content):
        hub, trouble = self.hub, self.hub.trouble
        if content is None:
            return self.say(404, {"error": "no such file"})
        if hub.chance(trouble.busy):
            return self.refuse(429)
        if hub.chance(trouble.server_error):
            return self.refuse(hub.pick(500, 502, 503))
        data = content.data
        first, last, status = 0, len(data) - 1, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)?", self.headers.get("Range") or "")
        if wanted and not trouble.no_ranges:
            first, last, status = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1), 206
            if first > last:
                return self.say(416, {"error": "no such range"})
        piece = data[first:last + 1]
        if trouble.wrong_bytes and first == 0:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        with hub.lock:
            hub.ranges[(content.name, first)] += 1
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        cut_at = int(len(piece) * hub.fraction()) if hub.chance(trouble.cut) else None
        stall_at = int(len(piece) * hub.fraction()) if hub.chance(trouble.stall) else None
        step = 512 if hub.chance(trouble.slow) else 16384
        at = 0
        while at < len(piece):
            if cut_at is not None and at >= cut_at:
                raise Cut()
            if stall_at is not None and at >= stall_at:
                self.server.stopping.wait(30)
                raise Cut()
            end = min(at + step, len(piece), *(x for x in (cut_at, stall_at) if x is not None and x > at))
            self.wfile.write(piece[at:end])
            with hub.more:
                hub.sent[content.name] += end - at
                hub.more.notify_all()
            if trouble.rate:
                self.server.stopping.wait((end - at) / trouble.rate)
            at = end
        self.wfile.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default="owner/tiny-GGUF")
    parser.add_argument("--file", help="the repository's one file; without it, zeros by the name tiny-Q4_K_M.gguf")
    parser.add_argument("--rate", type=int, default=0, help="bytes a second and connection")
    given = parser.parse_args()
    files = {"tiny-Q4_K_M.gguf": bytes(5_000_000)}
    if given.file:
        path = pathlib.Path(given.file)
        files = {path.name: path.read_bytes()}
    hub = Hub(Trouble(rate=given.rate))
    hub.add(given.repository, files)
    print(f"listening on {hub.url}", flush=True)
    hub.thread.join()


if __name__ == "__main__":
    main()
