"""What goes wrong, as exceptions. Every one is an LLMManagerError."""
import sys


class LLMManagerError(RuntimeError):
    """`reason` is a stable word for programs ("model_not_found", "no_daemon", "insufficient_memory"), `details`
    its numbers and names."""

    def __init__(self, message, reason="", details=None):
        super().__init__(message)
        self.reason = reason
        self.details = dict(details or {})


class InvalidRequestError(LLMManagerError, ValueError):
    """It can never work as it stands: the configuration, an argument, a prompt that is too long."""


class NotFoundError(LLMManagerError, LookupError):
    """No such model, program or file."""


class UnavailableError(LLMManagerError, ConnectionError):
    """Not now: no daemon answers, a worker died, the model is held unloaded."""


class TimeoutExceededError(LLMManagerError, TimeoutError):
    """A wait reached its deadline."""


class ClosedError(LLMManagerError):
    """The manager was cleaned up, or is not initialised yet, or belongs to the process that this one was forked
    from."""


class NotSupportedError(LLMManagerError, NotImplementedError):
    """This model, upstream or version does not do that."""


class OutOfMemoryError(LLMManagerError, MemoryError):
    """A device has not enough memory, also after idle models made way and the daemon tried what the configuration
    allows. Where torch is loaded, what is raised is a torch.cuda.OutOfMemoryError as well."""


# gRPC's numbers of include/llm_manager/error.h, in its order.
_CLASSES = (LLMManagerError, InvalidRequestError, TimeoutExceededError, NotFoundError, LLMManagerError,
            LLMManagerError, LLMManagerError, LLMManagerError, UnavailableError, UnavailableError, LLMManagerError,
            NotSupportedError)
_CANCELLED = 0
_IN_MEMORY = ("insufficient_memory", "upstream_not_released")
_joined = {}


def out_of_memory_class():
    """OutOfMemoryError, joined with torch's where somebody has loaded torch: who catches torch's has done so."""
    torch = sys.modules.get("torch")
    theirs = getattr(getattr(torch, "cuda", None), "OutOfMemoryError", None)
    if not (isinstance(theirs, type) and issubclass(theirs, Exception)):
        return OutOfMemoryError
    if theirs not in _joined:
        try:
            _joined[theirs] = type("OutOfMemoryError", (OutOfMemoryError, theirs),
                                   {"__module__": __name__, "__doc__": OutOfMemoryError.__doc__})
        except TypeError:  # their layouts do not go together: theirs alone, with our members
            _joined[theirs] = _with_members(theirs)
    return _joined[theirs]


def _with_members(theirs):
    def __init__(self, message, reason="", details=None):
        theirs.__init__(self, message)
        self.reason = reason
        self.details = dict(details or {})

    return type("OutOfMemoryError", (theirs,), {"__module__": __name__, "__doc__": OutOfMemoryError.__doc__,
                                                "__init__": __init__})


def make(code, message, reason, details):
    """Called by the native module for each error."""
    if reason in _IN_MEMORY:
        return out_of_memory_class()(message, reason, details)
    if reason in ("closed", "forked", "not_initialized"):
        return ClosedError(message, reason, details)
    kind = _CLASSES[code] if 0 <= code < len(_CLASSES) else LLMManagerError
    return kind(message, reason or ("cancelled" if code == _CANCELLED else ""), details)
