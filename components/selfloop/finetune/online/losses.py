"""What a policy gradient loses at each token: PPO's clipped surrogate, as an algorithm takes ratios and means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfloop.finetune.online.algorithms import Algorithm


class Scored(NamedTuple):
    """Attempts with what their loss needs: log-probabilities of completion tokens now and when they were drawn (rows,
    tokens), which tokens the policy wrote (rows, tokens), advantages (rows) and upper clips (rows).
    """

    logprobs: Tensor
    old: Tensor
    own: Tensor
    advantages: Tensor
    upper: Tensor


def loss(algorithm: Algorithm, scored: Scored, clip: float, longest: int) -> Tensor:
    """PPO's clipped surrogate of a batch; ``longest`` is the constant that Dr. GRPO divides by."""
    logprobs, old, own, advantages, upper = scored
    change = (logprobs - old) * own
    if algorithm.ratio == "sequence":
        ratio = change.sum(1).exp()
        return -torch.min(ratio * advantages, clipped(ratio, clip, upper) * advantages).mean()
    ratio, gain = change.exp(), advantages[:, None]
    of_tokens = -torch.min(ratio * gain, clipped(ratio, clip, upper[:, None]) * gain)
    return averaged(algorithm, of_tokens, own, longest)


def averaged(algorithm: Algorithm, of_tokens: Tensor, own: Tensor, longest: int) -> Tensor:
    """What comes to the policy's own tokens, as the algorithm takes the mean of it."""
    of_tokens = of_tokens * own
    if algorithm.mean == "constant":
        return of_tokens.sum() / (len(own) * longest)
    return (of_tokens.sum(1) / own.sum(1).clamp(min=1)).mean()


def clipped(ratio: Tensor, lower: float, upper: Tensor) -> Tensor:
    """A ratio held to [1 - lower, 1 + upper]."""
    return torch.minimum(ratio.clamp(min=1 - lower), 1 + upper)


def divergence(logprobs: Tensor, reference: Tensor, old: Tensor) -> Tensor:
    """An estimate of KL(policy || reference) at each drawn token (Schulman's k3), (rows, tokens), times the token's
    ratio, by which its gradient is that of the divergence, too (DeepSeek-V3.2, arXiv:2512.02556; TRL's default).
    """
    change = reference - logprobs
    return (change.exp() - change - 1) * (logprobs - old).exp()
