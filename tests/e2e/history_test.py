"""Conversations that are kept: what was shown is there, also after kill -9; nobody sees another one's; and a damaged file
stops nobody."""
import collections
import json
import threading
import time
import unittest

from daemon import DaemonTest, PATIENCE_S, fake_model, said

PATH = "/api/v1/conversations"
CONVERSATIONS, AT_ONCE, SLOW = 500, 40, 10


class History(DaemonTest):
    def begin(self, daemon, headers=None, **fields):
        made = daemon.post(PATH, fields, headers=headers)
        self.assertEqual(made.status, 201, made)
        return made.json()["id"]

    def kept(self, daemon, conversation):
        answer = daemon.get(f"{PATH}/{conversation}")
        self.assertEqual(answer.status, 200, answer)
        return [(m["role"], m["content"], m["complete"]) for m in answer.json()["messages"]]

    def found(self, daemon, query="", headers=None):
        answer = daemon.get(PATH + query, headers=headers)
        self.assertEqual(answer.status, 200, answer)
        return [c["title"] for c in answer.json()["conversations"]]

    def wait_kept(self, daemon, conversation, condition):
        """What is kept, once it is so; reading is the waiting."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            kept = self.kept(daemon, conversation)
            if condition(kept):
                return kept
        self.fail(f"still {self.kept(daemon, conversation)}")

    def test_a_conversation_is_kept_and_found(self):
        daemon = self.start({"alpha": fake_model(say="the answer is 四十二 of course")})
        one = self.begin(daemon, user="ada", channel="#tea")
        other = self.begin(daemon, title="empty")
        header = {"X-Conversation": one}
        whole = daemon.chat("alpha", "請問答案是什麼？", headers=header, max_tokens=5)
        self.assertEqual(whole.status, 200, whole)
        stream = daemon.chat_stream("alpha", "And again?", headers=header, max_tokens=5)
        self.assertEqual(said(stream.events()), "the answer is 四十二 of")
        # A request that only goes on, and one that nobody wants kept.
        daemon.post("/v1/chat/completions", {"model": "alpha", "max_tokens": 1, "messages": [
            {"role": "user", "content": "And again?"}, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, headers=header)
        daemon.chat("alpha", "secret")

        expected = [("user", "請問答案是什麼？", True), ("assistant", "the answer is 四十二 of", True),
                    ("user", "And again?", True), ("assistant", "the answer is 四十二 of", True),
                    ("assistant", "the", True)]
        self.assertEqual(self.kept(daemon, one), expected)
        self.assertEqual(self.kept(daemon, other), [])
        shown = daemon.get(f"{PATH}/{one}").json()
        self.assertEqual((shown["title"], shown["user"], shown["channel"], shown["message_count"], shown["next"]),
                         ("請問答案是什麼？", "ada", "#tea", 5, None))
        self.assertEqual([m["model"] for m in shown["messages"]], ["alpha"] * 5)

        self.assertEqual(self.found(daemon), ["請問答案是什麼？", "empty"])
        for query in ("?q=" + "%E5%9B%9B%E5%8D%81", "?q=answer", "?q=course&q=x", "?user=ada", "?channel=%23tea"):
            self.assertEqual(self.found(daemon, query), [] if "course" in query else ["請問答案是什麼？"], query)
        self.assertEqual(self.found(daemon, "?q=secret"), [])
        self.assertEqual(self.found(daemon, "?user=bob"), [])
        first = daemon.get(PATH + "?limit=1").json()
        self.assertEqual(len(first["conversations"]), 1)
        self.assertEqual(self.found(daemon, "?limit=1&cursor=" + first["next"]), ["empty"])
        page = daemon.get(f"{PATH}/{one}?limit=2").json()
        rest = daemon.get(f"{PATH}/{one}?after={page['next']}").json()
        self.assertEqual([m["content"] for m in page["messages"] + rest["messages"]], [e[1] for e in expected])

        renamed = daemon.ask("PATCH", f"{PATH}/{one}", {"title": "答案"})
        self.assertEqual((renamed.status, renamed.json()["title"]), (200, "答案"))
        export = daemon.get(f"{PATH}/{one}/export?format=md")
        self.assertIn(f'filename="{one}.md"', export.headers["Content-Disposition"])
        text = export.body.decode()
        self.assertTrue(text.startswith("# 答案\n\n## user · 2"), text)
        self.assertIn("\n\nthe answer is 四十二 of\n", text)
        export = daemon.get(f"{PATH}/{one}/export").json()
        self.assertEqual([m["content"] for m in export["messages"]], [e[1] for e in expected])

        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(self.kept(daemon, one), expected)
        removed = daemon.ask("DELETE", f"{PATH}/{one}")
        self.assertEqual((removed.status, removed.json()), (200, {"id": one, "removed": True}))
        self.assertEqual(daemon.get(f"{PATH}/{one}").status, 404)
        self.assertEqual(self.found(daemon, "?q=answer"), [])

    def test_what_is_wrong_is_said_before_a_model_is_loaded(self):
        daemon = self.start({"alpha": fake_model()})
        conversation = self.begin(daemon)
        unknown = daemon.chat("alpha", headers={"X-Conversation": "c0"})
        self.assertEqual((unknown.status, unknown.error()["code"]), (404, "conversation_not_found"))
        long = daemon.chat("alpha", "x" * (1 << 20) + "x", headers={"X-Conversation": conversation})
        self.assertEqual((long.status, long.error()["code"]), (400, "message_too_long"))
        self.assertEqual(daemon.model("alpha")["state"], "unloaded")
        # A model that there is not is no question that was asked.
        self.assertEqual(daemon.chat("nobody", headers={"X-Conversation": conversation}).status, 404)
        self.assertEqual(self.kept(daemon, conversation), [])
        for method, path, body, status in (
                ("GET", "?limit=0", None, 400), ("GET", "?cursor=x", None, 400), ("GET", "?q=" + "x" * 201, None, 400),
                ("POST", "", {"title": 1}, 400), ("POST", "", {"user": "x" * 129}, 400), ("GET", "/c0", None, 404),
                ("GET", "/c0/export", None, 404), ("GET", f"/{conversation}/export?format=pdf", None, 400),
                ("PATCH", f"/{conversation}", {}, 400), ("PATCH", "/c0", {"title": "x"}, 404), ("DELETE", "/c0", None, 404)):
            answer = daemon.ask(method, PATH + path, body)
            self.assertEqual(answer.status, status, (method, path, answer))

    def test_nothing_is_kept_that_nobody_asked_for(self):
        daemon = self.start({"alpha": fake_model()})
        self.assertEqual(daemon.chat("alpha").status, 200)
        self.assertFalse((daemon.data / "conversations.db").exists())

    def test_the_worker_is_not_told(self):
        daemon = self.start({"alpha": fake_model()})
        daemon.chat("alpha", headers={"X-Conversation": self.begin(daemon)})
        seen = json.dumps(daemon.worker("alpha").last()).lower()
        self.assertNotIn("x-conversation", seen)

    def test_who_leaves_keeps_what_was_shown(self):
        daemon = self.start({"alpha": fake_model(tokens=100000, token_ms=5)})
        conversation = self.begin(daemon)
        stream = daemon.chat_stream("alpha", headers={"X-Conversation": conversation})
        seen = said([stream.event() for _ in range(5)])
        stream.close()
        worker = daemon.worker("alpha")
        worker.wait(cancelled=1)
        role, text, complete = self.wait_kept(daemon, conversation, lambda kept: len(kept) == 2 and seen in kept[1][1])[1]
        self.assertEqual((role, complete), ("assistant", False))
        self.assertTrue(text.startswith(seen), (seen, text))

    def test_a_worker_that_dies_leaves_half_an_answer(self):
        daemon = self.start({"alpha": fake_model(tokens=10, crash_at="decode", after_tokens=4, times=1)})
        conversation = self.begin(daemon)
        header = {"X-Conversation": conversation}
        events = daemon.chat_stream("alpha", "why", headers=header).events()
        self.assertIn("error", events[-1].json())
        shown = said(events[:-1])
        kept = self.wait_kept(daemon, conversation, lambda kept: len(kept) == 2)
        self.assertEqual(kept, [("user", "why", True), ("assistant", shown, False)])
        # Asked again: the question stands behind half an answer, so it is said anew.
        self.assertEqual(daemon.chat("alpha", "why", headers=header).status, 200)
        self.assertEqual([k[0] for k in self.kept(daemon, conversation)], ["user", "assistant", "user", "assistant"])

    def test_an_end_in_the_middle_keeps_what_was_shown(self):
        daemon = self.start({"alpha": fake_model(tokens=100000, token_ms=5)})
        conversation = self.begin(daemon)
        stream = daemon.chat_stream("alpha", headers={"X-Conversation": conversation})
        seen = said([stream.event() for _ in range(5)])
        daemon.signal(15)  # and a second one: running answers are cut
        daemon.signal(15)
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        role, text, complete = self.kept(daemon, conversation)[1]
        self.assertTrue(text.startswith(seen), (seen, text))
        self.assertFalse(complete)

    def test_a_damaged_file_stops_nobody(self):
        daemon = self.make({"alpha": fake_model()})
        daemon.data.mkdir(parents=True)
        (daemon.data / "conversations.db").write_bytes(b"not a database at all\n" * 1000)
        daemon.start()
        conversation = self.begin(daemon)
        daemon.chat("alpha", headers={"X-Conversation": conversation})
        self.assertEqual(len(self.kept(daemon, conversation)), 2)
        self.assertIn("conversations.db was damaged", daemon.errors())
        self.assertEqual(len(list(daemon.data.glob("conversations.db.corrupt-*"))), 1)

    def test_whoever_has_a_key_sees_his_own(self):
        daemon = self.make({"alpha": fake_model()}, """
server:
  keys: {user_env: USER_KEY, admin_env: ADMIN_KEY}
  clients: {ada: {key_env: ADA_KEY}, bob: {key_env: BOB_KEY}}
""", environment={"USER_KEY": "user-key", "ADMIN_KEY": "admin-key", "ADA_KEY": "ada-key", "BOB_KEY": "bob-key"}).start()

        # As a proxy on this machine passes them on: from elsewhere.
        def key(name):
            return {"X-Forwarded-For": "203.0.113.9", "Authorization": f"Bearer {name}-key"}
        of = {name: self.begin(daemon, headers=key(name), title=name) for name in ("user", "admin", "ada", "bob")}
        for name, sees in (("user", ["user"]), ("ada", ["ada"]), ("bob", ["bob"]), ("admin", ["bob", "ada", "admin", "user"])):
            self.assertEqual(self.found(daemon, headers=key(name)), sees, name)
        for name, other in (("ada", "bob"), ("user", "admin"), ("user", "ada")):
            path = f"{PATH}/{of[other]}"
            for method, suffix, body in (("GET", "", None), ("GET", "/export", None), ("PATCH", "", {"title": "x"}),
                                         ("DELETE", "", None)):
                self.assertEqual(daemon.ask(method, path + suffix, body, headers=key(name)).status, 404, (name, method))
            answer = daemon.chat("alpha", headers={**key(name), "X-Conversation": of[other]})
            self.assertEqual((answer.status, answer.error()["code"]), (404, "conversation_not_found"))
        self.assertEqual(daemon.chat("alpha", headers={**key("ada"), "X-Conversation": of["ada"]}).status, 200)

    def test_what_was_acknowledged_outlives_kill_9(self):
        daemon = self.start({"quick": fake_model(echo=1, token_ms=25, slots=64, memory_mb=4),
                             "slow": fake_model(echo=1, token_ms=25, slots=64, memory_mb=4)})
        changed = threading.Condition()
        begun, heard, whole = {}, set(), {}     # by number: its id; its answer has begun; its whole answer
        pieces = collections.defaultdict(list)  # (when, text) of what was shown

        def words(number):
            return " ".join(f"c{number}w{i}" for i in range(800 if number < SLOW else 20))

        def converse(number):
            conversation = self.begin(daemon, user=f"u{number % 7}")
            with changed:
                begun[number] = conversation
            header = {"X-Conversation": conversation}
            if number >= SLOW and number % 5 == 0:
                answer = daemon.chat("quick", words(number), headers=header)
                text = answer.json()["choices"][0]["message"]["content"]
                with changed:
                    heard.add(number)
                    whole[number] = text
                    changed.notify_all()
                return
            stream = daemon.chat_stream("slow" if number < SLOW else "quick", words(number), headers=header)
            if stream.status != 200:
                return
            while True:
                event = stream.event()
                if event is None:
                    return
                with changed:
                    heard.add(number)
                    if event.data == "[DONE]":
                        whole[number] = "".join(text for _, text in pieces[number])
                        changed.notify_all()
                        return
                    pieces[number].append((event.at, said([event])))
                    changed.notify_all()

        numbers = iter(range(SLOW, CONVERSATIONS))

        def user(first):
            try:
                if first is not None:
                    return converse(first)
                while True:
                    with changed:
                        number = next(numbers, None)
                    if number is None:
                        return
                    converse(number)
            except Exception:  # the daemon is killed under it
                return

        users = [threading.Thread(target=user, args=[n], daemon=True) for n in [*range(SLOW)] + [None] * AT_ONCE]
        for thread in users:
            thread.start()
        with changed:
            self.assertTrue(changed.wait_for(
                lambda: len(whole) >= CONVERSATIONS // 2 and all(len(pieces[n]) > 120 for n in range(SLOW)), 2 * PATIENCE_S),
                f"{len(begun)} begun, {len(whole)} whole")
            daemon.process.kill()
            killed = time.monotonic()
            # What was acknowledged until here must be there; what comes out of sockets later is no less.
        for thread in users:
            thread.join(PATIENCE_S)
        self.assertFalse(any(thread.is_alive() for thread in users))
        daemon.kill()
        daemon.start()

        counts = collections.Counter()
        for number, conversation in begun.items():
            kept = self.kept(daemon, conversation)
            question, shown = words(number), "".join(text for _, text in pieces[number])
            if number in heard:
                self.assertEqual(kept[0], ("user", question, True), number)
            if number in whole:
                counts["whole"] += 1
                self.assertEqual(kept[1:], [("assistant", whole[number], True)], number)
                self.assertEqual(whole[number], question)
                continue
            counts["not whole"] += 1
            text = kept[1][1] if len(kept) > 1 else ""
            # Its end may have been stored a moment before it would have been shown.
            self.assertTrue(len(kept) < 2 or not kept[1][2] or text == question, (number, kept))
            self.assertTrue(question.startswith(text), (number, text))
            old = "".join(t for at, t in pieces[number] if at < killed - 2)
            self.assertTrue(text.startswith(old), f"{number}: {len(old)} characters were shown 2 s before, {len(text)} are kept")
            counts["characters that must be there"] += len(old)
            counts["half"] += bool(text)
            counts["characters behind"] += max(0, len(shown) - len(text))
        print(f"{len(begun)} conversations were begun when the daemon was killed: {dict(counts)}", flush=True)
        self.assertGreaterEqual(counts["half"], SLOW)
        self.assertGreater(counts["characters that must be there"], 0)
        # And they go on.
        first = begun[0]
        self.assertEqual(daemon.chat("quick", "go on", headers={"X-Conversation": first}).status, 200)
        self.assertEqual(self.kept(daemon, first)[-1], ("assistant", "go on", True))


if __name__ == "__main__":
    unittest.main(verbosity=2)
