"""What reads tokens behind those that it read before: transformers' own forward pass, or a small Llama's weights."""

from __future__ import annotations

import inspect
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from selfloop.llama import Cache, Llama, added, is_plain


class Reader(Protocol):
    """Rows of tokens that are read bit by bit."""

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Logits (rows, vocabulary) behind some more tokens (rows, tokens); ``mask`` covers those before, too."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, in this order."""
        ...


def reader_of(model: PreTrainedModel) -> Reader:
    """What reads for this model."""
    return BySelf(model) if is_plain(model) else ByLibrary(model)


class ByLibrary:
    """Reads with any model."""

    def __init__(self, model: PreTrainedModel) -> None:
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._model, self._cache = model, DynamicCache(config=model.config)
        self._asks = inspect.signature(plain.forward).parameters.keys()

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Logits by the model's forward pass."""
        given = {"input_ids": tokens, "attention_mask": mask, "past_key_values": self._cache, "use_cache": True}
        may = {"position_ids": positions, "logits_to_keep": 1}
        given |= {name: value for name, value in may.items() if name in self._asks}
        logits: Tensor = self._model(**given).logits[:, -1].float()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Select from the cache."""
        self._cache.batch_select_indices(rows)


class BySelf:
    """Reads with a small Llama."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._llama, self._cache = Llama(model), Cache()

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Logits by the weights alone. Where nothing is padded there is no mask, as in the library's."""
        length, seen = tokens.shape[1], mask[:, None, None] == 1
        if length > 1:
            seen = seen & torch.ones(length, length, dtype=torch.bool).tril()
        states = self._llama.hidden(tokens, None if bool(mask.all()) else added(seen), positions, self._cache)
        return self._llama.logits(states[:, -1])

    def keep(self, rows: Tensor) -> None:
        """Select from the cache."""
        self._cache.keep(rows)
