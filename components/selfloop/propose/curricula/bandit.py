"""Draw by value: an arm's value is what it lately taught (SEC, Chen et al., arXiv:2505.14970)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfloop.propose.arms import SIGNAL, Arm, ArmFeedback, Signal, taught
from selfloop.propose.curricula import LevelCurriculum


class Bandit(LevelCurriculum):
    """Levels by what they lately taught: p ∝ exp(Q/τ), with Q a moving mean of a signal such as |A| (SEC)."""

    name = "bandit"
    tau: float = Field(1.0, gt=0, description="Temperature; a small one draws the best arm alone.")
    alpha: float = Field(0.5, gt=0, le=1, description="Share of a step's signal in an arm's new value.")
    signal: Signal = Field("advantage", description=SIGNAL)
    unsampled: Literal["decay", "keep"] = Field(
        "decay", description="An arm's value after a step that did not draw it: as if it had given nothing, or kept."
    )

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """The Boltzmann distribution over the arms' values; the greatest weight is 1, so that none overflows."""
        best = max(arm.value for arm in arms)
        return [math.exp((arm.value - best) / self.tau) for arm in arms]

    def value(self, arm: Arm, seen: ArmFeedback | None) -> float:
        """Q = (1 - alpha) Q + alpha |A|; the signal is 0 where it was not drawn, as in released code, or Q stays."""
        decayed = (1 - self.alpha) * arm.value
        if seen is None:
            return decayed if self.unsampled == "decay" else arm.value
        return decayed + self.alpha * taught(self.signal, arm, seen)
