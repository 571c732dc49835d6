"""LLM Manager for Python: create_llm_manager(), LLMManager, and the diagnosis of a machine (docs/api_python.md)."""
from .errors import (ClosedError, InvalidRequestError, LLMManagerError, NotFoundError, NotSupportedError,
                     OutOfMemoryError, TimeoutExceededError, UnavailableError)
from .manager import LLMManager, create_llm_manager
from .models import EmbeddingModel, LLMModel, LLMTokenizer
from .system import diagnose_system, get_module_info, get_system_info
from .version import __version__

__all__ = ["LLMManager", "create_llm_manager", "get_system_info", "diagnose_system", "get_module_info",
           "LLMModel", "LLMTokenizer", "EmbeddingModel", "LLMManagerError", "InvalidRequestError", "NotFoundError",
           "UnavailableError", "TimeoutExceededError", "ClosedError", "NotSupportedError", "OutOfMemoryError",
           "__version__"]
