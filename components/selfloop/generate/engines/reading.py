"""What reads tokens behind those that it read before: transformers' own forward pass, or a small Llama's weights.

Rows whose text is the same so far share a lane, which is read once for all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from selfloop.errors import UserError
from selfloop.generate.engines.llama import Cache, Llama, added, is_plain
from selfloop.policy import Policy, next_positions, position_ids, restarts_of

KEPT = 0.75
"""The share of live rows, or lanes, below which those that have ended are taken out, which costs a copy."""


class Lanes:
    """Texts that grow, a row each; rows part where they are written on differently."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]]) -> None:
        lanes = dict[tuple[int, ...], int]()
        self._of = [lanes.setdefault(tuple(prompt), len(lanes)) for prompt in prompts]
        self._reader, self._restarts = reader_of(policy.model), restarts_of(policy)
        self._device = policy.model.device
        width, pad = max(map(len, lanes)), policy.tokenizer.pad_token_id or 0
        self._tokens = self._tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in lanes])
        self._mask = self._tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in lanes])
        restarted = position_ids(policy, self._tokens, self._mask)
        self._positions = (self._mask.cumsum(1) - 1).clamp(min=0) if restarted is None else restarted

    def _tensor(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, device=self._device)

    def read(self) -> Tensor:
        """Logits (rows, vocabulary) of the next tokens."""
        return self._reader.read(self._tokens, self._mask, self._positions)[self._of]

    def write(self, tokens: Sequence[int], alive: Sequence[bool]) -> None:
        """Put a token behind each row. What becomes of those that are not ``alive`` does not matter."""
        numbers = dict[tuple[int, int], int]()
        of = [
            numbers.setdefault((lane, token), len(numbers)) if lives else 0
            for lane, token, lives in zip(self._of, tokens, alive, strict=True)
        ]
        lanes, written = [lane for lane, _ in numbers], [token for _, token in numbers]
        if len(set(lanes)) < len(lanes) or len(lanes) < KEPT * len(self._mask):
            chosen = self._tensor(lanes)
            self._reader.keep(chosen)
            self._of, self._mask = of, self._mask[chosen]
            self._tokens, self._positions = self._tokens[chosen], self._positions[chosen]
        else:
            by_lane = dict(numbers.keys())
            written = [by_lane.get(lane, 0) for lane in range(len(self._mask))]
        before, self._tokens = self._tokens[:, -1:], self._tensor(written)[:, None]
        self._positions = next_positions(self._restarts, before, self._tokens, self._positions[:, -1:])
        self._mask = torch.cat([self._mask, torch.ones_like(self._tokens)], 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        self._of = [self._of[row] for row in rows]


class Reader(Protocol):
    """Rows of tokens that are read bit by bit."""

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Logits (rows, vocabulary) behind some more tokens (rows, tokens); ``mask`` covers those before, too."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows only, in this order."""
        ...


def reader_of(model: PreTrainedModel) -> Reader:
    """What reads for this model."""
    return BySelf(model) if is_plain(model) else ByLibrary(model)


CACHES = ("past_key_values", "cache_params")
"""What models call the cache of what they read."""


def pads(model: PreTrainedModel) -> bool:
    """Whether rows of different lengths can be read together: whether every layer attends, as a mask says and at the
    positions that it is told. A recurrent layer's state would hold what stands on padding.
    """
    plain = _plain(model)
    asks = inspect.signature(plain.forward).parameters.keys()
    return "position_ids" in asks and not plain._is_stateful and not _recurs(DynamicCache(config=model.config))


def _plain(model: PreTrainedModel) -> Any:
    """The model itself, without an adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _recurs(cache: DynamicCache) -> bool:
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


class ByLibrary:
    """Reads with any model that keeps what it read in the library's own cache. Raises ``UserError`` for others."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._cache, self._pads = model, dict[str, DynamicCache](), pads(model)
        self._asks = inspect.signature(_plain(model).forward).parameters.keys()

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Logits by the model's forward pass."""
        given: dict[str, Any] = {"input_ids": tokens, "use_cache": True, **self._cache}
        may: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        may |= {"attention_mask": mask} if self._pads else {}  # a state space would take it for that of these tokens
        given |= {name: value for name, value in may.items() if name in self._asks}
        if not self._cache:
            self._cache, made = self._begun(given)
        else:
            made = self._model(**given)
        logits: Tensor = made.logits[:, -1].float()
        return logits

    def _begun(self, given: dict[str, Any]) -> tuple[dict[str, DynamicCache], Any]:
        """The cache that a model began, and its answer; a state that is kept elsewhere could not be parted by rows."""
        try:
            made = self._model(**given)
        except (AttributeError, TypeError, ValueError) as error:  # the library does not know the model well
            raise UserError(
                f"The engine 'transformers' cannot draw with a policy of the type '{self._model.config.model_type}' "
                f"({type(error).__name__}: {error}): set engine to 'vllm', or choose another policy."
            ) from error
        cache = {name: getattr(made, name) for name in CACHES if type(getattr(made, name, None)) is DynamicCache}
        if not cache or (_plain(self._model)._is_stateful and not all(map(_recurs, cache.values()))):
            raise UserError(
                f"The engine 'transformers' cannot draw with a policy of the type '{self._model.config.model_type}', "
                "whose state it cannot part by attempts: set engine to 'vllm', or choose another policy."
            )
        return cache, made

    def keep(self, rows: Tensor) -> None:
        """Select from the cache."""
        for cache in self._cache.values():
            cache.reorder_cache(rows)


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
