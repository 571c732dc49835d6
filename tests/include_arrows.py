#!/usr/bin/env python3
"""Reads the includes of src/, cli/, client/, include/ and engine/ and says which of them point against the order of the rooms
(docs/architecture.md), and a few other things that are easier kept by a machine than by promises.

  include_arrows.py ROOT               one line for each breach; exit code 1 if there is one
  include_arrows.py ROOT --self-test   plants breaches in a copy and expects each to be found
"""
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

# From top to bottom; rooms of one line do not see each other.
ORDER = [["app"], ["api"], ["chat"], ["runtime", "simulate"], ["backend", "probe", "store", "core", "hub", "socketio"],
         ["http", "os", "wire", "config"], ["domain"], ["base"]]
LEVEL = {room: len(ORDER) - i for i, rooms in enumerate(ORDER) for room in rooms}

# Outside of src/: which rooms each may see.
OUTSIDE = {"cli": {"app", "hub", "simulate", "http", "os", "config", "base"},
           "client": {"chat", "http", "os", "config", "base"}, "python": set(), "include": set(),
           "engine": {"wire", "os", "domain", "base"}}

CORE_MAY_SEE_OF_BASE = {"result.h", "error.h", "bytes.h", "strong_id.h", "assert.h", "time.h"}
CORE_FORBIDDEN = re.compile(
    r"<(thread|mutex|shared_mutex|condition_variable|atomic|future|coroutine|stop_token|semaphore|latch|barrier|fstream|"
    r"filesystem|iostream|cstdio|ctime|random|unistd\.h|fcntl\.h|poll\.h|sys/.*|boost/.*|spdlog/.*|yaml-cpp/.*|sqlite3\.h)>")
CORE_FORBIDDEN_WORDS = re.compile(r"\b(steady_clock|system_clock|high_resolution_clock|co_await|co_return|getenv)\b")

JSON_ROOMS = {"api", "config", "socketio", "wire"}

# What costs compile time: Beast, and what makes coroutines out of Asio's operations.
COMPOSED = re.compile(r"<boost/(beast/.*|asio/(co_spawn|use_awaitable|read|read_until|write|connect|experimental/.*)\.hpp)>")
MOST_COMPOSED = 15

MOST_LINES = 1000
FORBIDDEN_CLASS = re.compile(r"^\s*(?:class|struct)\s+(?:\[\[\w+\]\]\s*)?(\w*(?:Manager|Scheduler|Handler|Helper))\b(?!\s*;)", re.M)
FORBIDDEN_STEM = re.compile(r"(^|_)(utils?|helpers?|common)$")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"][^>"\n]+[>"])', re.M)
QUOTED_ROOM = re.compile(r'"([a-z_]+)/([^"]+)"')


class Source:
    def __init__(self, root, path):
        self.path = path.relative_to(root)
        self.text = path.read_text(errors="replace")
        parts = self.path.parts
        self.room = parts[1] if parts[0] == "src" else parts[0]
        self.in_src = parts[0] == "src"
        self.includes = INCLUDE.findall(self.text)
        self.is_test = bool(re.search(r"_(test|sim)$", path.stem)) or "testing" in parts

    @property
    def name(self):
        """As others include it."""
        return "/".join(self.path.parts[1:])


def mark_test_headers(sources):
    """A header that only tests include belongs to them."""
    includers = {}
    for source in sources:
        for include in source.includes:
            includers.setdefault(include.strip('"<>'), []).append(source)
    changed = True
    while changed:
        changed = False
        for source in sources:
            users = includers.get(source.name, []) if source.path.suffix == ".h" else []
            if not source.is_test and users and all(user.is_test for user in users):
                source.is_test = changed = True


def arrow_breaches(source):
    for include in source.includes:
        found = QUOTED_ROOM.fullmatch(include)
        if not found or found[1] not in LEVEL:
            continue
        room, file = found.groups()
        if source.in_src:
            if source.room not in LEVEL:
                yield f"room {source.room} has no place in the order of rooms"
                return
            if room == source.room:
                continue
            if LEVEL[room] > LEVEL[source.room]:
                yield f"{source.room} sees {room}, which is above it ({include})"
            elif LEVEL[room] == LEVEL[source.room]:
                yield f"{source.room} sees {room}, which is beside it ({include})"
            elif source.room in ("http", "socketio") and room == "domain":
                yield f"{source.room} knows no model ({include})"
            elif source.room == "core" and room != "domain" and not (room == "base" and file in CORE_MAY_SEE_OF_BASE):
                yield f"core sees domain and base's values only ({include})"
        elif source.room in OUTSIDE and room not in OUTSIDE[source.room] and not source.is_test:
            yield f"{source.room} sees {room} ({include})"


def core_breaches(source):
    if source.room != "core" or not source.in_src or source.is_test:
        return
    for include in source.includes:
        if CORE_FORBIDDEN.fullmatch(include):
            yield f"core touches nothing, but includes {include}"
    for word in CORE_FORBIDDEN_WORDS.finditer(re.sub(r"//[^\n]*", "", source.text)):
        yield f"core touches nothing, but says {word[1]}"


def library_breaches(source):
    if source.in_src and source.room not in JSON_ROOMS and any("boost/json" in i for i in source.includes):
        yield f"raw JSON stays in {', '.join(sorted(JSON_ROOMS))}"
    if source.in_src and any(i.startswith("<llama") or i.startswith("<ggml") for i in source.includes):
        yield "the manager links no engine"


def style_breaches(source):
    lines = source.text.count("\n")
    if lines > MOST_LINES:
        yield f"has {lines} lines; {MOST_LINES} is the end"
    for found in FORBIDDEN_CLASS.finditer(source.text):
        yield f"no class is called {found[1]}: say what it is"
    if FORBIDDEN_STEM.search(source.path.stem):
        yield "no file is called utils, helpers or common: say what is in it"


def sources_of(root):
    for top in ("src", "cli", "client", "python", "include", "engine", "tests", "bench"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".cpp", ".h") and "node_modules" not in path.parts:
                yield Source(root, path)


def breaches(root):
    root = pathlib.Path(root)
    sources = list(sources_of(root))
    if not sources:
        return [f"{root} has no sources"]
    mark_test_headers(sources)
    found = []
    for source in sources:
        for check in (arrow_breaches, core_breaches, library_breaches, style_breaches):
            found += [f"{source.path}: {what}" for what in check(source)]
    composed = [s for s in sources if s.in_src and not s.is_test and any(COMPOSED.fullmatch(i) for i in s.includes)]
    if len(composed) > MOST_COMPOSED:
        found.append(f"{len(composed)} files include Asio's or Beast's composed operations, which compile slowly; at most "
                     f"{MOST_COMPOSED} may: " + ", ".join(str(s.path) for s in composed))
    for room in sorted({s.room for s in sources if s.in_src}):
        readme = root / "src" / room / "README.md"
        if not readme.exists() or len(readme.read_text().splitlines()) != 3:
            found.append(f"src/{room}/README.md: has not the three lines that say what the room is, may, and may not")
    return found


# ---- self-test

# Where, what, and a part of what must be said of it.
PLANTED = [
    ("src/core/planted.cpp", '#include "runtime/runtime.h"\n', "core sees runtime, which is above it"),
    ("src/core/planted.cpp", '#include "backend/workers.h"\n', "core sees backend, which is beside it"),
    ("src/backend/planted.h", '#include "core/arbiter.h"\n', "backend sees core, which is beside it"),
    ("src/os/planted.cpp", '  #  include "http/server.h"\n', "os sees http, which is beside it"),
    ("src/domain/planted.h", '#include "wire/codec.h"\n', "domain sees wire, which is above it"),
    ("src/base/planted.h", '#include "domain/ids.h"\n', "base sees domain, which is above it"),
    ("src/runtime/planted_test.cpp", '#include "api/views.h"\n', "runtime sees api, which is above it"),
    ("src/http/planted.cpp", '#include "domain/model.h"\n', "http knows no model"),
    ("src/socketio/planted.cpp", '#include "domain/model.h"\n', "socketio knows no model"),
    ("src/socketio/planted.cpp", '#include "runtime/runtime.h"\n', "socketio sees runtime, which is above it"),
    ("src/core/planted.cpp", '#include "base/clock.h"\n', "core sees domain and base's values only"),
    ("src/core/planted.cpp", '#include "base/log.h"\n', "core sees domain and base's values only"),
    ("src/core/planted.cpp", '#include "os/file.h"\n', "core sees domain and base's values only"),
    ("src/simulate/planted.cpp", '#include "runtime/runtime.h"\n', "simulate sees runtime, which is beside it"),
    ("src/core/planted.cpp", "#include <mutex>\n", "core touches nothing"),
    ("src/core/planted.cpp", "#include <fstream>\n", "core touches nothing"),
    ("src/core/planted.cpp", "#include <boost/asio/awaitable.hpp>\n", "core touches nothing"),
    ("src/core/planted.cpp", "auto now = std::chrono::steady_clock::now();\n", "core touches nothing"),
    ("src/runtime/planted.cpp", "#include <boost/json.hpp>\n", "raw JSON stays in"),
    ("src/backend/planted.cpp", "#include <llama.h>\n", "links no engine"),
    ("cli/planted.cpp", '#include "runtime/runtime.h"\n', "cli sees runtime"),
    ("client/planted.cpp", '#include "runtime/runtime.h"\n', "client sees runtime"),
    ("include/llm_manager/planted.h", '#include "base/result.h"\n', "include sees base"),
    ("engine/worker/planted.cpp", '#include "http/server.h"\n', "engine sees http"),
    ("src/attic/planted.cpp", '#include "base/time.h"\n', "room attic has no place"),
    ("src/os/planted.cpp", "\n" * (MOST_LINES + 1), "lines;"),
    ("src/os/planted.h", "class SocketManager {\n};\n", "no class is called SocketManager"),
    ("src/os/planted.h", "struct Helper final {};\n", "no class is called Helper"),
    ("src/os/file_utils.h", "\n", "no file is called"),
]


class SelfTest(unittest.TestCase):
    root = None

    def setUp(self):
        self.copy = pathlib.Path(tempfile.mkdtemp(prefix="lm-arrows-"))
        self.addCleanup(shutil.rmtree, self.copy)
        for top in ("src", "cli", "client", "python", "include", "engine", "tests", "bench"):
            shutil.copytree(self.root / top, self.copy / top, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))

    def test_each_planted_breach_is_found(self):
        before = set(breaches(self.copy))
        for where, what, said in PLANTED:
            with self.subTest(where=where, what=what[:60]):
                file = self.copy / where
                file.parent.mkdir(exist_ok=True)
                file.write_text(what)
                new = set(breaches(self.copy)) - before
                self.assertTrue(any(line.startswith(where) and said in line for line in new), new)
                file.unlink()
        self.assertTrue(set(breaches(self.copy)) - before <= {
            "src/attic/README.md: has not the three lines that say what the room is, may, and may not"})

    def test_too_many_composed_files_are_found(self):
        for i in range(MOST_COMPOSED + 1):
            (self.copy / f"src/http/planted_{i}.cpp").write_text("#include <boost/asio/use_awaitable.hpp>\n")
        self.assertTrue(any("compile slowly" in line for line in breaches(self.copy)))

    def test_a_tests_header_may_use_files(self):
        (self.copy / "src/core/planted_world.h").write_text("#include <fstream>\n")
        (self.copy / "src/core/planted_test.cpp").write_text('#include "core/planted_world.h"\n')
        self.assertFalse([line for line in breaches(self.copy) if "planted" in line])
        (self.copy / "src/core/planted.cpp").write_text('#include "core/planted_world.h"\n')
        self.assertTrue([line for line in breaches(self.copy) if "planted_world.h: core touches nothing" in line])

    def test_words_in_comments_do_not_count(self):
        (self.copy / "src/core/planted.cpp").write_text("// not steady_clock: its owner tells it the time\n")
        self.assertFalse([line for line in breaches(self.copy) if "planted" in line])


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    root = pathlib.Path(sys.argv[1]).resolve()
    if "--self-test" in sys.argv:
        SelfTest.root = root
        unittest.main(argv=sys.argv[:1], verbosity=2)
    found = breaches(root)
    print("\n".join(found) or "every arrow points down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
