"""A home of its own for the managers of a test, and what must be true when it is over: no process is left in it.

Programs come from the environment, which CMake sets: LLM_MANAGER_PROGRAM, LLM_MANAGER_FAKE_WORKER."""
import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from daemon import PATIENCE_S, alive, fake_model, pids_of, wait_gone  # noqa: E402

__all__ = ["HomeTest", "PATIENCE_S", "alive", "fake_model", "pids_of", "wait_gone", "MODELS", "TINYLLAMA", "MINILM"]

MODELS = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "llm-manager" / "models"
TINYLLAMA = MODELS / "tinyllama-1.1b-chat-iq2_xxs.gguf"
MINILM = MODELS / "all-minilm-l6-v2.gguf"


class HomeTest(unittest.IsolatedAsyncioTestCase):
    maxDiff = None
    real_engine = False

    def setUp(self):
        # Short, since sockets' paths are.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="lm-py-"))
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self._before = dict(os.environ)
        self._folder = os.getcwd()
        self.addCleanup(self._restore)
        for name in ("LLM_MANAGER_URL", "LLM_MANAGER_API_KEY", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME",
                     "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ["HOME"] = str(self.home)
        if self.real_engine:
            os.environ.pop("LLM_MANAGER_WORKER", None)
        else:
            os.environ["LLM_MANAGER_WORKER"] = os.environ["LLM_MANAGER_FAKE_WORKER"]
        os.chdir(self.home)

    def _restore(self):
        os.chdir(self._folder)
        os.environ.clear()
        os.environ.update(self._before)
        # This process has another home; what was started here has this one.
        left = [pid for pid in pids_of(self.home) if pid != os.getpid()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if left:
            self.fail(f"processes are left: {left}")

    def model(self, name, **lines):
        """The path of a fake model."""
        path = self.home / f"{name}.gguf"
        path.write_text(fake_model(**lines))
        return str(path)

    def config(self, llm, embedding=None, **more):
        models = {"llm": llm if isinstance(llm, dict) else {"model_path": llm}}
        if embedding:
            models["embedding"] = {"model_path": embedding, "kind": "embedding"}
        return {"models": models, "ollama": {"url": "http://127.0.0.1:9"}, **more}

    async def manager(self, config, **options):
        from llm_manager import LLMManager
        manager = LLMManager(config, **options)
        self.addCleanup(manager.cleanup)
        if not await manager.initialize():
            raise AssertionError(f"the manager could not be initialised: {manager.last_error}")
        return manager

    def program(self, code, config):
        """A Python program in this home with `config`, started."""
        text = f"import json\nCONFIG = json.loads({json.dumps(json.dumps(config))})\n" + code
        return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)


async def soon(condition, what):
    """Waits for what another process does."""
    for _ in range(PATIENCE_S * 50):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")
