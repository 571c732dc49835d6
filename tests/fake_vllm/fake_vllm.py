#!/usr/bin/env python3
"""A vLLM without a model: its HTTP interface, with words by the clock and memory that is really held.

  fake_vllm.py [--port N | --socket PATH] [--model NAME]... [--memory MIB] [--no-sleep-mode] [--liar]
               [--sleep-takes S] [--start-takes S] [--dies-after S] [--no-health] [--deaf] [--sleep-kills]
               [--tokens N] [--pause S]

--memory is held by a child process in private anonymous memory from the start until /sleep, and again from
/wake_up. --liar: /sleep answers 200, /is_sleeping answers true, and the memory stays. --start-takes: so long
it listens and answers 503, as llama-server does while it loads. --deaf: SIGTERM and SIGINT are ignored.
--sleep-kills: it dies of being asked to sleep.
Port 0 picks one; the line "listening on …" on standard output says which.
"""
import argparse
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.parse

HOLD = "import mmap, sys; m = mmap.mmap(-1, int(sys.argv[1])); m.write(b'x' * len(m)); " \
       "print('held', flush=True); sys.stdin.read()"


class Memory:
    """A child that holds so many bytes; returned to the system when it has ended, which drop() waits for."""

    def __init__(self, size):
        self.size = size
        self.child = None

    def hold(self):
        if self.child is None and self.size > 0:
            self.child = subprocess.Popen([sys.executable, "-c", HOLD, str(self.size)], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE)
            self.child.stdout.readline()

    def drop(self):
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None


class Model:
    """What the server knows; one lock for all of it."""

    def __init__(self, options):
        self.options = options
        self.memory = Memory(options.memory << 20)
        self.lock = threading.Lock()
        self.sleeping = False
        self.ready_at = time.monotonic() + options.start_takes

    def ready(self):
        return time.monotonic() >= self.ready_at

    def sleep(self):
        if self.options.sleep_kills:
            self.memory.drop()
            os._exit(7)
        time.sleep(self.options.sleep_takes)
        with self.lock:
            if not self.options.liar:
                self.memory.drop()
            self.sleeping = True

    def wake_up(self):
        with self.lock:
            self.memory.hold()
            self.sleeping = False


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = None

    def log_message(self, *_):
        pass

    def address_string(self):
        return "socket"

    def answer(self, status, value=None, content_type="application/json"):
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message):
        self.answer(status, {"error": {"message": message, "type": "error", "code": status}})

    def do_GET(self):
        model, path = self.model, urllib.parse.urlparse(self.path).path
        if not model.ready():
            self.refuse(503, "Loading model")
        elif path == "/health" and not model.options.no_health:
            self.answer(200)
        elif path == "/version":
            self.answer(200, {"version": "0.11.0"})
        elif path == "/is_sleeping" and not model.options.no_sleep_mode:
            self.answer(200, {"is_sleeping": model.sleeping})
        elif path == "/v1/models":
            self.answer(200, {"object": "list", "data": [
                {"id": name, "object": "model", "owned_by": "vllm", "root": name, "max_model_len": 4096}
                for name in model.options.model]})
        else:
            self.answer(404, {"detail": "Not Found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        model, url = self.model, urllib.parse.urlparse(self.path)
        if url.path == "/sleep" and not model.options.no_sleep_mode:
            level = urllib.parse.parse_qs(url.query).get("level", ["1"])[0]
            if level not in ("0", "1", "2"):
                return self.refuse(400, "level must be 0, 1 or 2")
            model.sleep()
            self.answer(200)
        elif url.path == "/wake_up" and not model.options.no_sleep_mode:
            model.wake_up()
            self.answer(200)
        elif url.path == "/v1/chat/completions":
            self.chat(body)
        else:
            self.answer(404, {"detail": "Not Found"})

    def chat(self, body):
        try:
            request = json.loads(body)
        except ValueError:
            return self.refuse(400, "that is no JSON")
        name, options = request.get("model"), self.model.options
        if name not in options.model:
            return self.refuse(404, f"The model `{name}` does not exist.")
        if self.model.sleeping:
            return self.refuse(503, "the engine sleeps")
        words = [f"word{i} " for i in range(options.tokens)]
        base = {"id": "chatcmpl-1", "created": int(time.time()), "model": name}
        if not request.get("stream"):
            time.sleep(options.pause * len(words))
            return self.answer(200, {**base, "object": "chat.completion", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "".join(words)}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i, word in enumerate(words + [None]):
            delta = {"role": "assistant"} if i == 0 else {}
            if word is not None:
                delta["content"] = word
            self.event(json.dumps({**base, "object": "chat.completion.chunk", "choices": [
                {"index": 0, "delta": delta, "finish_reason": "stop" if word is None else None}]}))
            time.sleep(options.pause)
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        piece = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()


class TcpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def server_bind(self):  # without the name server that HTTPServer asks
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class UnixServer(TcpServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--socket")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=4)
    for seconds in ("--sleep-takes", "--start-takes", "--dies-after", "--pause"):
        parser.add_argument(seconds, type=float, default=0)
    for flag in ("--no-sleep-mode", "--liar", "--no-health", "--deaf", "--sleep-kills"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    options.model = options.model or ["fake-vllm"]

    model = Answers.model = Model(options)

    def leave(*_):
        model.memory.drop()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if options.deaf else leave)
    model.memory.hold()
    if options.dies_after:
        def die():
            print("the engine has died", file=sys.stderr, flush=True)
            model.memory.drop()
            os._exit(7)
        threading.Timer(options.dies_after, die).start()
    server = UnixServer(options.socket, Answers) if options.socket else TcpServer(("127.0.0.1", options.port), Answers)
    print(f"listening on {options.socket or server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
