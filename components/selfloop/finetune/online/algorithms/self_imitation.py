"""Self-imitation beside the policy gradient (SPEAR, Qin et al., arXiv:2509.22601; numbers as in its released code).

Good attempts are kept for a few draws and learnt from again. What they are worth then is reckoned anew: by how much
their reward is above what groups have come to lately, so that what was good once and is usual now teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi
from statistics import median
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.finetune.online.algorithms.dr_grpo import DrGrpo

if TYPE_CHECKING:
    from torch import Generator, Tensor


class SelfImitation(DrGrpo):
    """Dr. GRPO, and good attempts of earlier draws once more, at first for little; no tool is asked of them here.

    A step takes some of those that were kept, at random; SPEAR takes all of a full buffer at once. What is kept begins
    anew with each training.
    """

    name = "self-imitation"
    weight: float = Field(1.0, gt=0, description="What earlier attempts weigh in the end, beside a draw's own.")
    ramp: int = Field(200, ge=1, description="Draws, of all rounds, over which this weight rises from 0, as a cosine.")
    share: float = Field(0.5, gt=0, description="Earlier attempts of a step at most, as a share of a draw's own.")
    age: int = Field(10, ge=1, description="Draws after which an attempt is forgotten.")
    size: int = Field(2048, ge=1, description="Attempts that are kept at most, the latest.")
    lately: int = Field(10_240, ge=1, description="Groups whose median mean reward earlier attempts are held against.")
    clip_cov: float = Field(
        0.02, ge=0, le=1, description="Tokens that are left out, as a share of all, where both are high."
    )
    lowest: float = Field(1.0, description="clip_cov: the covariance of advantage and log-probability above which.")
    highest: float = Field(40.0, description="clip_cov: and below which.")

    def weight_at(self, draw: int) -> float:
        """weight (1 - cos(pi t / ramp)) / 2, then ``weight``."""
        return self.weight * (1 - cos(pi * min(draw / self.ramp, 1.0))) / 2

    def worth_now(self, reward: float, means: Sequence[float]) -> float:
        """R - median of the group means of late."""
        return reward - median(means)


def covarying(
    advantages: Tensor, logprobs: Tensor, own: Tensor, lowest: float, highest: float, number: int, generator: Generator
) -> Tensor:
    """Some ``number`` of the tokens (rows, tokens), at random, whose (A - mean A) (log p - mean log p), over all tokens
    of their ``own``, lies between two bounds: no gradient shall reach them (Clip-Cov, Cui et al., arXiv:2505.22617).
    """
    import torch

    mask = own > 0
    gain = advantages[:, None].expand_as(logprobs)
    both = (gain - gain[mask].mean()) * (logprobs - logprobs[mask].mean())
    places = ((both > lowest) & (both < highest) & mask).flatten().nonzero()[:, 0]
    chosen = places[torch.randperm(len(places), generator=generator)[:number].to(places.device)]
    return torch.zeros_like(mask).flatten().index_fill(0, chosen, True).view_as(mask)
