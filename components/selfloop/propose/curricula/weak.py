"""Draw what the policy is worst at: two papers that have tasks made there."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from selfloop.propose.arms import Arm
from selfloop.propose.curricula import LevelCurriculum


class Weakness(LevelCurriculum):
    """Levels that the policy fails and does not get better at, by how much it fails them (after SwS, arXiv:2506.08989).

    There a problem is weak whose accuracy stays below a half and has a negative slope, and models write new ones of its
    concepts; here a level is, and its environment draws fresh tasks: a stand-in.
    """

    name = "weakness"
    below: float = Field(0.5, gt=0, le=1, description="A pass rate under which a level may be weak.")
    rest: float = Field(0.05, gt=0, le=1, description="Weight of a level that is not; a weak one has its failures'.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """1 - rate where that is weak, at least ``rest``; an arm that was never drawn is weak."""
        return [max(1 - (arm.rate or 0.0), self.rest) if self.is_weak(arm) else self.rest for arm in arms]

    def is_weak(self, arm: Arm) -> bool:
        """Whether the latest pass rate is low, and no higher than the one before."""
        return arm.rate is None or (arm.rate < self.below and (arm.before is None or arm.rate <= arm.before))


class Weakest(LevelCurriculum):
    """The level that the policy fails most, beside all of them alike (after EnvGen, arXiv:2403.12014)."""

    name = "weakest"
    share: float = Field(0.5, ge=0, lt=1, description="Share of the draws that is the weakest level's alone.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """An even share of the rest, and ``share`` for the lowest pass rate: of equal ones, for the lowest level."""
        weakest = min(arms, key=lambda arm: (arm.rate or 0.0, arm.level))
        even = (1 - self.share) / len(arms)
        return [even + self.share * (arm is weakest) for arm in arms]
