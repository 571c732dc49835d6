#!/usr/bin/env python3
"""The module with TinyLlama and MiniLM."""
import asyncio
import unittest

import numpy

from home import HomeTest, MINILM, TINYLLAMA, soon


class Real(HomeTest):
    real_engine = True

    async def real(self, **more):
        return await self.manager(self.config({"model_path": str(TINYLLAMA), "max_length": 1024}, str(MINILM), **more))

    async def test_answers_whole_and_in_pieces(self):
        manager = await self.real()
        asked = {"prompt": "What is the capital of France?", "temperature": 0, "max_tokens": 24}
        whole = await manager.generate_response(**asked)
        self.assertIn("Paris", whole)
        pieces = [piece async for piece in await manager.generate_response(**asked, stream=True)]
        # A prompt that is read from the cache need not give the same words to the last bit.
        self.assertIn("Paris", "".join(pieces))
        self.assertEqual("".join(pieces), manager.last_answer["text"])
        self.assertGreater(len(pieces), 3)
        self.assertGreater(manager.last_answer["prompt_tokens"], 10)
        self.assertEqual(manager.conversation_count, 2)

    async def test_a_history_is_cut_to_the_context_by_tokens(self):
        manager = await self.real()
        line = "The quick brown fox jumps over the lazy dog. " * 4
        history = [(f"Turn {i}. {line}", "I see.") for i in range(40)]
        answer = await manager.generate_response("What is the capital of France?", conversation_history=history,
                                                 temperature=0, max_tokens=16)
        self.assertTrue(answer)
        left_out = manager.last_answer["turns_left_out"]
        tokens = manager.last_answer["prompt_tokens"]
        self.assertTrue(0 < left_out < 40, left_out)
        self.assertLessEqual(tokens, 1024 - 16)
        # One turn more would not have fitted.
        turn = len(manager.llm_tokenizer.encode(history[0][0] + history[0][1], add_special_tokens=False))
        self.assertGreater(tokens + turn + 40, 1024 - 16)
        await manager.generate_response("Hello", conversation_history=history[:2], max_tokens=4)
        self.assertEqual(manager.last_answer["turns_left_out"], 0)

    async def test_an_answer_has_its_least_tokens(self):
        asked = {"prompt": "Answer with the one word yes.", "temperature": 0}
        usual = await self.real(vtuber={"response": {"max_tokens": 100}})
        await usual.generate_response(**asked)
        tokens = usual.last_answer["answer_tokens"]
        self.assertEqual(usual.last_answer["finish_reason"], "stop", "it ends by itself")
        usual.cleanup()
        longer = await self.real(vtuber={"response": {"min_tokens": tokens + 10, "max_tokens": tokens + 12}})
        await longer.generate_response(**asked)
        self.assertGreaterEqual(longer.last_answer["answer_tokens"], tokens + 10)
        self.assertLessEqual(longer.last_answer["answer_tokens"], tokens + 12)
        pieces = [piece async for piece in await longer.generate_response(**asked, stream=True)]
        self.assertEqual("".join(pieces), longer.last_answer["text"])
        self.assertGreaterEqual(longer.last_answer["answer_tokens"], tokens + 10)

    async def test_embeddings_are_the_models_own(self):
        manager = await self.real()
        rows = manager.get_embeddings(["This is an example sentence", "Each sentence is converted", "你好"])
        self.assertIsInstance(rows, numpy.ndarray)
        self.assertEqual((rows.dtype, rows.shape), (numpy.float32, (3, 384)))
        numpy.testing.assert_allclose(rows[0][:3], [0.0677, 0.0635, 0.0487], atol=2e-3)
        numpy.testing.assert_allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-5)
        self.assertEqual((rows @ rows.T).shape, (3, 3))
        self.assertEqual(len(rows[0].tolist()), 384)
        batched = manager.get_embeddings([f"Sentence number {i}" for i in range(11)], batch_size=4)
        alone = manager.get_embeddings("Sentence number 7")
        numpy.testing.assert_allclose(batched[7], alone[0], atol=1e-3)
        self.assertEqual(manager.get_embeddings([]).shape[0], 0)
        encoded = manager.embedding_model.encode(["你好", "再見"], convert_to_tensor=False)
        self.assertEqual(encoded.shape, (2, 384))
        self.assertEqual(manager.embedding_model.encode("你好", convert_to_tensor=False).shape, (384,))

    async def test_the_tokenizer_is_the_models_own(self):
        manager = await self.real()
        tokenizer = manager.llm_tokenizer
        for text in ("Hello world", "你好，世界", "a\nb"):
            tokens = tokenizer.encode(text, add_special_tokens=False)
            self.assertEqual(tokenizer.decode(tokens).strip(), text)
        self.assertEqual(tokenizer.encode("Hello")[0], 1, "its token for a beginning")
        text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi there"}])
        self.assertIn("Hi there", text)
        self.assertIn("<|user|>", text)
        self.assertEqual(tokenizer.apply_chat_template([{"role": "user", "content": "Hi there"}], tokenize=True),
                         tokenizer.encode(text, add_special_tokens=False))

    async def test_unloaded_and_loaded_again(self):
        manager = await self.real()
        self.assertIsNotNone(manager.llm_model)
        self.assertEqual(manager.device, "cpu")
        self.assertFalse(manager.use_multi_gpu)
        self.assertTrue(manager.reload_local_model(), "loaded already is true")
        self.assertTrue(manager.unload_local_model())
        self.assertIsNone(manager.llm_model)
        self.assertIsNone(manager.llm_tokenizer)
        self.assertEqual(manager.get_embeddings(["still here"]).shape, (1, 384))
        self.assertTrue(manager.unload_local_model(), "unloaded already is true")
        self.assertTrue(manager.reload_local_model())
        self.assertEqual(manager.llm_model.max_length, 1024)
        self.assertIn("Paris", await manager.generate_response("What is the capital of France?", temperature=0,
                                                               max_tokens=24))

    async def test_gpu_status_has_every_key_without_a_gpu(self):
        manager = await self.real()
        status = manager.get_gpu_status()
        if status["gpu_count"] == 0:
            self.assertEqual((status["total_memory_gb"], status["available_memory_gb"]), (0.0, 0.0))
            self.assertEqual(status["devices"], [])
        self.assertGreater(status["host"]["total_memory_gb"], 0)
        diagnosis = manager.diagnose_gpu_allocation()
        self.assertIn("host", [device["id"] for device in diagnosis["devices"]])
        self.assertEqual(len(diagnosis["models"]), 2)
        self.assertEqual(manager.optimize_gpu_memory()["freed_gb"], 0, "its own models are not idle ones")

    async def test_cancelling_a_real_answer_frees_its_slot_within_two_seconds(self):
        manager = await self.real()
        task = asyncio.create_task(manager.generate_response("Count from one to a thousand.", max_tokens=800))
        await soon(lambda: manager._native.model("chat")["active"] == 1, "it is served")
        began = asyncio.get_running_loop().time()
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await soon(lambda: manager._native.model("chat")["active"] == 0, "its slot is free")
        self.assertLess(asyncio.get_running_loop().time() - began, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
