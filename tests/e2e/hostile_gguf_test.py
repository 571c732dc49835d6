"""Hostile model files through inspection and load with the real worker: each ends soon in a typed error or is loaded,
and the daemon neither dies nor grows.

LLM_MANAGER_HOSTILE=N: how many files (default 60). LLM_MANAGER_HOSTILE_SEED repeats a run.
"""
import os
import pathlib
import random
import re
import signal
import struct
import time
import unittest

import gguf
from daemon import SANITIZED, status_of
from real_engine_test import RealEngine, model_file

COUNT = int(os.environ.get("LLM_MANAGER_HOSTILE", "60"))
SEED = int(os.environ.get("LLM_MANAGER_HOSTILE_SEED", time.time_ns() % 1_000_000))
# A template that never ends takes a second of the processor. Where others want the processors too, that is more by the clock:
# what the kernel says that somebody waited for one does not count, up to a point.
LIMIT_S = 4 if SANITIZED else 2
LONGEST_S = 15
TYPED = {"invalid_artifact", "unsupported_model", "insufficient_memory", "io_error", "invalid_options",
         "missing_parts"}
HUGE = (0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 1 << 62, 1 << 40, 1 << 32, 0xFFFFFFFF, 0x80000000, 1 << 24)
# Programs that never end, or want all memory there is, or cannot be read.
ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}"
GREEDY = "{% set ns = namespace(t='x' * 4096) %}{% for i in range(24) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"
TEMPLATES = (ENDLESS, GREEDY, "{% for i in range(1000000000) %}x{% endfor %}", "{{ " * 5000, "{% if %}",
             "{{ messages[99999999].content }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "(" * 20000,
             "{{ 'x' * 1000000000 }}")
# One of each kind: what the engine does with a file depends on it.
BASES = ("tiny-chat", "tiny-embed", "tiny-rerank")


def stalled():
    """For how long any process has had to wait for a processor, in seconds since some past; always 0 where the kernel does not
    count it."""
    try:
        text = pathlib.Path("/proc/pressure/cpu").read_text()
    except OSError:
        return 0
    return int(re.search(r"^some .*total=(\d+)", text, re.M)[1]) / 1e6


def timed(call):
    """The answer, how long it took by the clock, and for how much of that the machine is no excuse."""
    began, before = time.monotonic(), stalled()
    answer = call()
    took = time.monotonic() - began
    return answer, took, took - min(took, stalled() - before)


class Mutator:
    """Makes files out of a good one. Each way is a method; its name says what is done."""

    def __init__(self, good, rng):
        self.good, self.random = good, rng
        self.model = gguf.Model(good)
        self.ways = sorted(name for name in dir(self) if name.startswith("make_"))

    def fresh(self):
        model = gguf.Model.__new__(gguf.Model)
        model.version, model.keys, model.tensors, model.data = (
            self.model.version, list(self.model.keys), [(n, list(d), t, o) for n, d, t, o in self.model.tensors], self.model.data)
        return model

    def spot(self, part):
        begin, end = self.model.marks[part]
        return self.random.randrange(begin, end)

    def flip(self, part, count):
        data = bytearray(self.good)
        for _ in range(count):
            data[self.spot(part)] = self.random.randrange(256)
        return bytes(data)

    def make_bytes_of_the_header(self):
        return self.flip("header", self.random.randrange(1, 6))

    def make_bytes_of_the_keys(self):
        return self.flip("keys", self.random.choice((1, 3, 30, 300)))

    def make_bytes_of_the_tensor_table(self):
        return self.flip("tensors", self.random.choice((1, 3, 30)))

    def make_numbers_in_the_tables_huge(self):
        data = bytearray(self.good)
        for _ in range(self.random.randrange(1, 4)):
            struct.pack_into("<Q", data, self.spot(self.random.choice(("header", "keys", "tensors"))), self.random.choice(HUGE))
        return bytes(data)

    def make_truncated(self):
        part = self.random.choice(("header", "keys", "tensors", "data"))
        return self.good[:self.spot(part)]

    def make_padded(self):
        return self.good + self.random.randbytes(self.random.randrange(1, 100_000))

    def make_random(self):
        return self.random.randbytes(self.random.choice((0, 1, 4, 100, 100_000)))

    def make_random_behind_a_good_header(self):
        return self.good[:24] + self.random.randbytes(100_000)

    def make_counts_that_lie(self):
        model = self.fresh()
        count = self.random.choice((*HUGE, 0, len(model.tensors) + 1, len(model.tensors) - 1))
        return model.bytes(tensor_count=count) if self.random.random() < 0.5 else model.bytes(key_count=count)

    def make_another_version(self):
        return self.fresh().bytes(version=self.random.choice((0, 1, 2, 4, 99, 0x03000000)))

    def make_a_key_another_type(self):
        model = self.fresh()
        i = self.random.randrange(len(model.keys))
        name, _, value = model.keys[i]
        model.keys[i] = (name, self.random.randrange(0, 16), value)
        return model.bytes()

    def make_a_number_of_the_shape_absurd(self):
        model = self.fresh()
        shapes = [i for i, (name, kind, _) in enumerate(model.keys) if kind in (4, 5)]
        i = self.random.choice(shapes)
        name, kind, _ = model.keys[i]
        model.keys[i] = (name, kind, struct.pack("<I", self.random.choice((0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20))))
        return model.bytes()

    def make_a_key_missing(self):
        model = self.fresh()
        del model.keys[self.random.randrange(len(model.keys))]
        return model.bytes()

    def make_a_key_twice(self):
        model = self.fresh()
        model.keys.append(self.random.choice(model.keys))
        return model.bytes()

    def make_text_of_a_key_odd(self):
        model = self.fresh()
        model.set_text(self.random.choice(("general.architecture", "tokenizer.ggml.model", "general.name")),
                       self.random.choice(("", "no such thing", "a\0b", "\u202e" * 1000, "%s%n" * 100, "llama" * 10_000)))
        return model.bytes()

    def make_a_hostile_template(self):
        return self.with_template(self.random.choice(TEMPLATES))

    def with_template(self, template, key="tokenizer.chat_template"):
        model = self.fresh()
        model.set_text(key, template)
        return model.bytes()

    def make_a_nested_array(self):
        model = self.fresh()
        depth = self.random.choice((2, 100, 10_000))
        model.keys.append((b"x.nested", gguf.ARRAY, struct.pack("<IQ", gguf.ARRAY, 1) * depth + struct.pack("<IQ", 4, 0)))
        return model.bytes()

    def make_a_tensor_elsewhere(self):
        model = self.fresh()
        i = self.random.randrange(len(model.tensors))
        name, dims, kind, offset = model.tensors[i]
        model.tensors[i] = (name, dims, kind, self.random.choice((offset + 1, offset + 32, len(model.data), *HUGE, 0)))
        return model.bytes()

    def make_a_tensor_of_another_shape(self):
        model = self.fresh()
        i = self.random.randrange(len(model.tensors))
        name, dims, kind, offset = model.tensors[i]
        dims = self.random.choice(([], [0], [d * 2 for d in dims], dims[::-1], [self.random.choice(HUGE)] * 4, dims + [1, 1, 1, 1]))
        model.tensors[i] = (name, dims, kind, offset)
        return model.bytes()

    def make_a_tensor_of_another_type(self):
        model = self.fresh()
        i = self.random.randrange(len(model.tensors))
        name, dims, _, offset = model.tensors[i]
        model.tensors[i] = (name, dims, self.random.choice((0, 1, 2, 4, 5, 38, 39, 200, 0xFFFFFFFF)), offset)
        return model.bytes()

    def make_a_tensor_missing_or_twice(self):
        model = self.fresh()
        i = self.random.randrange(len(model.tensors))
        if self.random.random() < 0.5:
            del model.tensors[i]
        else:
            model.tensors.append(model.tensors[i])
        return model.bytes()

    def make_split_of_itself(self):
        """Says that it is one of several parts: absent ones, or itself again."""
        model = self.fresh()
        for name, value in (("split.no", self.random.choice((0, 1, 65535))), ("split.count", self.random.choice((2, 3, 65535))),
                            ("split.tensors.count", self.random.choice((0, 1, 0x7FFFFFFF)))):
            kind = 5 if "tensors" in name else 2
            model.keys.append((name.encode(), kind, struct.pack("<i" if kind == 5 else "<H", value)))
        return model.bytes()

    def make(self, number):
        way = self.ways[number % len(self.ways)]
        return way.removeprefix("make_"), getattr(self, way)()


class Hostile(RealEngine):
    def setUp(self):
        super().setUp()
        print(f"seed {SEED}, {COUNT} files", flush=True)

    def test_each_ends_soon_in_an_error_or_a_load(self):
        good = model_file("models-test", "tiny-chat.gguf")
        rng = random.Random(SEED)
        mutators = [Mutator(model_file("models-test", f"{base}.gguf").read_bytes(), rng) for base in BASES]
        daemon = self.start_real(good, config="devices: {host: {limit: 2GB}}\nlimits: {retry_first: 1ms, retry_most: 1ms}\n"
                                              "log: {level: warning}\n")
        files = []
        for number in range(COUNT):
            # Each way with each base, once there are files enough.
            way, data = mutators[(number + number // len(mutators[0].ways)) % len(BASES)].make(number)
            name = f"h{number:04}"
            if way == "split_of_itself":
                name += "-00001-of-00002"
            file = daemon.models / f"{name}.gguf"
            file.write_bytes(data)
            if way == "split_of_itself":
                other = daemon.models / f"h{number:04}-00002-of-00002.gguf"
                # A part that is the first one again: a circle.
                other.symlink_to(file)
            files.append((f"h{number:04}", way, file))
        daemon.signal(signal.SIGHUP)
        log = daemon.events(last_id=0)
        log.wait("config")
        listed = {m["id"] for m in daemon.get("/api/v1/models").json()["models"]}
        # Warm, before growth is measured.
        self.assertEqual(daemon.chat("tiny-chat", max_tokens=2).status, 200)
        daemon.unload("tiny-chat")
        before = status_of(daemon.pid)["RssAnon"]
        ended = {"loaded": 0, "refused": 0}
        slowest = (0, "")
        for name, way, file in files:
            with self.subTest(file=name, way=way, seed=SEED):
                calls = [("inspect", lambda: daemon.post("/api/v1/models/inspect", {"path": str(file)}))]
                if name in listed:
                    calls.append(("load", lambda: daemon.load(name)))
                for what, call in calls:
                    answer, took, its_own = timed(call)
                    slowest = max(slowest, (took, f"{what} of {name}, {way}, {took - its_own:.2f} s of it on a busy machine"))
                    self.assertLess(its_own, LIMIT_S, f"{what} in {took:.2f} s: {answer}")
                    self.assertLess(took, LONGEST_S, f"{what}: {answer}")
                    if answer.status == 200:
                        if what == "load":
                            ended["loaded"] += 1
                            self.assertEqual(answer.json()["state"], "ready")
                            used = daemon.chat(name, max_tokens=1)  # of another kind: refused
                            self.assertTrue(used.status == 200 or used.error(), used)
                            self.assertEqual(daemon.unload(name).status, 200)
                    else:
                        self.assertIn(answer.error()["code"], TYPED, f"{what}: {answer}")
                        ended["refused"] += what == "load"
                self.assertEqual(daemon.get("/health").status, 200)
        grown = status_of(daemon.pid)["RssAnon"] - before
        print(f"{ended}; slowest {slowest[0]:.2f} s ({slowest[1]}); the daemon grew by {grown / 1024:.0f} KiB", flush=True)
        if not SANITIZED:
            self.assertLess(grown, 10 << 20)
        self.assertGreater(ended["refused"], 0)
        self.assertEqual(daemon.chat("tiny-chat", max_tokens=2).status, 200)

    def test_a_template_harms_nobody_whatever_the_kind_of_its_model(self):
        """Loaded by a request, too: an embedding model's template reaches the engine as little as it is asked for."""
        daemon = self.start_real(model_file("models-test", "tiny-chat.gguf"), config="devices: {host: {limit: 2GB}}\n")
        rng = random.Random(SEED)
        for base in BASES:
            mutator = Mutator(model_file("models-test", f"{base}.gguf").read_bytes(), rng)
            for number, template in enumerate(TEMPLATES):
                (daemon.models / f"{base}-{number}.gguf").write_bytes(mutator.with_template(template))
            (daemon.models / f"{base}-tool.gguf").write_bytes(mutator.with_template(ENDLESS, "tokenizer.chat_template.tool_use"))
        daemon.signal(signal.SIGHUP)
        daemon.events(last_id=0).wait("config")
        for base in BASES:
            for name in [f"{base}-{number}" for number in range(len(TEMPLATES))] + [f"{base}-tool"]:
                with self.subTest(name):
                    answer, _, its_own = timed(lambda: daemon.load(name))
                    self.assertLess(its_own, 3 * LIMIT_S, answer)  # it is inspected first
                    if answer.status == 200:
                        self.assertEqual(daemon.unload(name).status, 200)
                    else:
                        self.assertIn(answer.error()["code"], TYPED, answer)
            # By its processor time; by the clock, where others have the processors for ten seconds.
            late = "did not (end|come to an end) within"
            for name, said in ((f"{base}-0", late), (f"{base}-1", "."), (f"{base}-tool", late)):
                answer = daemon.post("/api/v1/models/inspect", {"path": str(daemon.models / f"{name}.gguf")})
                self.assertEqual(answer.error()["code"], "invalid_artifact")
                self.assertIn("chat template", answer.error()["message"])
                self.assertRegex(answer.error()["message"], said)
        self.assertEqual(daemon.chat("tiny-chat", max_tokens=2).status, 200)

    def test_a_file_that_is_padded_to_gigabytes_loads_like_another(self):
        good = model_file("models-test", "tiny-chat.gguf")
        daemon = self.start_real(good, config="devices: {host: {limit: 2GB}}\n")
        padded = daemon.models / "padded.gguf"
        padded.write_bytes(good.read_bytes())
        os.truncate(padded, 64 << 30)  # a hole: it takes no room
        daemon.signal(signal.SIGHUP)
        daemon.events(last_id=0).wait("config")
        answer, _, its_own = timed(lambda: daemon.load("padded"))
        self.assertEqual(answer.status, 200, answer)
        self.assertLess(its_own, 3 * LIMIT_S)
        self.assertEqual(daemon.chat("padded", max_tokens=2).status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
