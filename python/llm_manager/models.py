"""The loaded models as objects: what code that once held a torch module and a tokenizer asks of them."""
import importlib.util

from . import _bridge
from .errors import InvalidRequestError


def torch_is_there():
    return importlib.util.find_spec("torch") is not None


class _OfManager:
    """Asks the daemon through its manager, by the model's name."""

    def __init__(self, manager, name):
        self._manager = manager
        self.name = name


class _Model(_OfManager):
    """A model in memory, in its own process. There is no torch module behind it."""

    @property
    def info(self):
        """What the daemon knows of it now; sizes in bytes."""
        return self._manager._client().model(self.name)

    @property
    def device(self):
        return self._manager.device

    def __repr__(self):
        return f"<{type(self).__name__} {self.info['id']}>"


class LLMModel(_Model):
    """A chat model: it is asked through the manager."""

    @property
    def max_length(self):
        """Its context, in tokens."""
        return self.info["context"]


class LLMTokenizer(_OfManager):
    """The tokenizer of the chat model, as the engine has it."""

    def encode(self, text, add_special_tokens=True):
        return self._manager._client().tokenize(text, add_special_tokens, self.name)

    def decode(self, token_ids):
        if isinstance(token_ids, int):
            token_ids = [token_ids]
        return self._manager._client().detokenize([int(token) for token in token_ids], self.name)

    def apply_chat_template(self, conversation, tokenize=False, add_generation_prompt=True):
        """`conversation`: [{"role": …, "content": …}, …]. The text that the model reads; its tokens with
        `tokenize`."""
        messages = [(message["role"], message["content"]) for message in conversation]
        text = self._manager._client().apply_chat_template(messages, add_generation_prompt, self.name)
        # The template has written the special tokens already.
        return self._manager._client().tokenize(text, False, self.name) if tokenize else text

    def __call__(self, text):
        return {"input_ids": self.encode(text)}


class EmbeddingModel(_Model):
    def encode(self, texts, batch_size=None, convert_to_tensor=True, device=None, normalize_embeddings=True,
               show_progress_bar=False, **unknown):
        """A row for each text, of length 1; of one text alone its row. A torch tensor on `device` where torch is
        installed and `convert_to_tensor` is true, else a NumPy array of float32."""
        if unknown:
            raise InvalidRequestError(f"encode() knows nothing of {', '.join(sorted(unknown))}", "unknown_argument")
        if not normalize_embeddings:
            raise InvalidRequestError("embeddings are always normalised here", "not_supported")
        single = isinstance(texts, str)
        rows = self._manager._embed([texts] if single else list(texts), batch_size)
        rows = rows[0] if single else rows
        if not convert_to_tensor or not torch_is_there():
            return rows
        import torch
        tensor = torch.from_numpy(rows.copy())
        return tensor if device is None else tensor.to(device)


def embed(client, texts, batch, name):
    texts = [str(text) for text in texts]
    if not texts:
        import numpy
        return numpy.zeros((0, 0), dtype=numpy.float32)
    return _bridge.wait(lambda done: client.embed(texts, batch, name, done))
