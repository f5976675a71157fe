"""Draw every level alike."""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.propose.arms import Arm
from selfloop.propose.curricula import LevelCurriculum


class Uniform(LevelCurriculum):
    """Every level alike: the baseline that any curriculum over levels must beat."""

    name = "uniform"

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """The same weight for each arm."""
        return [1.0] * len(arms)
