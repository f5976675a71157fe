"""Draw what the policy is learning, or losing (after learning progress as Oudeyer et al. have it, 2007)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from selfloop.propose.arms import Arm, ArmFeedback, taught
from selfloop.propose.curricula import LevelCurriculum


class Progress(LevelCurriculum):
    """Levels in proportion to how fast their pass rate changes, up or down: what cannot be learnt gets no more."""

    name = "progress"
    alpha: float = Field(0.5, gt=0, le=1, description="Share of a draw's change in an arm's new value.")
    explore: float = Field(0.2, gt=0, le=1, description="Share of the draws in which all levels are alike.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """Shares of the values, with ``explore`` spread evenly; all alike where nothing changes."""
        most = max(abs(arm.value) for arm in arms)
        values = [abs(arm.value) / most if most else 1.0 for arm in arms]
        return [(1 - self.explore) * value / sum(values) + self.explore / len(arms) for value in values]

    def value(self, arm: Arm, seen: ArmFeedback | None) -> float:
        """A moving mean of the change; kept where the arm was not drawn, of which nothing is known then."""
        return arm.value if seen is None else (1 - self.alpha) * arm.value + self.alpha * taught("progress", arm, seen)
