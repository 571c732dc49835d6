#!/usr/bin/env python3
"""Every code block of the guide, as it stands there, against TinyLlama and MiniLM. What is provided: the paths of the
two models in its configuration, `your_rag_system`, `prompt`, and a manager where the block before has cleaned up."""
import ast
import asyncio
import contextlib
import inspect
import io
import pathlib
import re
import sys
import unittest

from home import HomeTest, MINILM, TINYLLAMA

GUIDE = pathlib.Path(__file__).with_name("llm-manager-guide.md")
PYTHON_BLOCKS = 13


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


class YourRagSystem:
    """What a user of the guide has: looks for words."""

    def __init__(self):
        self.asked = []

    def search(self, query, top_k, category_filter=None):
        self.asked.append(query)
        return [{"content": "露西婭是一位虛擬主播，喜歡唱歌。", "metadata": {"source": "露西婭.md"}, "similarity": 0.9}]


class Guide(HomeTest):
    real_engine = True

    def configuration(self):
        text, = blocks("yaml")
        for theirs, ours in (("/path/to/Qwen-8B", TINYLLAMA), ("/path/to/Qwen3-Embedding-0.6B", MINILM)):
            self.assertEqual(text.count(theirs), 1)
            text = text.replace(theirs, str(ours))
        return text

    async def run_block(self, code, namespace):
        program = compile(code, "<guide>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            outcome = eval(program, namespace)  # noqa: S307: the guide's own code
            if inspect.isawaitable(outcome):
                await outcome
        return said.getvalue()

    async def test_every_block_runs_as_it_stands(self):
        from llm_manager import LLMManager, create_llm_manager
        # Where the guide writes `config = {...}`, the configuration is the one that the daemon finds.
        (self.home / "llm-manager.yaml").write_text(self.configuration(), encoding="utf-8")
        # docs/api_python.md: the line by which code of the old version goes on.
        (self.home / "src").mkdir()
        (self.home / "src" / "llm_manager.py").write_text("from llm_manager import *\n")
        sys.path.insert(0, str(self.home))
        self.addCleanup(sys.path.remove, str(self.home))
        rag = YourRagSystem()
        namespace = {"your_rag_system": rag, "prompt": "What is the capital of France?"}
        programs = blocks("python")
        self.assertEqual(len(programs), PYTHON_BLOCKS, "the guide has other blocks than this test knows")
        said = []
        for number, code in enumerate(programs):
            with self.subTest(block=number, code=code):
                before = namespace.get("manager")
                if number >= 2 and (before is None or before._native is None):
                    before = namespace["manager"] = await create_llm_manager(namespace["config"])
                    self.assertIsNotNone(before)
                    self.addCleanup(before.cleanup)
                said.append(await self.run_block(code, namespace))
                after = namespace.get("manager")
                if isinstance(after, LLMManager):
                    self.addCleanup(after.cleanup)
                if before is not None and after is not before:
                    before.cleanup()
        manager = namespace["manager"]
        # What they left behind is what the guide says it is.
        self.assertTrue(said[0].strip(), "an answer was printed")
        self.assertIn("GPU使用情況: {", said[1])
        self.assertIn("對話次數: 1", said[1])
        self.assertIsInstance(namespace["response"], str)
        self.assertEqual(rag.asked, ["告訴我關於露西婭的信息"])
        self.assertEqual(namespace["embeddings"].shape, (2, 384))
        self.assertEqual({"issues", "recommendations"} - namespace["diagnosis"].keys(), set())
        self.assertEqual({"gpu_count", "total_memory_gb", "available_memory_gb"} - namespace["status"].keys(), set())
        self.assertRegex("".join(said), r"GPU數量: \d+\n總記憶體: \d+\.\dGB\n可用記憶體: \d+\.\dGB\n")
        self.assertRegex("".join(said), r"對話次數: \d+\n當前心情: \w+\n親密度: ")
        self.assertIs(namespace["LLMManager"], LLMManager)
        self.assertEqual(namespace["info"]["name"], "llm_manager")
        manager.cleanup()

    async def test_its_configuration_as_a_dict_with_sections_that_nobody_knows(self):
        import yaml
        config = yaml.safe_load(self.configuration())
        config["discord_bot"] = {"anything": [1, 2, {"more": None}]}
        config["vtuber"]["character"] = {"name": "露西婭"}
        manager = await self.manager(config)
        info = manager.get_model_info()
        self.assertEqual(info["llm"]["path"], str(TINYLLAMA))
        self.assertEqual(info["embedding"]["path"], str(MINILM))
        self.assertTrue(info["llm"]["loaded"] and info["embedding"]["loaded"])
        answer = await manager.generate_response("Tell me a long story about the sea.")
        self.assertLessEqual(manager.last_answer["answer_tokens"], 150, "vtuber.response.max_tokens")
        self.assertTrue(answer)


if __name__ == "__main__":
    unittest.main(verbosity=2)
