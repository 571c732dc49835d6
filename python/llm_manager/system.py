"""The machine and the installation, also where no daemon runs and no manager came about."""
import json
import os
import platform
import subprocess
import sys

from . import _native
from .errors import LLMManagerError
from .models import torch_is_there
from .version import __version__

GB = 1024 ** 3
_DOCTOR_LIMIT_S = 30
# Why the last create_llm_manager() or initialize() of this process came to nothing; None after a success.
_last_failure = None


def remember_failure(error):
    global _last_failure
    _last_failure = error


def last_failure():
    return _last_failure


def _memory():
    amounts = {}
    with open("/proc/meminfo") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            amounts[name] = int(rest.split()[0]) * 1024
    return amounts


def program():
    """The daemon's program, or None."""
    try:
        return _native.find_program("")
    except LLMManagerError:
        return None


def get_system_info():
    """The machine, this Python and this library. Asks no daemon."""
    memory = _memory()
    return {
        "version": __version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python_version": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "total_memory_gb": memory["MemTotal"] / GB,
        "available_memory_gb": memory["MemAvailable"] / GB,
        "swap_gb": memory.get("SwapTotal", 0) / GB,
        "gpu_devices": sorted(name for name in os.listdir("/dev")
                              if name.startswith("nvidia") and name[6:].isdigit()),
        "torch_installed": torch_is_there(),
        "torch_loaded": "torch" in sys.modules,
        "daemon_program": program(),
        "daemon_url": os.environ.get("LLM_MANAGER_URL") or None,
    }


def _doctor():
    """What `llm-manager doctor` finds: the daemon's checks, or those that work without one."""
    try:
        path = _native.find_program("")
    except LLMManagerError as error:
        return [{"name": "program", "status": "problem", "message": str(error),
                 "fix": "run scripts/bootstrap, or set LLM_MANAGER_PROGRAM"}]
    try:
        run = subprocess.run([path, "doctor", "--json"], stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=_DOCTOR_LIMIT_S)
        return json.loads(run.stdout)["checks"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        return [{"status": "problem", "message": f"{path} doctor cannot be asked: {error}", "fix": ""}]


def diagnose_system():
    """{"issues": […], "recommendations": […], "checks": […]}: sentences for people. Works without a daemon; after a
    failed create_llm_manager() its cause is the first issue."""
    issues, recommendations, checks = [], [], []
    failure = last_failure()
    if failure is not None:
        issues.append(str(failure))
        checks.append({"name": "create_llm_manager", "status": "problem", "message": str(failure), "fix": ""})
    # What a private daemon needs nobody to start is no issue here.
    wanted = os.environ.get("LLM_MANAGER_URL")
    for check in _doctor():
        checks.append(check)
        if check.get("status") not in ("warning", "problem"):
            continue
        if check.get("name") == "daemon" and not wanted:
            continue
        issues.append(check["message"])
        if check.get("fix"):
            recommendations.append(check["fix"])
    return {"healthy": not issues, "issues": issues, "recommendations": recommendations, "checks": checks}


def get_module_info():
    return {
        "name": "llm_manager",
        "version": __version__,
        "description": "Local, Ollama's and OpenAI-compatible models behind one daemon that owns the GPU",
        "components": {
            "LLMManager": "the manager's API (docs/api_python.md)",
            "llm_manager._native": "the C++ library libllm_manager (docs/api_cpp.md)",
            "llm-manager": "the daemon that loads, unloads, switches and measures",
        },
        "daemon_program": program(),
        "features": ["generation", "streaming", "cancellation", "embeddings", "own_rag_system", "unload_and_reload",
                     "switching", "gpu_status", "diagnosis", "conversation_statistics", "filter_repetition",
                     "enable_traditional_chinese", "min_tokens"],
        "not_yet": ["built_in_retrieval", "stored_conversations", "persona"],
    }
