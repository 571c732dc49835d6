#!/usr/bin/env python3
"""The module's names, errors and retrieval, with fake workers."""
import ast
import asyncio
import inspect
import os
import pathlib
import sys
import types
import unittest

import llm_manager
from llm_manager import LLMManager, create_llm_manager, diagnose_system, get_module_info, get_system_info

from home import HomeTest, soon


def echo(**more):
    return {"echo": 1, "tokens": 1000, **more}


class Answers(HomeTest):
    async def test_context_and_history_and_passages_reach_the_model(self):
        manager = await self.manager(self.config(self.model("alpha")))
        asked = {}
        native = manager._native

        class Spy:
            def __getattr__(self, name):
                return getattr(native, name)

            def generate(self, question, on_text, done):
                asked.update(question)
                return native.generate(question, on_text, done)

        manager._native = Spy()
        manager.set_rag_system_reference(Search())
        await manager.generate_response("P", context="C", conversation_history=[("U", "A")])
        manager._native = native
        self.assertEqual((asked["prompt"], asked["context"], asked["history"]), ("P", "C", [("U", "A")]))
        self.assertEqual(manager.last_answer["passages"],
                         [{"content": "found for P", "source": "a.md", "similarity": 0.5}])

    async def test_a_conversation_in_figures(self):
        manager = await self.manager(self.config(self.model("alpha", **echo())))
        self.assertEqual(manager.get_conversation_stats()["conversation_count"], 0)
        self.assertEqual(manager.get_conversation_stats()["current_mood"], "calm")
        await manager.generate_response("I love you, thank you! 我很開心")
        stats = manager.get_conversation_stats()
        self.assertEqual(stats["conversation_count"], 1)
        self.assertEqual(stats["current_mood"], "delighted")
        self.assertAlmostEqual(stats["intimacy_level"], 1.5)
        self.assertGreater(stats["answer_tokens"], 0)
        for _ in range(3):
            await manager.generate_response("I hate this. It is terrible and stupid.")
        self.assertEqual(manager.get_conversation_stats()["current_mood"], "upset")
        self.assertEqual(manager.get_conversation_stats()["intimacy_level"], 0)

    async def test_answers_in_taiwans_chinese_whole_and_in_pieces(self):
        said = "打开软件， 用鼠标点击打印机。 程序员的服务器"
        response = {"response": {"enable_traditional_chinese": True}}
        manager = await self.manager(self.config(self.model("alpha", say=said, tokens=3), vtuber=response))
        whole = await manager.generate_response("Hello")
        self.assertEqual(whole, "開啟軟體， 用滑鼠點選印表機。 程式設計師的伺服器")
        pieces = [piece async for piece in await manager.generate_response("Hello", stream=True)]
        self.assertEqual("".join(pieces), whole)
        self.assertGreater(len(pieces), 1)

    async def test_a_loop_is_cut_and_its_slot_is_free(self):
        config = self.config(self.model("alpha", say="ha", tokens=1000000, token_ms=1, slots=1),
                             vtuber={"response": {"filter_repetition": True}})
        manager = await self.manager(config)
        answer = await manager.generate_response("Hello")
        self.assertLess(len(answer), 200)
        self.assertEqual(manager.last_answer["finish_reason"], "repetition")
        await soon(lambda: manager._native.model("chat")["active"] == 0, "its slot is free")
        pieces = [piece async for piece in await manager.generate_response("Hello", stream=True)]
        self.assertEqual("".join(pieces), answer)

    async def test_each_way_to_call_a_retrieval(self):
        manager = await self.manager(self.config(self.model("alpha")))
        for system, content in ((Search(), "found for Q"), (AsyncSearch(), "found later for Q"),
                                (Enhanced(), "enhanced for Q"), (Objects(), "an object for Q")):
            manager.set_rag_system_reference(system)
            await manager.generate_response("Q")
            self.assertEqual([p["content"] for p in manager.last_answer["passages"]], [content])
            await manager.generate_response("Q", rag_enabled=False)
            self.assertEqual(manager.last_answer["passages"], [])
        manager.set_rag_system_reference(Broken())
        with self.assertLogs("llm_manager", "ERROR"):
            await manager.generate_response("Q")
        self.assertEqual(manager.last_answer["passages"], [])
        with self.assertRaises(llm_manager.InvalidRequestError):
            manager.set_rag_system_reference(object())
        manager.set_rag_system_reference(None)

    async def test_a_search_that_blocks_does_not_block_the_loop(self):
        import threading
        manager = await self.manager(self.config(self.model("alpha")))
        asked, go = threading.Event(), threading.Event()

        class Slow:
            def search(self, query, top_k, category_filter=None):
                asked.set()
                assert go.wait(60)
                return []

        manager.set_rag_system_reference(Slow())
        task = asyncio.create_task(manager.generate_response("Q"))
        while not asked.is_set():
            await asyncio.sleep(0.005)  # runs: so the loop does
        go.set()
        await task


class Search:
    def search(self, query, top_k, category_filter=None):
        return [{"content": f"found for {query}", "metadata": {"source": "a.md"}, "similarity": 0.5}]


class AsyncSearch:
    async def search(self, query, top_k, category_filter=None):
        await asyncio.sleep(0)
        return [{"content": f"found later for {query}", "metadata": {}, "similarity": 0.5}]


class Enhanced(Search):
    def semantic_enhanced_search(self, query, analysis, top_k):
        return [{"content": f"enhanced for {query}", "metadata": {}, "similarity": 0.5}]


class Objects:
    def search(self, query, top_k, category_filter=None):
        return [types.SimpleNamespace(content=f"an object for {query}", metadata={"title": "T"}, similarity=0.1)]


class Broken:
    def search(self, query, top_k, category_filter=None):
        raise ConnectionError("the database is gone")


class Failures(HomeTest):
    async def test_none_and_its_cause(self):
        self.assertIsNone(await create_llm_manager(self.config(str(self.home / "missing.gguf"))))
        diagnosis = diagnose_system()
        self.assertIn("missing", diagnosis["issues"][0])
        self.assertIsInstance(diagnosis["recommendations"], list)
        # A success later is no failure any more.
        manager = await create_llm_manager(self.config(self.model("alpha")))
        self.addCleanup(manager.cleanup)
        self.assertNotIn("missing", " ".join(diagnose_system()["issues"]))

    async def test_a_wrong_configuration_is_told_with_its_key(self):
        self.assertIsNone(await create_llm_manager(self.config(self.model("alpha"), residency={"mode": "sometimes"})))
        self.assertIn("residency.mode", diagnose_system()["issues"][0])
        self.assertIsNone(await create_llm_manager(42))
        self.assertIsNone(await create_llm_manager(str(self.home / "no.yaml")))
        self.assertIn("no.yaml", diagnose_system()["issues"][0])

    async def test_a_daemon_that_is_not_there(self):
        self.assertIsNone(await create_llm_manager({}, url="http://127.0.0.1:9"))
        self.assertIn("127.0.0.1:9", diagnose_system()["issues"][0])

    async def test_a_program_that_is_none(self):
        self.assertIsNone(await create_llm_manager({}, program=str(self.home / "nothing")))
        os.environ["LLM_MANAGER_PROGRAM"] = "/bin/false"
        self.assertIsNone(await create_llm_manager({}))
        os.environ["LLM_MANAGER_PROGRAM"] = str(self.home / "nothing")
        self.assertTrue(any("nothing" in issue for issue in diagnose_system()["issues"]))

    async def test_out_of_memory_is_a_class_that_torchs_users_catch(self):
        manager = await self.manager(self.config(
            self.model("alpha"), None, models={"llm": {"model_path": self.model("alpha")},
                                               "huge": {"model_path": self.model("huge", predict_mb=900000)}}))
        with self.assertRaises(llm_manager.OutOfMemoryError) as raised:
            await manager.generate_response("Hello", model="huge")
        self.assertIsInstance(raised.exception, MemoryError)
        self.assertEqual(raised.exception.reason, "insufficient_memory")
        # As where torch is loaded; the real one is tried where it is installed.
        torch = types.ModuleType("torch")
        torch.cuda = types.SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (RuntimeError,), {}))
        if "torch" not in sys.modules:
            sys.modules["torch"] = torch
            self.addCleanup(sys.modules.pop, "torch")
        with self.assertRaises(sys.modules["torch"].cuda.OutOfMemoryError) as raised:
            await manager.generate_response("Hello", model="huge")
        self.assertIsInstance(raised.exception, llm_manager.OutOfMemoryError)
        self.assertEqual(manager.get_conversation_stats()["failures"], 2)

    async def test_after_cleanup_and_before_initialize(self):
        manager = LLMManager(self.config(self.model("alpha")))
        with self.assertRaises(llm_manager.ClosedError):
            manager.get_gpu_status()
        self.assertTrue(await manager.initialize())
        self.assertTrue(await manager.initialize(), "twice is fine")
        manager.cleanup()
        manager.cleanup()
        with self.assertRaises(llm_manager.ClosedError):
            await manager.generate_response("Hello")
        self.assertFalse(await manager.initialize())

    async def test_a_model_that_nobody_knows(self):
        manager = await self.manager(self.config(self.model("alpha")))
        with self.assertRaises(llm_manager.NotFoundError) as raised:
            await manager.generate_response("Hello", model="alhpa")
        self.assertEqual(raised.exception.reason, "model_not_found")
        with self.assertRaises(LookupError):
            [piece async for piece in await manager.generate_response("Hello", model="alhpa", stream=True)]

    async def test_without_an_embedding_model(self):
        manager = await self.manager(self.config(self.model("alpha")))
        self.assertIsNone(manager.embedding_model)
        with self.assertRaises(llm_manager.LLMManagerError):
            manager.get_embeddings(["Hello"])


class Stubs(unittest.TestCase):
    """The typed stubs say what is there: every public name, method and parameter, and no other."""

    @staticmethod
    def parameters(function):
        names = function.args
        listed = [a.arg for a in names.posonlyargs + names.args + names.kwonlyargs]
        return set(listed) | {a.arg for a in (names.vararg, names.kwarg) if a}

    def described(self):
        tree = ast.parse(pathlib.Path(llm_manager.__file__).with_name("__init__.pyi").read_text())
        functions, classes = {}, {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                functions[node.name] = self.parameters(node)
            elif isinstance(node, ast.ClassDef):
                classes[node.name] = {one.name: self.parameters(one) for one in node.body
                                      if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))}
        return functions, classes

    def test_they_agree_with_the_module(self):
        functions, classes = self.described()
        public = {name for name in llm_manager.__all__ if name != "__version__"}
        self.assertEqual((functions.keys() | classes.keys()) - {"RagSystem"}, public)
        for name, parameters in functions.items():
            if name != "create_llm_manager":  # hands its options on
                self.assertEqual(parameters, set(inspect.signature(getattr(llm_manager, name)).parameters))
        for name in ("LLMManager", "LLMModel", "LLMTokenizer", "EmbeddingModel"):
            real = getattr(llm_manager, name)
            has = {m: value for base in reversed(real.__mro__[:-1]) for m, value in vars(base).items()}
            theirs = {m for m in has if not m.startswith("_")
                      or m in ("__init__", "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__")}
            mine = set(classes[name]) | ({"__init__"} if name != "LLMManager" else set())
            self.assertEqual(mine, theirs, name)
            for method, parameters in classes[name].items():
                value = has[method]
                function = value.fget if isinstance(value, property) else value
                self.assertEqual(parameters, set(inspect.signature(function).parameters), f"{name}.{method}")


class Machine(HomeTest):
    def test_what_needs_no_daemon(self):
        info = get_system_info()
        self.assertGreater(info["total_memory_gb"], info["available_memory_gb"])
        self.assertGreater(info["cpu_count"], 0)
        self.assertEqual(info["version"], llm_manager.__version__)
        diagnosis = diagnose_system()
        self.assertEqual({"issues", "recommendations"} - diagnosis.keys(), set())
        module = get_module_info()
        self.assertEqual((module["name"], module["version"]), ("llm_manager", llm_manager.__version__))

    async def test_a_running_daemon_is_used_and_left_alone(self):
        import daemon as e2e
        os.environ["LLM_MANAGER"] = os.environ["LLM_MANAGER_PROGRAM"]
        running = e2e.Daemon(str(self.home), {"alpha": e2e.fake_model(say="from afar", tokens=2)})
        running.start()
        try:
            manager = await self.manager({}, url=f"http://{running.address}")
            self.assertEqual(manager._native.private_daemon, 0)
            self.assertEqual(await manager.generate_response("Hello"), "from afar")
            change = manager.manage_model_resources("alpha")
            self.assertFalse(change["changed"])
            manager.cleanup()
            self.assertEqual(running.get("/health").status, 200)
            os.environ["LLM_MANAGER_URL"] = f"http://{running.address}"
            again = await self.manager({"llm_manager": {"anything": 1}})
            self.assertEqual(again._native.private_daemon, 0)
            again.cleanup()
        finally:
            self.assertEqual(running.stop(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
