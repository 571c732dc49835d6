"""Twenty people who mix local and remote models: the remote ones are answered as if we were not there, and local
models are given up no more often than the linger says. LLM_MANAGER_USERS_SECONDS: 60 without it."""
import contextlib
import http.client
import json
import os
import random
import statistics
import threading
import time
import unittest

from daemon import DaemonTest, SANITIZED, fake_model
from upstreams import FakeOllama

SECONDS = float(os.environ.get("LLM_MANAGER_USERS_SECONDS", 15 if SANITIZED else 60))
USERS, LINGER_S = 20, 2.0
CONFIG = """
models: {{llm: {{model_path: alpha}}}}
providers: {{cloud: {{base_url: "{url}/v1", location: remote}}}}
residency: {{linger: 2s}}
"""


def first_byte(host, port, model, text):
    """Seconds from the question to the first byte of a streamed answer, on a connection of its own."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": text}]})
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read(1)
        took = time.perf_counter() - began
        rest = response.read()
        if response.status != 200 or b"[DONE]" not in rest:
            raise AssertionError(f"{response.status} {rest[-300:]!r}")
    return took


class Users(DaemonTest):
    def test_twenty_users_mix_local_and_remote(self):
        cloud = FakeOllama("gpt,memory=8M,load=0,rate=500").start()
        self.addCleanup(cloud.stop)
        daemon = self.start({"alpha": fake_model(memory_mb=64, tokens=5, token_ms=5)}, CONFIG.format(url=cloud.url))
        log = daemon.events()
        host, port = daemon.address.split(":")
        first_byte(host, int(port), "cloud/gpt:latest", "warm")
        first_byte("127.0.0.1", cloud.port, "gpt", "warm")
        first_byte(host, int(port), "llm", "warm")
        log.sync()
        mark = log.mark()
        end = time.monotonic() + SECONDS
        through, direct, wrong = [], [], []
        counts = {"local": 0, "remote": 0}

        def user(number):
            dice = random.Random(number)
            while time.monotonic() < end:
                # People read: there are pauses, and now and then all are quiet for longer than the linger.
                time.sleep(dice.uniform(0.2, 1.5))
                if int(end - time.monotonic()) % 20 < 5:
                    local = False  # everybody asks elsewhere for a while
                else:
                    local = dice.random() < 0.4
                try:
                    first_byte(host, int(port), "llm" if local else "cloud/gpt:latest", f"question of {number}")
                    counts["local" if local else "remote"] += 1
                except Exception as error:
                    wrong.append(repr(error))

        def pairs():
            dice = random.Random(0)
            while time.monotonic() < end:
                ways = [("through", through), ("direct", direct)]
                dice.shuffle(ways)
                for way, found in ways:
                    if way == "through":
                        found.append(first_byte(host, int(port), "cloud/gpt:latest", "paired"))
                    else:
                        found.append(first_byte("127.0.0.1", cloud.port, "gpt:latest", "paired"))
                time.sleep(0.05)

        users = [threading.Thread(target=user, args=[n], daemon=True) for n in range(USERS)]
        for thread in users:
            thread.start()
        pairs()
        for thread in users:
            thread.join(60)
        log.sync()
        self.assertEqual(wrong, [])
        later = statistics.median(a - b for a, b in zip(through, direct))
        gone = [e for e in log.all("state", mark, model="llm", detail="draining")]
        changes = log.all("switch", mark, stage="began", to="openai")
        print(f"{counts['local']} local and {counts['remote']} remote answers; a remote first byte {later * 1e3:.2f} ms "
              f"later than direct (median of {len(through)} pairs, direct {statistics.median(direct) * 1e3:.1f} ms); "
              f"{len(gone)} unloads of local in {SECONDS:.0f} s", flush=True)
        self.assertGreater(min(counts.values()), USERS)
        if not SANITIZED:
            self.assertLessEqual(later, 0.005)
        # Each unload has a whole linger before it, without a local request.
        times = [e["_at"] for e in gone]
        self.assertTrue(all(b - a >= LINGER_S for a, b in zip(times, times[1:])), times)
        self.assertLessEqual(len(gone), SECONDS / LINGER_S)
        self.assertEqual(len(gone), len(changes))
        self.assertEqual([e["cause"] for e in gone], ["switched"] * len(gone))
        if SECONDS >= 30:
            self.assertGreater(len(gone), 0, "nobody was ever quiet for long enough to show anything")


if __name__ == "__main__":
    unittest.main(verbosity=2)
