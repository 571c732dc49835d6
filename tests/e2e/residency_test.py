"""Who is in memory: models side by side, turns, victims, holds, pins, and what a release brings back."""
import time
import unittest

from daemon import DaemonTest, InBackground, alive, fake_model, said, wait_gone

ONE_AT_A_TIME = "residency: {max_loaded: 1}\nscheduling: {quantum_min: 100ms, quantum_factor: 0}\n"


class SideBySide(DaemonTest):
    def test_a_loaded_models_requests_do_not_wait_for_anothers_load(self):
        daemon = self.start({"alpha": fake_model(tokens=2), "slow": fake_model(stage_ms=400)})
        daemon.load("alpha")
        log = daemon.events()
        loading = InBackground(daemon.load, "slow")
        log.wait("progress", model="slow", stage="weights")
        for _ in range(20):
            self.assertEqual(daemon.chat("alpha").status, 200)
        answered_at = time.monotonic()
        ready = log.wait("state", model="slow", detail="ready")
        self.assertGreater(ready["_at"], answered_at, "the load was over too soon to show anything")
        self.assertEqual(loading.result().json()["state"], "ready")

    def test_the_gauge_tells_how_many_are_wanted_and_how_many_fit(self):
        daemon = self.start({"a1": fake_model(tokens=1), "b2": fake_model(tokens=1)}, config=ONE_AT_A_TIME)
        self.assertEqual(daemon.get("/api/v1/instances").json()["demand"],
                         {"wanted": 0, "fit": 0, "advice": "", "models": []})
        # A memory of ten minutes: thirty requests are one in twenty seconds.
        for _ in range(30):
            for name in ("a1", "b2"):
                self.assertEqual(daemon.chat(name).status, 200)
        demand = daemon.get("/api/v1/instances").json()["demand"]
        self.assertEqual(demand["fit"], 1, demand)
        self.assertGreater(demand["wanted"], 0.001, demand)
        self.assertEqual({m["model"] for m in demand["models"]}, {"a1", "b2"})
        self.assertAlmostEqual(demand["wanted"], sum(m["wanted"] for m in demand["models"]))
        self.assertEqual(daemon.get("/api/v1/models").json()["demand"]["fit"], 1)
        metrics = daemon.get("/metrics").body.decode()
        self.assertIn("llm_manager_models_fit 1\n", metrics)
        self.assertIn("llm_manager_models_wanted 0.", metrics)
        self.assertIn('llm_manager_model_requests_per_second{model="a1"} 0.0', metrics)

    def test_several_load_at_the_same_time(self):
        daemon = self.start({name: fake_model(stage_ms=100) for name in ("a1", "b2", "c3")})
        log = daemon.events()
        asked = [InBackground(daemon.chat, name) for name in ("a1", "b2", "c3")]
        for one in asked:
            self.assertEqual(one.result().status, 200)
        began = [log.wait("state", model=n, detail="loading")["_at"] for n in ("a1", "b2", "c3")]
        ended = [log.wait("state", model=n, detail="ready")["_at"] for n in ("a1", "b2", "c3")]
        self.assertLess(max(began), min(ended))

    def test_the_host_limit_bounds_what_is_loaded(self):
        # Two of these fit under the limit, not three, whatever the worker itself takes.
        # Of the two the first is idle for longer, and its load costs less, though it is the daemon's first.
        daemon = self.start({"a1": fake_model(memory_mb=200), "b2": fake_model(memory_mb=200, stage_ms=300),
                             "c3": fake_model(memory_mb=200)}, config="devices: {host: {limit: 570MB}}\n")
        log = daemon.events()
        for name in ["a1"] + ["b2"] * 10:
            self.assertEqual(daemon.chat(name).status, 200, name)
        mark = log.mark()
        self.assertEqual(daemon.chat("c3").status, 200)
        evicted = log.wait("state", since=mark, model="a1", detail="absent")
        self.assertEqual(evicted["cause"], "evicted")
        self.assertEqual(daemon.model("b2")["state"], "ready")
        host = daemon.get("/api/v1/devices").json()["devices"][0]
        self.assertLessEqual(host["reserved"], host["limit"])

    def test_what_can_never_fit_is_refused_with_numbers(self):
        daemon = self.start({"huge": fake_model(memory_mb=16, predict_mb=900), "alpha": fake_model()},
                            config="devices: {host: {limit: 600MB}}\n")
        answer = daemon.chat("huge")
        self.assertEqual(answer.status, 507, answer)
        error = answer.error()
        self.assertEqual(error["code"], "insufficient_memory")
        self.assertEqual(error["type"], "insufficient_memory_error")
        self.assertEqual(error["details"]["device"], "host")
        self.assertGreater(error["details"]["needed"], 900 << 20)
        self.assertIn("free", error["details"])
        self.assertEqual(daemon.chat("alpha").status, 200)


class Turns(DaemonTest):
    def test_two_models_alternate_where_one_may_be_loaded(self):
        daemon = self.start({"a1": fake_model(say="from a1", tokens=2), "b2": fake_model(say="from b2", tokens=2)},
                            config=ONE_AT_A_TIME)
        log = daemon.events()
        for i in range(6):
            name = ("a1", "b2")[i % 2]
            answer = daemon.chat(name)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.json()["choices"][0]["message"]["content"], f"from {name}")
            ready = [m["id"] for m in daemon.get("/api/v1/models").json()["models"] if m["state"] == "ready"]
            self.assertEqual(ready, [name])
        self.assertEqual(log.loads("a1") + log.loads("b2"), 6)
        # Never two at a time: each load begins after the other's memory was measured back.
        order = [(e["model"], e["detail"]) for e in log.all("state") if e["detail"] in ("reserved", "absent")]
        holder = None
        for model, detail in order:
            if detail == "reserved":
                self.assertIsNone(holder, order)
                holder = model
            elif holder == model:
                holder = None

    def test_a_victim_drains_before_it_goes(self):
        daemon = self.start({"a1": fake_model(token_ms=100, tokens=15), "b2": fake_model(tokens=1)},
                            config=ONE_AT_A_TIME.replace("quantum_factor: 0", "quantum_factor: 0, drain: 1min"))
        log = daemon.events()
        stream = daemon.chat_stream("a1")
        self.assertIsNotNone(stream.event())
        asked = InBackground(daemon.chat, "b2")
        log.wait("state", model="a1", detail="draining")
        # It is chosen: what comes now for it waits for its next turn and does not revive it.
        late = InBackground(daemon.chat, "a1", fake_tokens=1)
        events = stream.events()
        self.assertEqual(said(events).split()[-1], "w14")
        self.assertEqual(events[-1].data, "[DONE]")
        gone = log.wait("state", model="a1", detail="absent")
        self.assertEqual(gone["cause"], "evicted")
        self.assertGreater(gone["_at"], events[-1].at - 0.05)
        self.assertEqual(asked.result().status, 200)
        self.assertEqual(late.result().status, 200)
        self.assertEqual(log.loads("a1"), 2)
        self.assertEqual(log.loads("b2"), 1)

    def test_nobody_starves_a_model_that_waits(self):
        daemon = self.start({"a1": fake_model(tokens=3, token_ms=20), "b2": fake_model(tokens=1)},
                            config=ONE_AT_A_TIME)
        daemon.load("a1")
        stop = []

        def client():
            answers = 0
            while not stop:
                self.assertEqual(daemon.chat("a1").status, 200)
                answers += 1
            return answers
        clients = [InBackground(client) for _ in range(3)]
        try:
            for _ in range(3):
                self.assertEqual(daemon.chat("b2").status, 200)
        finally:
            stop.append(True)
        self.assertGreater(sum(c.result() for c in clients), 3)

    def test_an_embedding_model_starts_no_switch(self):
        daemon = self.start({"a1": fake_model(tokens=1), "my-embed": fake_model(kind="embedding")},
                            config=ONE_AT_A_TIME)
        log = daemon.events()
        self.assertEqual(daemon.chat("a1").status, 200)
        self.assertEqual(daemon.post("/v1/embeddings", {"model": "my-embed", "input": "x"}).status, 200)
        self.assertEqual(daemon.chat("a1").status, 200)
        self.assertEqual(log.loads("a1"), 1)

    def test_an_idle_model_expires(self):
        daemon = self.start({"a1": fake_model()}, config="residency: {keep_alive: 1s}\n")
        log = daemon.events()
        daemon.chat("a1")
        pid = daemon.worker("a1").pid
        gone = log.wait("state", model="a1", detail="absent")
        self.assertEqual(gone["cause"], "expired")
        self.assertEqual(wait_gone([pid], 1), [])


class Unloading(DaemonTest):
    def test_the_release_report_agrees_with_the_kernel(self):
        daemon = self.start({"big": fake_model(memory_mb=300)})
        daemon.load("big")
        worker = daemon.worker("big")
        held = worker.held()
        self.assertGreater(held, 300 << 20)
        self.assert_close(daemon.model("big")["instance"]["held_bytes"]["host"], held, 0.02, "while it is loaded")
        answer = daemon.unload("big").json()
        self.assertTrue(answer["changed"])
        release = answer["release"]
        self.assert_close(release["before"], held, 0.02)
        self.assert_close(release["freed"], held, 0.02)
        self.assertEqual(release["after"], 0)
        self.assertEqual(release["residual"], 0)
        self.assertEqual(release["holders"], [])
        self.assertTrue(release["proved"])
        self.assertEqual(release["before"], release["after"] + release["freed"])
        row = release["devices"][0]
        self.assertEqual(row["device"], "host")
        self.assertEqual(row["freed"], release["freed"])
        self.assertFalse(alive(worker.pid))
        self.assertEqual(daemon.get("/api/v1/devices").json()["devices"][0]["reserved"], 0)

    def test_the_footprint_is_learned(self):
        daemon = self.start({"liar": fake_model(memory_mb=200, predict_mb=60)})
        self.assertIsNone(daemon.model("liar")["footprint"])
        daemon.load("liar")
        held = daemon.worker("liar").held()
        footprint = daemon.model("liar")["footprint"]
        self.assertEqual(footprint["source"], "measured")
        self.assert_close(footprint["total"], held, 0.05)
        daemon.unload("liar")
        daemon.load("liar")
        reserved = daemon.model("liar")["instance"]["reserved"]["host"]
        self.assertGreaterEqual(reserved, 200 << 20)
        self.assertIn("measured", str(daemon.decisions("liar", "load")[0]), "the second load still goes by the prediction")

    def test_loading_and_unloading_twice_say_so_and_succeed(self):
        daemon = self.start({"a1": fake_model()})
        first, second = daemon.load("a1"), daemon.load("a1")
        self.assertEqual((first.status, first.json()["changed"]), (200, True))
        self.assertEqual((second.status, second.json()["changed"]), (200, False))
        self.assertEqual(second.json()["state"], "ready")
        first, second = daemon.unload("a1"), daemon.unload("a1")
        self.assertEqual((first.status, first.json()["changed"]), (200, True))
        self.assertEqual((second.status, second.json()["changed"]), (200, False))
        self.assertIsNone(second.json()["release"])

    def test_all_at_once(self):
        daemon = self.start({n: fake_model(memory_mb=20) for n in ("a1", "b2", "c3")})
        daemon.load("a1")
        daemon.load("b2")
        pids = [daemon.worker(n).pid for n in ("a1", "b2")]
        answer = daemon.unload().json()
        self.assertTrue(answer["changed"])
        self.assertGreater(answer["release"]["freed"], 40 << 20)
        self.assertFalse(any(alive(pid) for pid in pids))

    def test_an_unload_waits_for_answers_then_cuts_them(self):
        daemon = self.start({"a1": fake_model(token_ms=100, tokens=8)}, config="limits: {drain_unload: 20s}\n")
        stream = daemon.chat_stream("a1")
        stream.event()
        unloading = InBackground(daemon.unload, "a1")
        events = stream.events()
        self.assertEqual(events[-1].data, "[DONE]")
        self.assertTrue(unloading.result().json()["changed"])

        daemon = self.start({"a1": fake_model(token_ms=50, tokens=100000)}, config="limits: {drain_unload: 300ms}\n")
        stream = daemon.chat_stream("a1")
        stream.event()
        unloading = InBackground(daemon.unload, "a1")
        events = stream.events()
        self.assertIn("error", events[-1].json())
        self.assertEqual(sum("error" in e.data for e in events), 1)
        self.assertFalse(stream.cut)
        self.assertTrue(unloading.result().json()["changed"])

    def test_an_unload_gives_up_a_load(self):
        daemon = self.start({"slow": fake_model(stage_ms=20000)})
        log = daemon.events()
        waiting = InBackground(daemon.chat, "slow")
        log.wait("progress", model="slow", stage="metadata")
        self.assertEqual(daemon.unload("slow").status, 200)
        answer = waiting.result()
        self.assertGreaterEqual(answer.status, 500, answer)
        self.assertIn("slow", answer.error()["message"])
        log.wait("state", model="slow", detail="absent")

    def test_a_plain_unload_lets_the_next_request_load_again(self):
        daemon = self.start({"a1": fake_model()})
        daemon.load("a1")
        daemon.unload("a1")
        self.assertEqual(daemon.chat("a1").status, 200)


class Holds(DaemonTest):
    def test_a_held_model_stays_unloaded_until_an_explicit_load(self):
        folder = self.folder()
        models = {"a1": fake_model(), "b2": fake_model()}
        daemon = self.start(models, folder=folder)
        daemon.load("a1")
        answer = daemon.post("/api/v1/models/unload", {"model": "a1", "hold": True},
                             headers={"X-Client-Name": "the owner"})
        self.assertTrue(answer.json()["changed"])
        refused = daemon.chat("a1")
        self.assertEqual(refused.status, 503)
        self.assertEqual(refused.error()["code"], "model_held")
        self.assertIn("the owner", refused.error()["message"])
        held = daemon.model("a1")["held"]
        self.assertEqual(held["by"], "the owner")
        self.assertLess(abs(held["since_ms"] / 1000 - time.time()), 60)
        self.assertEqual(daemon.chat("b2").status, 200)
        # It survives a restart.
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        self.assertEqual(daemon.model("a1")["held"]["by"], "the owner")
        self.assertEqual(daemon.chat("a1").status, 503)
        self.assertEqual(daemon.load("a1").status, 200)
        self.assertIsNone(daemon.model("a1")["held"])
        self.assertEqual(daemon.chat("a1").status, 200)

    def test_all_can_be_held(self):
        daemon = self.start({"a1": fake_model(), "b2": fake_model()})
        daemon.unload(hold=True)
        for name in ("a1", "b2"):
            self.assertEqual(daemon.chat(name).error()["code"], "model_held")
        self.assertEqual(daemon.post("/api/v1/models/pin", {"model": "a1"}).json(), {"changed": True, "held": True})
        self.assertEqual(daemon.load("a1").status, 200)
        self.assertEqual(daemon.post("/api/v1/models/pin", {"model": "a1"}).json(), {"changed": False, "held": False})
        self.assertEqual(daemon.chat("a1").status, 200)


class Pins(DaemonTest):
    def test_a_pinned_model_is_not_evicted(self):
        daemon = self.start({"a1": fake_model(), "b2": fake_model()}, config="residency: {max_loaded: 1}\n")
        daemon.load("a1")
        self.assertTrue(daemon.post("/api/v1/models/pin", {"model": "a1"}).json()["changed"])
        self.assertFalse(daemon.post("/api/v1/models/pin", {"model": "a1"}).json()["changed"])
        self.assertTrue(daemon.model("a1")["pinned"])
        answer = daemon.chat("b2", headers={"X-Deadline-Ms": "1500"})
        self.assertGreaterEqual(answer.status, 409, answer)
        self.assertEqual(daemon.model("a1")["state"], "ready")
        self.assertTrue(daemon.post("/api/v1/models/unpin", {"model": "a1"}).json()["changed"])
        self.assertEqual(daemon.chat("b2").status, 200)
        self.assertEqual(daemon.model("a1")["state"], "unloaded")

    def test_a_pinned_model_is_loaded_at_start_and_again_after_its_death(self):
        folder = self.folder()
        daemon = self.start({"a1": fake_model()}, folder=folder)
        daemon.post("/api/v1/models/pin", {"model": "a1"})
        log = daemon.events(last_id=0)
        began = log.wait("state", model="a1", detail="ready")
        first = daemon.worker("a1")
        mark = log.mark()
        first.kill()
        again = log.wait("state", since=mark, model="a1", detail="ready")
        self.assertNotEqual(again["instance"], began["instance"])
        self.assertNotEqual(daemon.worker("a1").pid, first.pid)
        self.assertEqual(daemon.stop(), [])
        daemon.start()
        daemon.events(last_id=0).wait("state", model="a1", detail="ready")


if __name__ == "__main__":
    unittest.main(verbosity=2)
