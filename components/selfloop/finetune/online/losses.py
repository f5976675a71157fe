"""Policy gradients on groups of rewards, as functions: what an attempt's advantage is, and what its tokens lose.

GRPO (arXiv:2402.03300, eq. 3), Dr. GRPO (arXiv:2503.20783), RLOO (arXiv:2402.14740, eq. 9) and ADPO (Agent0,
arXiv:2511.16043; its paper gives no formula, so this is the released code's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

TINY = 1e-4
"""What keeps the division by a group's standard deviation finite, as in TRL."""
DOUBTFUL, SURE = 0.3, 0.8
"""ADPO: vote rates between which trust rises from its least to all."""
WIDER = 0.1
"""ADPO: how much further up a ratio may go where the votes are split."""


class Variant(NamedTuple):
    """``advantages`` (groups, attempts) of rewards (groups, attempts), vote rates (groups) and ``trust``; the upper
    clip of each group of its vote rate; whether a ratio is a token's or a sequence's; what a loss is the mean over.
    """

    advantages: Callable[[Tensor, Tensor, float], Tensor]
    upper: Callable[[Tensor, float], Tensor]
    ratio: Literal["token", "sequence"]
    mean: Literal["sequences", "constant"]


def standardized(rewards: Tensor, rates: Tensor, trust: float) -> Tensor:
    """(r - mean) / std of the group: GRPO."""
    return centred(rewards, rates, trust) / (rewards.std(dim=1, keepdim=True) + TINY)


def centred(rewards: Tensor, rates: Tensor, trust: float) -> Tensor:
    """r - mean of the group: Dr. GRPO, which leaves out the division by the standard deviation."""
    apart = rewards - rewards[:, :1]  # of equal rewards exactly 0, which less their rounded mean they are not
    return apart - apart.mean(dim=1, keepdim=True)


def leave_one_out(rewards: Tensor, rates: Tensor, trust: float) -> Tensor:
    """r - mean of the group's other attempts: RLOO."""
    attempts = rewards.shape[1]
    return centred(rewards, rates, trust) * attempts / (attempts - 1)


def trusted(rewards: Tensor, rates: Tensor, trust: float) -> Tensor:
    """GRPO's, times m + (1 - m) w with w = clip((rate - 0.3) / 0.5, 0, 1) and m = ``trust``: ADPO."""
    sure = ((rates - DOUBTFUL) / (SURE - DOUBTFUL)).clamp(0, 1)
    return standardized(rewards, rates, trust) * (trust + (1 - trust) * sure)[:, None]


def fixed(rates: Tensor, clip: float) -> Tensor:
    """The same upper clip for all groups."""
    return torch.full_like(rates, clip)


def widened(rates: Tensor, clip: float) -> Tensor:
    """clip + 0.1 clip((0.8 - rate) / 0.5, 0, 1): ADPO lets a doubtful group's unlikely tokens rise further."""
    return clip + WIDER * ((SURE - rates) / (SURE - DOUBTFUL)).clamp(0, 1)


VARIANTS = {
    "grpo": Variant(standardized, fixed, "token", "sequences"),
    "dr-grpo": Variant(centred, fixed, "token", "constant"),
    "rloo": Variant(leave_one_out, fixed, "sequence", "sequences"),
    "adpo": Variant(trusted, widened, "token", "sequences"),
}


class Scored(NamedTuple):
    """Attempts with what their loss needs: log-probabilities of completion tokens now and when they were drawn (rows,
    tokens), which tokens the policy wrote (rows, tokens), advantages (rows) and upper clips (rows).
    """

    logprobs: Tensor
    old: Tensor
    own: Tensor
    advantages: Tensor
    upper: Tensor


def loss(variant: Variant, scored: Scored, clip: float, longest: int) -> Tensor:
    """PPO's clipped surrogate of a batch; ``longest`` is the constant that Dr. GRPO divides by."""
    logprobs, old, own, advantages, upper = scored
    change = (logprobs - old) * own
    if variant.ratio == "sequence":
        ratio = change.sum(1).exp()
        return -torch.min(ratio * advantages, clipped(ratio, clip, upper) * advantages).mean()
    ratio, gain = change.exp(), advantages[:, None]
    of_tokens = -torch.min(ratio * gain, clipped(ratio, clip, upper[:, None]) * gain)
    return averaged(variant, of_tokens, own, longest)


def averaged(variant: Variant, of_tokens: Tensor, own: Tensor, longest: int) -> Tensor:
    """What comes to the policy's own tokens, as the variant takes the mean of it."""
    of_tokens = of_tokens * own
    if variant.mean == "constant":
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
