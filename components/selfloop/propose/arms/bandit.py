"""Draw by value: p ∝ exp(Q/τ), where an arm's value is what it lately taught (SEC, arXiv:2505.14970)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from selfloop.propose.arms import Arm, ArmsParams


def strategy(arms: Sequence[Arm], params: ArmsParams, progress: float) -> Sequence[float]:
    """The Boltzmann distribution over the arms' values; the greatest weight is 1, so that none overflows."""
    best = max(arm.value for arm in arms)
    return [math.exp((arm.value - best) / params.tau) for arm in arms]
