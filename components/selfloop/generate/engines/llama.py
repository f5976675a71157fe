"""A small Llama as a function of its weights: the operations of transformers' own modules, and the same logits.

Of what those take for a policy of this size, more than half is Python between the operations and not these.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel

from selfloop.policy import SMALL

ROOM = 16
"""Tokens by which a cache grows at least."""
_plain = WeakKeyDictionary[PreTrainedModel, bool]()


def is_plain(model: PreTrainedModel) -> bool:
    """Whether ``Llama`` computes what this model does: a small one, without variations, on a processor."""
    if model not in _plain:
        _plain[model] = type(model) is LlamaForCausalLM and _is_small_and_simple(model)
    return (
        _plain[model]
        and model.lm_head.weight.dtype == torch.float32
        and not (model.lm_head.weight.is_cuda or model.model.gradient_checkpointing or torch.is_autocast_enabled("cpu"))
    )


def _is_small_and_simple(model: LlamaForCausalLM) -> bool:
    config = model.config
    return (
        model.num_parameters() < SMALL
        and (config.hidden_act, config.rope_parameters["rope_type"]) == ("silu", "default")
        and config.num_attention_heads == config.num_key_value_heads
        and not (config.attention_bias or config.mlp_bias or config.attention_dropout)
        and config._attn_implementation == "sdpa"
    )


class Cache:
    """Keys and values of the tokens that were read (layers, 2, rows, heads, tokens, size), with room for more."""

    def __init__(self) -> None:
        self.length = 0
        self._kept = torch.empty(0)

    def extended(self, layers: int, shape: tuple[int, int, int, int]) -> Tensor:
        """The cache, with room for keys of (rows, heads, tokens, size) behind what it holds; they are written there."""
        rows, heads, tokens, size = shape
        before, self.length = self.length, self.length + tokens
        if not before:
            self._kept = torch.zeros(layers, 2, rows, heads, self.length + ROOM, size)
        elif self.length > self._kept.shape[4]:
            self._kept = functional.pad(self._kept, (0, 0, 0, self.length))
        return self._kept[:, :, :, :, : self.length]

    def keep(self, rows: Tensor) -> None:
        """Hold these rows only."""
        self._kept = self._kept.index_select(2, rows)


class Layer(NamedTuple):
    """The weights of a layer, in the order in which they are met; queries', keys' and values' joined."""

    norm: Tensor
    attending: Tensor
    attended: Tensor
    second_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


class Llama:
    """The weights of a model as they are now; gradients go back to the model's own."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        config, inner = model.config, model.model
        self._heads, self._size = config.num_attention_heads, config.head_dim
        self._wide, self._eps = (config.hidden_size,), config.rms_norm_eps
        self._frequencies = inner.rotary_emb.inv_freq
        self._tokens, self._norm, self._head = inner.embed_tokens.weight, inner.norm.weight, model.lm_head.weight
        self._layers = [
            Layer(
                each.input_layernorm.weight,
                torch.cat([part.weight for part in (attn.q_proj, attn.k_proj, attn.v_proj)]),
                attn.o_proj.weight,
                each.post_attention_layernorm.weight,
                each.mlp.gate_proj.weight,
                each.mlp.up_proj.weight,
                each.mlp.down_proj.weight,
            )
            for each in inner.layers
            for attn in [each.self_attn]
        ]

    def hidden(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """States (rows, tokens, width). ``mask`` is added to what a token attends to; without one it is all before."""
        rows, length = tokens.shape
        shape, causal = (rows, length, 3, self._heads, self._size), mask is None and length > 1
        angles = (positions[..., None] * self._frequencies)[:, :, None, None]
        cos, sin = angles.cos(), angles.sin()
        cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        states = functional.embedding(tokens, self._tokens)
        known = None if cache is None else cache.extended(len(self._layers), (rows, self._heads, length, self._size))
        for number, layer in enumerate(self._layers):
            joined = functional.linear(self._normed(states, layer.norm), layer.attending).view(shape)
            turned, value = torch.split(joined, [2, 1], 2)
            turned = turned * cos + turned.roll(self._size // 2, -1) * sin
            query, key = turned.transpose(1, 3).unbind(2)
            value = value.transpose(1, 3)[:, :, 0]
            if known is not None:
                known[number, 0, :, :, -length:], known[number, 1, :, :, -length:] = key, value
                key, value = known[number, 0], known[number, 1]
            attended = functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
            states = states + functional.linear(attended.transpose(1, 2).flatten(2), layer.attended)
            normed = self._normed(states, layer.second_norm)
            gated = functional.silu(functional.linear(normed, layer.gate)) * functional.linear(normed, layer.up)
            states = states + functional.linear(gated, layer.down)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Logits of the next tokens (..., vocabulary) of some states (..., width)."""
        return functional.linear(self._normed(states, self._norm), self._head)

    def _normed(self, states: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(states, self._wide, weight, self._eps)


def added(seen: Tensor) -> Tensor:
    """What is seen (bool) as a mask that is added."""
    return torch.where(seen, 0.0, -torch.inf)
