#!/usr/bin/env python3
"""A thousand answers at a time do not block the event loop, and cancelling gives slots back."""
import asyncio
import time
import unittest

from home import HomeTest, soon

ANSWERS = 1000
TICK_S, MOST_LATE_S = 0.010, 0.050
ROUNDS = 3


class Many(HomeTest):
    def test_a_thousand_awaits_and_a_ticker_that_is_never_late(self):
        config = self.config(self.model("alpha", say="yes", tokens=3, token_ms=1, slots=8),
                             scheduling={"queue_per_model": 2 * ANSWERS, "queue_total": 2 * ANSWERS})
        # A loop that is held up is held up each time; a machine that is busy with others is not.
        late = []
        for _ in range(ROUNDS):
            late.append(asyncio.run(self.round(config)))
            if late[-1] < MOST_LATE_S:
                return
        self.fail(f"the ticker was late by {[f'{s * 1000:.0f} ms' for s in late]}")

    async def round(self, config):
        manager = await self.manager(config)
        late = []
        done = asyncio.Event()

        async def tick():
            loop = asyncio.get_running_loop()
            due = loop.time() + TICK_S
            while not done.is_set():
                await asyncio.sleep(due - loop.time())
                late.append(loop.time() - due)
                due = max(due + TICK_S, loop.time())

        ticker = asyncio.create_task(tick())
        began = time.monotonic()
        answers = await asyncio.gather(*(manager.generate_response(f"Question {i}") for i in range(ANSWERS)))
        took = time.monotonic() - began
        done.set()
        await ticker
        self.assertEqual(answers, ["yes yes yes"] * ANSWERS)
        self.assertEqual(manager.conversation_count, ANSWERS)
        manager.cleanup()
        print(f"{ANSWERS} answers in {took:.2f} s; {len(late)} ticks, the latest {max(late) * 1000:.1f} ms late")
        self.assertGreater(len(late), 10)
        return max(late)

    async def test_cancelling_frees_the_slot(self):
        manager = await self.manager(self.config(self.model("alpha", say="yes", tokens=3, slots=1, hang_at="prefill",
                                                            times=1)))
        first = asyncio.create_task(manager.generate_response("Hello"))
        await soon(lambda: manager._native.model("chat")["active"] == 1, "it is served")
        first.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await first
        await soon(lambda: manager._native.model("chat")["active"] == 0, "its slot is free")
        self.assertEqual(manager.get_conversation_stats()["failures"], 0)

    async def test_leaving_a_stream_frees_the_slot(self):
        manager = await self.manager(self.config(self.model("alpha", tokens=1000000, token_ms=5, slots=1)))
        pieces = await manager.generate_response("Hello", stream=True)
        async for piece in pieces:
            self.assertTrue(piece)
            break
        await pieces.aclose()
        await soon(lambda: manager._native.model("chat")["active"] == 0, "its slot is free")

    async def test_cleanup_ends_what_is_under_way(self):
        manager = await self.manager(self.config(self.model("alpha", hang_at="prefill")))
        waiting = [asyncio.create_task(manager.generate_response("Hello")) for _ in range(5)]
        await soon(lambda: manager._native.model("chat")["active"] > 0, "they are under way")
        await asyncio.get_running_loop().run_in_executor(None, manager.cleanup)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            self.assertEqual(getattr(outcome, "reason", outcome), "cancelled")


if __name__ == "__main__":
    unittest.main(verbosity=2)
