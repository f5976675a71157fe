"""From few easy levels to all of them, again and again (after Kesgin and Amasyali, arXiv:2202.05531).

The paper changes the size of the data so; how a cycle grows is from memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pydantic import Field

from selfloop.propose.arms import Arm
from selfloop.propose.curricula import LevelCurriculum


class Cyclical(LevelCurriculum):
    """The easiest levels, at first a few of them and then more and more, until it begins anew."""

    name = "cyclical"
    start: float = Field(0.25, gt=0, le=1, description="Share of the levels that a cycle begins with.")
    growth: float = Field(2.0, gt=1, description="How many times as large the share is with each phase, to all.")
    phase: int = Field(20, ge=1, description="Steps between two phases.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """All of the phase's levels alike."""
        shares = [self.start]
        while shares[-1] < 1:
            shares.append(min(shares[-1] * self.growth, 1.0))
        number = ceil(shares[step // self.phase % len(shares)] * len(arms) - 1e-9)
        hardest = sorted(arm.level for arm in arms)[number - 1]
        return [float(arm.level <= hardest) for arm in arms]
