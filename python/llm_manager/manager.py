"""LLMManager: the guide's API over the native client."""
import asyncio
import atexit
import json
import logging
import os
import pathlib
import weakref

from . import _bridge, _native, models, retrieval, system
from .errors import ClosedError, InvalidRequestError, LLMManagerError, NotFoundError

log = logging.getLogger("llm_manager")

CHAT, EMBEDDING = "chat", "embedding"
# The local engines of model-resource-management.md.
_LOCAL_ROLES = (CHAT, "knowledge", "translation")
_PASSAGES = 5
_USUAL_BATCH = 32
GB = system.GB

# What is still open when the interpreter ends is closed while there is one.
_open_managers = weakref.WeakSet()


@atexit.register
def _close_all():
    for manager in list(_open_managers):
        manager.cleanup()


def _configuration(config):
    """(text, file, mapping) of what the guide calls config: a mapping, a file's path, or nothing."""
    # `config = {...}` is how the guide writes "your configuration goes here".
    if config is None or config is ... or (isinstance(config, (set, frozenset)) and config == {...}):
        return "", "", {}
    if isinstance(config, (str, os.PathLike)):
        path = pathlib.Path(config)
        if not path.is_file():
            raise NotFoundError(f"no configuration at {path}", "config_not_found")
        try:
            import yaml
            mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
        except ImportError:
            mapping = {}
        except ValueError:
            mapping = {}  # the daemon says what is wrong with it, and where
        except yaml.YAMLError:
            mapping = {}
        return "", str(path), mapping if isinstance(mapping, dict) else {}
    if isinstance(config, dict):
        # JSON is YAML.
        theirs = {name: value for name, value in config.items() if name != "llm_manager"}
        return json.dumps(theirs, ensure_ascii=False, default=str), "", config
    raise InvalidRequestError(f"a configuration is a dict or the path of a YAML file, not {type(config).__name__}",
                              "invalid_config")


def _section(mapping, *names):
    for name in names:
        mapping = mapping.get(name) if isinstance(mapping, dict) else None
    return mapping if isinstance(mapping, dict) else {}


class LLMManager:
    """One conversation's way to its models. A private daemon is started by initialize() and ends with cleanup(), or
    with this process; `url`, the configuration's `llm_manager: {url: …}` or LLM_MANAGER_URL name a running one.

    Methods may be called from any thread. What the guide awaits never blocks the event loop; everything else waits
    for the daemon's answer."""

    def __init__(self, config=None, *, url=None, api_key=None, program=None, data=None):
        text, file, self.config = _configuration(config)
        own = _section(self.config, "llm_manager")
        self._options = {"configuration": text, "configuration_file": file, "url": url or own.get("url"),
                         "api_key": api_key, "program": program, "data": str(data) if data else None}
        self._native = None
        self._closed = False
        self._rag = None
        self.last_answer = None
        self.last_error = None

    # ---- its life

    async def initialize(self):
        """Opens the daemon and loads the models of the roles chat and embedding, those that there are. False where
        that fails; `last_error` and diagnose_system() then say why."""
        try:
            if self._closed:
                raise ClosedError("the manager was cleaned up: make another", "closed")
            if self._native is None:
                # Starting a process and waiting for its first word is nothing for the loop's thread.
                self._native = await asyncio.get_running_loop().run_in_executor(None, _native.Client, self._options)
                _open_managers.add(self)
            for warning in self._native.warnings:
                log.warning("%s", warning)
            await self._load_models()
        except LLMManagerError as error:
            self.last_error = error
            system.remember_failure(error)
            log.error("the manager could not be initialised: %s", error)
            if self._native is not None:
                await asyncio.get_running_loop().run_in_executor(None, self._native.close)
                self._native = None
            return False
        self.last_error = None
        system.remember_failure(None)
        return True

    async def _load_models(self):
        native = self._native
        await _bridge.ask(lambda done: native.load(CHAT, False, done))
        try:
            await _bridge.ask(lambda done: native.load(EMBEDDING, False, done))
        except NotFoundError:
            log.info("there is no embedding model: get_embeddings() is not offered")

    def cleanup(self):
        """Ends what is under way, and a private daemon with all of its models. Twice is fine."""
        self._closed = True
        native, self._native = self._native, None
        _open_managers.discard(self)
        if native is not None:
            native.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cleanup()

    async def __aenter__(self):
        if not await self.initialize():
            raise self.last_error
        return self

    async def __aexit__(self, *_):
        native = self._native
        self._closed, self._native = True, None
        if native is not None:
            await asyncio.get_running_loop().run_in_executor(None, native.close)

    def _client(self):
        if self._native is None:
            raise ClosedError("the manager was cleaned up" if self._closed else "await initialize() first", "closed")
        return self._native

    # ---- answers

    async def generate_response(self, prompt, context=None, conversation_history=None, stream=False,
                                rag_enabled=True, *, max_tokens=None, temperature=None, top_p=None, top_k=None,
                                seed=None, system=None, model=CHAT):
        """The answer's text; with `stream` an asynchronous iterator of its pieces. `conversation_history`: pairs of
        what was said and answered, oldest first; what does not fit the model's context is left out, oldest first.
        `last_answer` has the rest: reasoning, tokens, passages. Cancelling the awaiting task, or leaving the
        iteration, frees the model's slot."""
        native = self._client()
        passages = []
        if rag_enabled and self._rag is not None:
            passages = await retrieval.search(self._rag, str(prompt), _PASSAGES)
        question = {"prompt": str(prompt), "context": None if context is None else str(context),
                    "history": [(str(said), str(answered)) for said, answered in conversation_history or ()],
                    "passages": passages, "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p,
                    "top_k": top_k, "seed": seed, "system": system, "model": model}
        if stream:
            return self._stream(native, question)
        answer = await _bridge.ask(lambda done: native.generate(question, None, done))
        self.last_answer = answer
        return answer["text"]

    async def _stream(self, native, question):
        def start(on_text, done):
            def keep(answer, error):
                if answer is not None:
                    self.last_answer = answer
                done(answer, error)

            return native.generate(question, on_text, keep)

        pieces = _bridge.pieces(start)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    def get_conversation_stats(self):
        return self._client().conversation_stats()

    @property
    def conversation_count(self):
        return self.get_conversation_stats()["conversation_count"]

    def set_rag_system_reference(self, rag_system):
        """Asked for passages by every generate_response() with rag_enabled; None: none."""
        retrieval.check(rag_system)
        self._rag = rag_system

    # ---- embeddings

    def get_embeddings(self, texts, batch_size=None):
        """A NumPy array of float32 with a row of length 1 for each text."""
        return self._embed([texts] if isinstance(texts, str) else list(texts), batch_size)

    def _embed(self, texts, batch_size):
        batch = batch_size or _section(self.config, "models", "embedding").get("batch_size") or _USUAL_BATCH
        return models.embed(self._client(), texts, int(batch), EMBEDDING)

    # ---- models

    def _ready(self, role):
        try:
            return self._client().model(role)["state"] == "ready"
        except NotFoundError:
            return False

    @property
    def llm_model(self):
        """None while it is unloaded."""
        return models.LLMModel(self, CHAT) if self._ready(CHAT) else None

    @property
    def llm_tokenizer(self):
        """None while its model is unloaded."""
        return models.LLMTokenizer(self, CHAT) if self._ready(CHAT) else None

    @property
    def embedding_model(self):
        """None where there is none; it is loaded when it is asked."""
        try:
            self._client().model(EMBEDDING)
        except NotFoundError:
            return None
        return models.EmbeddingModel(self, EMBEDDING)

    @property
    def device(self):
        """Where the chat model lies, in torch's words: "cuda:0", "cpu"."""
        for device in self._client().model(CHAT)["held"]:
            if device != "host":
                kind = device.rstrip("0123456789")
                return f"{kind}:{device[len(kind):] or 0}"
        return "cpu"

    @property
    def use_multi_gpu(self):
        """Whether the chat model lies on several GPUs."""
        return len([device for device in self._client().model(CHAT)["held"] if device != "host"]) > 1

    def unload_local_model(self):
        """Unloads the local models of the roles chat, knowledge and translation, and waits until their memory is
        measured free. True; False where that failed, which is logged."""
        native = self._client()
        try:
            for role in _LOCAL_ROLES:
                change = self._unload(native, role)
                release = change["release"] if change else None
                if release:
                    log.info("%s is unloaded: %.2f GB before, %.2f GB after, %.2f GB freed", role,
                             release["before"] / GB, release["after"] / GB, release["freed"] / GB)
            return True
        except LLMManagerError as error:
            self.last_error = error
            log.error("the local model could not be unloaded: %s", error)
            return False

    @staticmethod
    def _unload(native, role):
        try:
            if native.model(role)["family"] != "local":
                return None
        except NotFoundError:
            return None
        return _bridge.wait(lambda done: native.unload(role, False, done))

    def reload_local_model(self):
        """Loads the chat model again; True also where it is loaded already. False where that failed, which is
        logged."""
        native = self._client()
        try:
            _bridge.wait(lambda done: native.load(CHAT, True, done))
            return True
        except LLMManagerError as error:
            self.last_error = error
            log.error("the local model could not be loaded: %s", error)
            return False

    def manage_model_resources(self, selected_model):
        """Chooses a model: "openai_NAME", "ollama_NAME", an Ollama tag, or a local name. Its family gets the devices;
        what was there is unloaded, and the release measured, before it is loaded."""
        native = self._client()
        return _bridge.wait(lambda done: native.switch_to(selected_model, done))

    def get_model_info(self):
        native = self._client()
        known = native.models()
        gpus = self.get_gpu_status()

        def of(role):
            for model in known:
                if model["id"] == role or role in model["aliases"] or role in model["roles"]:
                    return {"name": model["id"], "family": model["family"], "state": model["state"],
                            "loaded": model["state"] == "ready", "path": model["path"],
                            "size_gb": model["size"] / GB, "max_length": model["context"] or None,
                            "quantization": _quantization(model["path"]),
                            "footprint_gb": sum(model["footprint"].values()) / GB if model["footprint"] else None,
                            "device_map": {device: held / GB for device, held in model["held"].items()}}
            return None

        llm, embedding = of(CHAT), of(EMBEDDING)
        return {"llm": llm, "embedding": embedding, "device": self.device, "use_multi_gpu": self.use_multi_gpu,
                "quantization": llm["quantization"] if llm else None,
                "footprint_gb": llm["footprint_gb"] if llm else None,
                "device_map": llm["device_map"] if llm else {},
                "gpu_cluster": {key: gpus[key] for key in ("gpu_count", "total_memory_gb", "available_memory_gb",
                                                           "used_memory_gb", "devices")},
                "models": known}

    # ---- devices

    def get_gpu_status(self):
        """All GPUs together and each by itself, in GB (2^30 bytes); zeros on a machine without one, whose own memory
        is under "host"."""
        devices = [_in_gb(device) for device in self._client().devices()]
        gpus = [device for device in devices if device["kind"] != "host"]
        host = next((device for device in devices if device["kind"] == "host"), None)
        return {"gpu_count": len(gpus), "gpu_available": bool(gpus),
                "total_memory_gb": sum((gpu["total_memory_gb"] for gpu in gpus), 0.0),
                "available_memory_gb": sum((gpu["available_memory_gb"] for gpu in gpus), 0.0),
                "used_memory_gb": sum((gpu["used_memory_gb"] for gpu in gpus), 0.0),
                "external_memory_gb": sum((gpu["external_memory_gb"] for gpu in gpus), 0.0),
                "devices": gpus, "host": host}

    def optimize_gpu_memory(self):
        """Unloads local models that are idle, other than this manager's own and pinned ones. What came back, in GB."""
        native = self._client()
        change = _bridge.wait(lambda done: native.optimize([CHAT, EMBEDDING], done))
        release = change["release"] or {"before": 0, "after": 0, "freed": 0, "proved": True}
        return {"changed": change["changed"], "freed_gb": release["freed"] / GB, "before_gb": release["before"] / GB,
                "after_gb": release["after"] / GB, "proved": release["proved"]}

    def diagnose_gpu_allocation(self):
        """Who holds what on which device, and what is wrong with it."""
        native = self._client()
        devices = [_in_gb(device) for device in native.devices()]
        checks = native.diagnose()
        wrong = [check for check in checks if check["status"] in ("warning", "problem")]
        return {"devices": devices,
                "models": {model["id"]: {device: held / GB for device, held in model["held"].items()}
                           for model in native.models() if model["held"]},
                "issues": [check["message"] for check in wrong],
                "recommendations": [check["fix"] for check in wrong if check["fix"]], "checks": checks}


def _in_gb(device):
    return {"id": device["id"], "kind": device["kind"], "name": device["name"], "usable": device["usable"],
            "total_memory_gb": device["capacity"] / GB, "available_memory_gb": device["available"] / GB,
            "used_memory_gb": device["used"] / GB, "external_memory_gb": device["external"] / GB,
            "holders": device["holders"]}


def _quantization(path):
    """As the file's name tells it ("q4_k_m"); None where it does not."""
    import re
    found = re.search(r"(?:^|[-_.])((?:i?q\d\w*|f16|f32|bf16))(?=[-_.]|$)", pathlib.Path(path).stem.lower())
    return found[1] if found else None


async def create_llm_manager(config=None, **options):
    """An initialised manager; None on failure, whose cause diagnose_system() then names first."""
    try:
        manager = LLMManager(config, **options)
    except LLMManagerError as error:
        system.remember_failure(error)
        log.error("the manager could not be made: %s", error)
        return None
    return manager if await manager.initialize() else None
