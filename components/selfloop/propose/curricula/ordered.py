"""One level after another, in equal phases of a horizon."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from selfloop.propose.arms import Arm, phase
from selfloop.propose.curricula import LevelCurriculum


class Ordered(LevelCurriculum):
    """From easy to hard: one level after another."""

    name = "ordered"
    horizon: int = Field(240, ge=1, description="Steps in which it goes through all arms.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """The phase's arm alone; behind the horizon the hardest."""
        turn = sorted(arm.level for arm in arms)[phase(step, self.horizon, len(arms))]
        return [float(arm.level == turn) for arm in arms]


class Reverse(LevelCurriculum):
    """From hard to easy: the order that a curriculum should beat by most."""

    name = "reverse"
    horizon: int = Field(240, ge=1, description="Steps in which it goes through all arms.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """The phase's arm alone; behind the horizon the easiest."""
        turn = sorted((arm.level for arm in arms), reverse=True)[phase(step, self.horizon, len(arms))]
        return [float(arm.level == turn) for arm in arms]
