"""From logits to tokens: the policy's own distribution, the one that is sampled, and the token that a uniform picks.

Tensors are (rows, vocabulary) where nothing else is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from selfloop.generate.engines.contract import Sampling


def shaped(logits: torch.Tensor, sampling: Sampling, seen: torch.Tensor | None) -> torch.Tensor:
    """Logits as they are sampled. ``seen`` (bool) marks the tokens that a repetition penalty is for."""
    import torch

    if seen is not None:
        penalty = sampling.repetition_penalty
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if sampling.greedy:
        return logits
    logits = logits / sampling.temperature
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1)
        least = sampling.min_p * probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    if sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[:, -1:], -torch.inf)
    if sampling.top_p < 1:
        logits = _nucleus(logits, sampling.top_p)
    return logits


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Only the most likely tokens whose probabilities come to ``top_p``; the likeliest always stays."""
    import torch

    falling, order = logits.sort(descending=True, stable=True)
    before = falling.softmax(-1).cumsum(-1) - falling.softmax(-1)
    beyond = before >= top_p
    beyond[:, 0] = False
    return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)


def picked(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token (rows,) at which the cumulative distribution passes a row's uniform number in [0, 1)."""
    import torch

    cumulative = logits.softmax(-1).cumsum(-1)
    # scaled by the sum, which rounding keeps from being 1
    index = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return torch.where(index < logits.shape[-1], index, logits.argmax(-1))


def certainty(logprobs: torch.Tensor) -> torch.Tensor:
    """KL(uniform || policy) of each row: the mean of -log(V p) over the vocabulary (arXiv:2502.18581)."""
    import math

    return -logprobs.mean(-1) - math.log(logprobs.shape[-1])
