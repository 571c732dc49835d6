#!/usr/bin/env python3
"""A stand-in for Ollama 0.33.

  server.py [--port 0] [--host 127.0.0.1] [--model NAME,memory=64M,kind=embedding,…]… [--models FILE.json]
            [--max-loaded 1] [--keep-alive SECONDS] [--liar '{"keeps_memory": "hidden"}'] [--version 0.33.0]

Prints "listening on http://HOST:PORT". `GET /_test` tells what it did and what it holds, `POST /_test` with
{"liar": {…}} replaces how it lies:
  keeps_memory: "hidden" | "listed"   after an unload the memory stays; /api/ps shows it no more, or for ever
  hangs_in_stopping: true             a model on its way out never gets there
  revives_after_ms: N [revivals: M]   somebody loads the model again, N ms after each unload (M times)
  dies_in: "stream" | "unload"        ends in the middle of a stream or of an unload; with
  leaves_child: true                  … the memory stays with an orphan
  garbage: "html" | "cut" | "types" | "huge" | "deep" | "not_http"   on the paths of `on`
  status: 500                         on the paths of `on`
  silent: true                        takes the request and says nothing, on the paths of `on`
  slow_ms: N                          before each answer on the paths of `on`
  on: ["/api/ps", …]                  all that the daemon asks for where it is missing
  size_zero: true                     /api/ps tells no sizes, as without a GPU"""
import argparse
import http.server
import json
import os
import random
import re
import signal
import sys
import threading
import time

from house import FOR_EVER, House, Model, Refused, timestamp

GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
ANSWERS = {"capital of france": "The capital of France is Paris, which is the capital of the country of France."}
DEFAULT_TOKENS = 24
ASKED_BY_THE_DAEMON = ["/api/tags", "/api/ps", "/api/generate", "/api/version", "/"]
DEFAULT_MODELS = ["tinyllama,memory=64M,parameters=1.1B,quantization=IQ2_XXS", "qwen-a,memory=96M,family=qwen3",
                  "qwen-b,memory=96M,family=qwen3", "minilm,memory=24M,kind=embedding,family=bert,context=512"]


def go_duration(text):
    """Seconds; what Go's time.ParseDuration refuses is refused in its words."""
    quoted = json.dumps(text)
    body = text[1:] if text[:1] in "+-" and text else text
    sign = -1 if text[:1] == "-" else 1
    if body == "0":
        return 0.0
    if not body:
        raise Refused(400, f"time: invalid duration {quoted}")
    total = 0.0
    while body:
        number = re.match(r"\d+\.?\d*|\.\d+", body)
        if not number:
            raise Refused(400, f"time: invalid duration {quoted}")
        body = body[number.end():]
        unit = re.match(r"[^\d.]+", body)
        if not unit:
            raise Refused(400, f"time: missing unit in duration {quoted}")
        if unit[0] not in GO_UNITS:
            raise Refused(400, f"time: unknown unit {json.dumps(unit[0])} in duration {quoted}")
        total += float(number[0]) * GO_UNITS[unit[0]]
        body = body[unit.end():]
    return sign * total


def keep_alive_of(body):
    """Seconds, or None for the server's own."""
    given = body.get("keep_alive")
    if given is None:
        return None
    seconds = go_duration(given) if isinstance(given, str) else float(given)
    return FOR_EVER if seconds < 0 else min(seconds, FOR_EVER)


def parse_json(text):
    """A JSON object; a mistake is told as encoding/json tells it, for the mistakes that clients make."""
    if not text.strip():
        raise Refused(400, "missing request body")
    try:
        value = json.loads(text)
    except ValueError as error:
        at = getattr(error, "pos", 0)
        if at >= len(text.rstrip()):
            raise Refused(400, "unexpected EOF") from None
        where = "object key string" if re.search(r"[{,]\s*$", text[:at]) and "[" not in text[:at] else "value"
        if text[at:at + 1] == "{":
            at += 1
        rest = text[at:].lstrip()
        raise Refused(400, f"invalid character '{rest[:1]}' looking for beginning of {where}") from None
    if not isinstance(value, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        raise Refused(400, f"json: cannot unmarshal {kind} into Go value of type api.Request")
    return value


def answer_words(prompt, limit, seed=None):
    """The words of an answer, deterministic, and why it ends."""
    text = next((said for asked, said in ANSWERS.items() if asked in prompt.lower()), None)
    if text is None:
        source = random.Random(f"{prompt}{seed}")
        text = " ".join(source.choice(["one", "two", "red", "blue", "tree", "stone"])
                        for _ in range(max(DEFAULT_TOKENS, limit or 0)))
    words = re.findall(r"\s*\S+", text)
    return (words[:limit], "length") if limit is not None and 0 <= limit < len(words) else (words, "stop")


def embedding_of(text, dimensions):
    source = random.Random(text)
    vector = [source.uniform(-1, 1) for _ in range(dimensions)]
    norm = sum(x * x for x in vector) ** 0.5
    return [round(x / norm, 8) for x in vector]


class Asked(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "", ""
    disable_nagle_algorithm = True
    house = None
    version = "0.33.0"
    log = []
    heads = {}  # of the last request on each path

    def log_message(self, *arguments):
        pass

    def version_string(self):
        return ""

    # ---- answers

    def whole(self, status, body, kind):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @staticmethod
    def compact(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def native(self, value, status=200):
        self.whole(status, self.compact(value),
                   "application/json; charset=utf-8")

    def openai(self, value, status=200):
        self.whole(status, self.compact(value) + "\n", "application/json")

    def begin_stream(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def refuse(self, refused):
        if self.path.startswith("/v1/"):
            kind = {404: "not_found_error", 400: "invalid_request_error"}.get(refused.status, "api_error")
            self.openai({"error": {"message": refused.message, "type": kind, "param": None, "code": None}},
                        refused.status)
        else:
            self.native({"error": refused.message}, refused.status)

    # ---- routing

    def do_GET(self):
        self.route()

    do_HEAD = do_POST = do_DELETE = do_PUT = do_GET

    def route(self):
        path = self.path.split("?", 1)[0]
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length).decode(errors="replace")
        if path == "/_test":
            return self.test()
        self.log.append([self.command, path, self.body[:2000]])
        self.heads[path] = dict(self.headers.items())
        try:
            if self.lie(path):
                return None
            method = "GET" if self.command == "HEAD" else self.command
            for pattern, methods in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method in methods:
                    return methods[method](self, *found.groups())
            known = any(re.fullmatch(pattern, path) for pattern, _ in ROUTES)
            self.whole(405 if known else 404, "405 method not allowed" if known else "404 page not found",
                       "text/plain")
        except Refused as refused:
            self.refuse(refused)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def lie(self, path):
        """True where the lie was the answer."""
        liar = self.house.liar
        if path not in liar.get("on", ASKED_BY_THE_DAEMON):
            return False
        if liar.get("slow_ms"):
            time.sleep(liar["slow_ms"] / 1000)
        if liar.get("silent"):
            with self.house.lock:
                while self.house.liar is liar:
                    self.house.lock.wait(0.05)
            self.close_connection = True
            return True
        if liar.get("status"):
            self.native({"error": "llama runner process has terminated: exit status 2"}, liar["status"])
            return True
        garbage = liar.get("garbage")
        if garbage is None:
            return False
        name = "models"
        if garbage == "html":
            self.whole(200, "<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")
        elif garbage == "cut":
            self.whole(200, '{"models":[{"name":"tinyll', "application/json")
        elif garbage == "types":
            self.native({name: {"name": 7}} if path == "/api/tags" else {name: [{"name": 7, "size": "big"}, 3]})
        elif garbage == "deep":
            self.whole(200, '{"models":' + "[" * 100_000 + "]" * 100_000 + "}", "application/json")
        elif garbage == "huge":
            self.begin_stream("application/json")
            self.piece('{"models":[')
            while True:
                self.piece('{"name":"' + "x" * 65536 + '"},')
        else:
            self.wfile.write(b"\x16\x03\x01\x00\x05hello")
            self.close_connection = True
        return True

    def test(self):
        if self.command == "POST":
            self.house.set_liar(json.loads(self.body).get("liar", {}))
        house = self.house
        self.native({"pid": os.getpid(), "children": house.children(), "loads": house.loads, "unloads": house.unloads,
                     "revivals": house.revivals, "requests": self.log, "heads": self.heads, "ps": house.shown(), "liar": house.liar})
        if self.command == "DELETE":
            self.log.clear()

    def die(self):
        if self.house.liar.get("leaves_child"):
            self.house.orphan_children()
        self.wfile.flush()
        os._exit(134)

    # ---- what it is and has

    def hello(self):
        self.whole(200, "Ollama is running", "text/plain; charset=utf-8")

    def tell_version(self):
        self.native({"version": self.version})

    def tags(self):
        self.native({"models": [
            {"name": m.name, "model": m.name, "modified_at": timestamp(m.modified), "size": m.size, "digest": m.digest,
             "details": m.details(with_context=True), "capabilities": m.capabilities}
            for m in self.house.models.values()]})

    def ps(self):
        self.native({"models": self.house.shown()})

    def show(self):
        body = parse_json(self.body)
        name = body.get("model") or body.get("name")
        if not name:
            raise Refused(400, "model is required")
        model = self.house.need(name, name if ":" in name else name + ":latest")
        self.native({
            "modelfile": f'# Modelfile generated by "ollama show"\n# FROM {model.name}\n\nTEMPLATE {{{{ .Prompt }}}}\n',
            "template": "{{ .Prompt }}", "details": model.details(),
            "model_info": {"general.architecture": model.family, "general.parameter_count": model.size,
                           f"{model.family}.context_length": model.context,
                           f"{model.family}.embedding_length": model.dimensions},
            "capabilities": model.capabilities, "modified_at": timestamp(model.modified)})

    def delete(self):
        body = parse_json(self.body)
        model = self.house.need(body.get("model") or body.get("name") or "")
        del self.house.models[model.name]
        self.whole(200, "", "text/plain")

    # ---- generating

    def generation(self, empty, piece):
        """`empty`: whether the request only loads; `piece(text)`: where the text goes in an answer."""
        body = parse_json(self.body)
        name = body.get("model", "")
        chat = self.path.startswith("/api/chat")
        if chat and not name:
            raise Refused(400, "model is required")
        keep = keep_alive_of(body)
        model = self.house.need(name)
        options = body.get("options") or {}
        start = time.time()

        def line(text, **more):
            return {"model": name, "created_at": timestamp(time.time())} | piece(text) | more

        if empty(body) and keep == 0:
            if self.house.liar.get("dies_in") == "unload":
                self.die()
            self.house.unload(model)
            return self.native(line("", done=True, done_reason="unload"))
        if not model.generates:
            raise Refused(400, f'"{name}" does not support {"chat" if chat else "generate"}')
        resident = self.house.enter(model, keep, options.get("num_ctx"))
        try:
            if empty(body):
                return self.native(line("", done=True, done_reason="load"))
            loaded = time.time()
            prompt = json.dumps(body.get("messages") or body.get("prompt"), ensure_ascii=False)
            words, why = answer_words(prompt, options.get("num_predict"), options.get("seed"))
            last = {"done": True, "done_reason": why}
            stream = body.get("stream", True)
            if stream:
                self.begin_stream("application/x-ndjson")
            for i, word in enumerate(words):
                time.sleep(1 / model.rate)
                if stream:
                    self.piece(self.compact(line(word, done=False)) + "\n")
                if i == 2 and self.house.liar.get("dies_in") == "stream":
                    self.die()
            now = time.time()
            if not chat:
                last["context"] = list(range(len(prompt.split()) + len(words)))
            last |= {"total_duration": int((now - start) * 1e9), "load_duration": int((loaded - start) * 1e9),
                     "prompt_eval_count": len(prompt.split()), "prompt_eval_duration": 1_000_000,
                     "eval_count": len(words), "eval_duration": int((now - loaded) * 1e9)}
            if stream:
                self.piece(self.compact(line("", **last)) + "\n")
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.native(line("".join(words), **last))
        finally:
            self.house.leave(resident)

    def chat(self):
        self.generation(lambda body: not body.get("messages"),
                        lambda text: {"message": {"role": "assistant", "content": text}})

    def generate(self):
        self.generation(lambda body: not body.get("prompt"), lambda text: {"response": text})

    def vectors(self, name, texts, keep):
        model = self.house.need(name)
        resident = self.house.enter(model, keep)
        try:
            return [embedding_of(text, model.dimensions) for text in texts]
        finally:
            self.house.leave(resident)

    def embed(self):
        body = parse_json(self.body)
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        start = time.time()
        vectors = self.vectors(body.get("model", ""), texts, keep_alive_of(body))
        self.begin_stream("application/json; charset=utf-8")
        self.piece(self.compact({"model": body["model"], "embeddings": vectors,
                               "total_duration": int((time.time() - start) * 1e9), "load_duration": 1_000_000,
                               "prompt_eval_count": sum(len(text.split()) for text in texts)}))
        self.wfile.write(b"0\r\n\r\n")

    def embeddings(self):
        body = parse_json(self.body)
        self.native({"embedding": self.vectors(body.get("model", ""), [body.get("prompt", "")], keep_alive_of(body))[0]})

    # ---- OpenAI's shapes

    def v1_models(self):
        self.openai({"object": "list", "data": [
            {"id": m.name, "object": "model", "created": int(m.modified), "owned_by": "library"}
            for m in self.house.models.values()]})

    def v1_model(self, name):
        model = self.house.need(name, name if ":" in name else name + ":latest")
        self.openai({"id": name, "object": "model", "created": int(model.modified), "owned_by": "library"})

    def v1_generation(self, prefix, object_, prompt_of, whole, delta):
        body = parse_json(self.body)
        name = body.get("model", "")
        prompt = prompt_of(body)
        model = self.house.need(name)
        if not model.generates:
            raise Refused(400, f'"{name}" does not support {"chat" if prefix == "chatcmpl" else "generate"}')
        limit = body.get("max_tokens")
        head = {"id": f"{prefix}-{random.randrange(1000)}", "object": object_, "created": int(time.time()),
                "model": name, "system_fingerprint": "fp_ollama"}
        stream = body.get("stream", False)
        resident = self.house.enter(model, None)
        try:
            words, why = answer_words(prompt, limit, body.get("seed"))
            usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words),
                     "total_tokens": len(prompt.split()) + len(words)}
            if not stream:
                time.sleep(len(words) / model.rate)
                return self.openai(head | {"choices": [{"index": 0} | whole("".join(words)) | {"finish_reason": why}],
                                           "usage": usage})
            self.begin_stream("text/event-stream")
            if prefix == "chatcmpl":
                head["object"] = "chat.completion.chunk"

            def event(choices, **more):
                self.piece(f"data: {self.compact(head | {'choices': choices} | more)}\n\n")

            for i, word in enumerate(words):
                time.sleep(1 / model.rate)
                event([{"index": 0} | delta(word, i == 0) | {"finish_reason": None}])
                if i == 2 and self.house.liar.get("dies_in") == "stream":
                    self.die()
            event([{"index": 0} | delta(None, False) | {"finish_reason": why}])
            if (body.get("stream_options") or {}).get("include_usage"):
                event([], usage=usage)
            self.piece("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        finally:
            self.house.leave(resident)

    def v1_chat(self):
        def prompt_of(body):
            if not body.get("messages"):
                raise Refused(400, "[] is too short - 'messages'")
            return json.dumps(body["messages"], ensure_ascii=False)

        def delta(text, first):
            return {"delta": {} if text is None else ({"role": "assistant"} if first else {}) | {"content": text}}

        self.v1_generation("chatcmpl", "chat.completion", prompt_of,
                           lambda text: {"message": {"role": "assistant", "content": text}}, delta)

    def v1_completions(self):
        self.v1_generation("cmpl", "text_completion", lambda body: str(body.get("prompt", "")),
                           lambda text: {"text": text}, lambda text, first: {"text": text or ""})

    def v1_embeddings(self):
        body = parse_json(self.body)
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        vectors = self.vectors(body.get("model", ""), texts, None)
        tokens = sum(len(text.split()) for text in texts)
        self.openai({"object": "list", "data": [{"object": "embedding", "embedding": vector, "index": i}
                                                for i, vector in enumerate(vectors)],
                     "model": body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


ROUTES = [
    ("/", {"GET": Asked.hello}), ("/api/version", {"GET": Asked.tell_version}), ("/api/tags", {"GET": Asked.tags}),
    ("/api/ps", {"GET": Asked.ps}), ("/api/show", {"POST": Asked.show}), ("/api/delete", {"DELETE": Asked.delete}),
    ("/api/chat", {"POST": Asked.chat}), ("/api/generate", {"POST": Asked.generate}),
    ("/api/embed", {"POST": Asked.embed}), ("/api/embeddings", {"POST": Asked.embeddings}),
    ("/v1/models", {"GET": Asked.v1_models}), ("/v1/models/(.+)", {"GET": Asked.v1_model}),
    ("/v1/chat/completions", {"POST": Asked.v1_chat}), ("/v1/completions", {"POST": Asked.v1_completions}),
    ("/v1/embeddings", {"POST": Asked.v1_embeddings}),
]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--models")
    parser.add_argument("--max-loaded", type=int, default=1)
    parser.add_argument("--keep-alive", type=float, default=300)
    parser.add_argument("--liar", type=json.loads, default={})
    parser.add_argument("--version", default="0.33.0")
    given = parser.parse_args()
    models = [Model.parse(text) for text in given.model]
    if given.models:
        with open(given.models, encoding="utf-8") as file:
            models += [Model(**entry) for entry in json.load(file)]
    if not models:
        models = [Model.parse(text) for text in DEFAULT_MODELS]
    Asked.house = House(models, max_loaded=given.max_loaded, keep_alive=given.keep_alive)
    Asked.house.set_liar(given.liar)
    Asked.version = given.version
    server = Server((given.host, given.port), Asked)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The children end with the pipes that this process holds.
        signal.signal(number, lambda *_: os._exit(0))
    print(f"listening on http://{given.host}:{server.server_address[1]}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
