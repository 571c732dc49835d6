"""What is refused, how it is said, and how long anything may wait."""
import fcntl
import json
import socket
import struct
import time
import unittest

from daemon import DaemonTest, InBackground, ask, fake_model


def own_address():
    """An IPv4 address of this machine that is no loopback's; None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return None


class Shapes(DaemonTest):
    def test_an_unknown_model_is_404_with_the_nearest_name(self):
        daemon = self.start({"tinyllama": fake_model(), "other": fake_model()})
        answer = daemon.chat("tinylama")
        self.assertEqual(answer.status, 404)
        error = answer.error()
        self.assertEqual((error["type"], error["code"], error["param"]), ("not_found_error", "model_not_found", "model"))
        self.assertIn("tinyllama", error["message"])
        self.assertIn("tinyllama", error["details"]["nearest"])
        for path, body in (("/api/v1/models/load", {"model": "tinylama"}), ("/api/v1/models/unload", {"model": "x"}),
                           ("/api/v1/models/pin", {"model": "x"})):
            self.assertEqual(daemon.post(path, body).status, 404, path)
        self.assertEqual(daemon.get("/v1/models/nothing").status, 404)

    def test_each_interface_has_its_own_shape_of_errors(self):
        daemon = self.start({"alpha": fake_model()})
        openai = daemon.chat("nothing").json()
        self.assertEqual(set(openai), {"error"})
        self.assertEqual(openai["error"]["type"], "not_found_error")
        anthropic = daemon.post("/v1/messages", daemon.question("nothing", max_tokens=5))
        self.assertEqual(anthropic.status, 404)
        body = anthropic.json()
        self.assertEqual(body["type"], "error")
        self.assertEqual(body["error"]["type"], "not_found_error")
        self.assertIn("nothing", body["error"]["message"])

    def test_anthropic_streams_end_with_an_error_event(self):
        daemon = self.start({"slow": fake_model(stage_ms=1300, fail="unsupported_model")})
        stream = daemon.stream("/v1/messages", daemon.question("slow", stream=True, max_tokens=5))
        self.assertIsNotNone(stream.next().comment)
        events = stream.events()
        self.assertEqual([e.name for e in events], ["error"])
        self.assertEqual(events[0].json()["type"], "error")

    def test_bodies_that_are_no_requests(self):
        daemon = self.start({"alpha": fake_model()})
        for body in ("", "{", "[]", "null", '{"model": 7}', '{"model": "alpha"' + "[" * 100, "\x00", "{}{}"):
            with self.subTest(body=body[:20]):
                answer = daemon.post("/v1/chat/completions", body or "", headers={"Content-Type": "application/json"})
                self.assertEqual(answer.status, 400, answer)
                self.assertEqual(answer.error()["type"], "invalid_request_error")
        for body in ({}, {"model": ""}, {"model": 3}, {"model": "alpha", "force": "yes"}, []):
            with self.subTest(load=body):
                self.assertEqual(daemon.post("/api/v1/models/load", body).status, 400)
        self.assertEqual(daemon.post("/api/v1/models/inspect", {"path": "relative.gguf"}).status, 400)
        self.assertEqual(daemon.get("/api/v1/jobs/999999").status, 404)
        self.assertEqual(daemon.get("/nothing/here").status, 404)
        wrong_method = daemon.get("/v1/chat/completions")
        self.assertEqual(wrong_method.status, 405)
        self.assertEqual(wrong_method.headers["Allow"], "POST")
        self.assertEqual(daemon.chat("alpha").status, 200)

    def test_a_body_that_asks_nothing_loads_nothing(self):
        daemon = self.start({"alpha": fake_model()})
        for path, question in (("/v1/chat/completions", "messages"), ("/v1/completions", "prompt"), ("/v1/embeddings", "input"),
                               ("/v1/rerank", "query"), ("/v1/responses", "input")):
            answer = daemon.post(path, {"model": "alpha", "stream": True})
            self.assertEqual(answer.status, 400, answer)
            self.assertEqual((answer.error()["code"], answer.error()["param"]), ("missing_field", question))
        self.assertEqual(daemon.model("alpha")["state"], "unloaded")

    def test_what_was_read_as_json_goes_on_as_json(self):
        # curl -d says that it is a form; the engine's HTTP library takes no large one.
        daemon = self.start({"alpha": fake_model()})
        body = json.dumps(daemon.question("alpha"))
        for kind in ("application/x-www-form-urlencoded", "text/plain", None):
            with self.subTest(kind=kind):
                answer = daemon.post("/v1/chat/completions", body, headers={"Content-Type": kind} if kind else {})
                self.assertEqual(answer.status, 200, answer)
                head = daemon.worker("alpha").last()["head"]
                self.assertEqual([line for line in head.splitlines() if line.lower().startswith("content-type:")],
                                 ["Content-Type: application/json"])

    def test_headers_that_are_wrong(self):
        daemon = self.start({"alpha": fake_model()})
        for headers in ({"X-Priority": "urgent"}, {"X-Deadline-Ms": "soon"}, {"X-Deadline-Ms": "0"},
                        {"X-Deadline-Ms": "-5"}, {"X-Deadline-Ms": "99999999999"}):
            with self.subTest(headers=headers):
                answer = daemon.chat("alpha", headers=headers)
                self.assertEqual(answer.status, 400)
                self.assertEqual(answer.error()["code"], "invalid_header")

    def test_a_body_that_is_too_large(self):
        daemon = self.start({"alpha": fake_model()}, config="server: {limits: {body: 100KB}}\n")
        answer = daemon.chat("alpha", "x" * 200_000)
        self.assertEqual(answer.status, 413)
        self.assertIn("error", answer.json())
        self.assertEqual(daemon.chat("alpha").status, 200)


class FailedLoads(DaemonTest):
    def test_typed_errors(self):
        statuses = {"insufficient_memory": 507, "invalid_artifact": 400, "unsupported_model": 501, "io_error": 404,
                    "internal": 500}
        daemon = self.start({reason.replace("_", "-"): fake_model(fail=reason) for reason in statuses})
        log = daemon.events()
        for reason, status in statuses.items():
            with self.subTest(reason=reason):
                name = reason.replace("_", "-")
                answer = daemon.chat(name)
                self.assertEqual(answer.status, status, answer)
                self.assertEqual(answer.error()["code"], reason)
                log.wait("state", model=name, detail="failed")
                model = daemon.model(name)
                self.assertEqual(model["state"], "failed")
                self.assertEqual(model["error"]["code"], reason)
        details = daemon.model("insufficient-memory")["error"]["details"]
        self.assertEqual(details["device"], "host")
        self.assertGreater(details["needed"], details["free"])

    def test_a_file_that_no_reader_takes(self):
        daemon = self.start({"nonsense": "this is no model\n"})
        answer = daemon.chat("nonsense")
        self.assertEqual((answer.status, answer.error()["code"]), (400, "invalid_artifact"), answer)

    def test_a_failed_load_is_remembered_and_not_repeated_for_each_request(self):
        daemon = self.start({"broken": fake_model(fail="invalid_artifact")})
        log = daemon.events()
        for _ in range(10):
            self.assertEqual(daemon.chat("broken").error()["code"], "invalid_artifact")
        self.assertEqual(log.loads("broken"), 1)

    def test_a_load_that_failed_once_works_after_its_back_off(self):
        daemon = self.start({"flaky": fake_model(fail="internal", times=3)},
                            config="limits: {retry_first: 300ms, retry_most: 300ms}\n")
        log = daemon.events()
        answer, refused = daemon.chat("flaky"), 0
        while answer.status != 200:
            self.assertEqual(answer.status, 500)
            refused += 1
            answer = daemon.chat("flaky")
        self.assertEqual(log.loads("flaky"), 4)
        self.assertGreater(refused, 3, "no request was refused during the back-off")

    def test_an_explicit_load_does_not_wait_for_the_back_off(self):
        daemon = self.start({"flaky": fake_model(fail="internal", times=2)},
                            config="limits: {retry_first: 60s, retry_most: 60s}\n")
        log = daemon.events()
        # The first failure is not held against it; after the second it is left alone for a while.
        for _ in range(2):
            self.assertEqual(daemon.chat("flaky").status, 500)
        refused = daemon.chat("flaky")
        self.assertEqual(refused.status, 500)
        self.assertGreater(int(refused.headers["Retry-After"]), 30)
        self.assertEqual(log.loads("flaky"), 2)
        self.assertEqual(daemon.load("flaky").status, 200)


class Waiting(DaemonTest):
    def test_a_full_queue_refuses_with_retry_after(self):
        daemon = self.start({"alpha": fake_model(slots=1, token_ms=50, tokens=100000)},
                            config="scheduling: {queue_per_model: 3}\n")
        first = daemon.chat_stream("alpha")
        first.event()
        waiting = [daemon.chat_stream("alpha") for _ in range(3)]
        while daemon.get("/health").json()["waiting"] < 3:
            pass
        refused = daemon.chat("alpha")
        self.assertEqual(refused.status, 429, refused)
        self.assertGreater(int(refused.headers["Retry-After"]), 0)
        self.assertIn("retry_after_s", refused.error())
        for stream in [first, *waiting]:
            stream.close()

    def test_a_deadline_ends_a_wait(self):
        daemon = self.start({"alpha": fake_model(slots=1, token_ms=50, tokens=100000)})
        first = daemon.chat_stream("alpha")
        first.event()
        asked_at = time.monotonic()
        late = daemon.chat("alpha", headers={"X-Deadline-Ms": "400"})
        took = time.monotonic() - asked_at
        self.assertIn(late.status, (503, 504), late)
        self.assertLess(took, 3)
        health = daemon.get("/health").json()
        self.assertEqual((health["waiting"], health["oldest_waiting_s"]), (0, None))
        first.close()

    def test_a_deadline_gives_up_a_load_that_nobody_else_wants(self):
        daemon = self.start({"slow": fake_model(stage_ms=20000)})
        log = daemon.events()
        answer = daemon.chat("slow", headers={"X-Deadline-Ms": "500"})
        self.assertIn(answer.status, (503, 504), answer)
        log.wait("state", model="slow", detail="absent")

    def test_health_tells_the_age_of_the_oldest_request(self):
        daemon = self.start({"alpha": fake_model(slots=1, token_ms=50, tokens=100000)})
        first = daemon.chat_stream("alpha")
        first.event()
        second = daemon.chat_stream("alpha")
        self.assertIsNotNone(second.next().comment)  # sent after a second of waiting
        health = daemon.get("/health").json()
        self.assertEqual(health["waiting"], 1)
        self.assertGreater(health["oldest_waiting_s"], 0.9)
        first.close()
        second.close()

    def test_batch_requests_give_way(self):
        daemon = self.start({"alpha": fake_model(slots=1, token_ms=30, tokens=20)})
        first = daemon.chat_stream("alpha")
        first.event()
        order = []

        def one(priority):
            answer = daemon.chat("alpha", headers={"X-Priority": priority}, fake_tokens=1)
            order.append(priority)
            return answer.status
        batch = InBackground(one, "batch")
        while daemon.get("/health").json()["waiting"] < 1:
            pass
        interactive = InBackground(one, "interactive")
        while daemon.get("/health").json()["waiting"] < 2:
            pass
        first.events()
        self.assertEqual((batch.result(), interactive.result()), (200, 200))
        self.assertEqual(order, ["interactive", "batch"])


class Doors(DaemonTest):
    def test_foreign_hosts_and_pages_are_turned_away(self):
        daemon = self.start({"alpha": fake_model()})
        port = daemon.address.rpartition(":")[2]
        for headers, status in (({"Host": "evil.example"}, 403), ({"Host": f"evil.example:{port}"}, 403),
                                ({"Host": f"localhost:{port}"}, 200), ({"Host": f"127.0.0.1:{port}"}, 200),
                                ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
                                ({"Origin": f"http://127.0.0.1:{port}"}, 200), ({"Origin": "http://localhost:5173"}, 200)):
            with self.subTest(headers=headers):
                answer = daemon.ask("GET", "/api/v1/models", headers=headers)
                self.assertEqual(answer.status, status, answer)
                if status == 403:
                    self.assertIn(answer.error()["code"], ("foreign_host", "foreign_origin"))
                chat = daemon.chat("alpha", headers=headers)
                self.assertEqual(chat.status, status)

    def test_a_named_host_and_page_are_let_in(self):
        daemon = self.start({"alpha": fake_model()}, config="server:\n  allowed_hosts: [llm.example.org]\n"
                            "  allowed_origins: [\"https://chat.example.org\"]\n")
        self.assertEqual(daemon.get("/api/v1/models", headers={"Host": "llm.example.org"}).status, 200)
        answer = daemon.get("/api/v1/models", headers={"Origin": "https://chat.example.org"})
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://chat.example.org")

    def test_binding_wider_needs_keys(self):
        daemon = self.make({"alpha": fake_model()}, listen="0.0.0.0:0")
        code, text = daemon.run_to_end()
        self.assertEqual(code, 2, text)
        self.assertIn("key", text)

    def test_keys(self):
        daemon = self.start({"alpha": fake_model()}, listen="0.0.0.0:0",
                            config="server: {keys: {user_env: USER_KEY, admin_env: ADMIN_KEY}}\n",
                            environment={"USER_KEY": "sk-user-1234567890", "ADMIN_KEY": "sk-admin-1234567890"})
        port = daemon.address.rpartition(":")[2]
        daemon.address = f"127.0.0.1:{port}"
        user = {"Authorization": "Bearer sk-user-1234567890"}
        admin = {"Authorization": "Bearer sk-admin-1234567890"}
        wrong = {"Authorization": "Bearer sk-none"}
        self.assertEqual(daemon.chat("alpha", headers=user).status, 200)
        self.assertEqual(daemon.post("/v1/messages", daemon.question("alpha", max_tokens=3),
                                     headers={"X-Api-Key": "sk-user-1234567890"}).status, 200)
        self.assertEqual(daemon.post("/api/v1/models/load", {"model": "alpha"}, headers=admin).status, 200)
        # Who comes from this machine needs none; who comes from elsewhere does.
        self.assertEqual(daemon.chat("alpha").status, 200)
        outside = own_address()
        if outside:
            daemon.address = f"{outside}:{port}"
            for headers in ({}, wrong):
                refused = daemon.chat("alpha", headers=headers)
                self.assertEqual((refused.status, refused.error()["type"]), (401, "authentication_error"))
            self.assertEqual(daemon.chat("alpha", headers=user).status, 200)
            for path, headers, status in (("load", user, 403), ("load", admin, 200), ("unload", user, 403), ("unload", admin, 200)):
                answer = daemon.post(f"/api/v1/models/{path}", {"model": "alpha"}, headers=headers)
                self.assertEqual(answer.status, status, answer)
            self.assertEqual(daemon.get("/api/v1/models").status, 401)
            self.assertEqual(daemon.get("/health").status, 200)
        self.assertNotIn("sk-user-1234567890", daemon.errors())
        self.assertNotIn("sk-admin-1234567890", daemon.errors())


if __name__ == "__main__":
    unittest.main(verbosity=2)
