"""From few easy levels to all of them and back, again and again (Kesgin and Amasyali, arXiv:2202.05531).

The paper changes the size of its data so, and draws easy examples more often; here the easiest levels are so many. How
a cycle goes is as in its released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pydantic import Field

from selfloop.propose.arms import Arm
from selfloop.propose.curricula import LevelCurriculum


class Cyclical(LevelCurriculum):
    """The easiest levels, at first a few of them, then more and more until it is all, then fewer again."""

    name = "cyclical"
    start: float = Field(0.25, gt=0, le=1, description="Share of the levels that a cycle begins with.")
    growth: float = Field(2.0, gt=1, description="How many times as large, then as small, the share is each phase.")
    phase: int = Field(20, ge=1, description="Steps between two phases.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """All of the phase's levels alike."""
        shares = cycle(self.start, self.growth)
        number = ceil(shares[step // self.phase % len(shares)] * len(arms) - 1e-9)
        hardest = sorted(arm.level for arm in arms)[number - 1]
        return [float(arm.level <= hardest) for arm in arms]


def cycle(start: float, growth: float) -> list[float]:
    """The shares of a cycle, from ``start`` to 1 and down again, until the next one begins."""
    rising, falling = [start], [1 / growth]
    while rising[-1] < 1:
        rising.append(min(rising[-1] * growth, 1.0))
    while falling[-1] > start:
        falling.append(falling[-1] / growth)
    return rising + falling[:-1]
