"""Arms: the levels of a training's tasks, what is known of each, and how that changes with each step.

All of it is pure: what weighs the arms is a curriculum (``selfloop.propose.curricula``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from selfloop.errors import UserError

POINTS = 200
"""Points of the course that a state holds, about; of a longer round every second, fourth, eighth step is kept."""


Signal = Literal["advantage", "unnormalised", "progress"]
"""What an arm's value is made of; all three are in SEC's released code."""
SIGNAL = "What an arm's value is made of: |A|, the same before an algorithm scales it, or the change of its pass rate."


class Arm(BaseModel):
    """A level and what is known of it: its value (Q), its latest pass rate (none before it was drawn or probed) and the
    one before that, the groups drawn of it in all, and the step in which it was drawn last, 0 if never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int
    value: float = 0.0
    rate: float | None = None
    before: float | None = None
    drawn: int = 0
    last: int = 0


class ArmFeedback(NamedTuple):
    """An arm in one step: the mean of its rollouts' absolute advantages, its pass rate, the groups drawn of it, and the
    mean distance of a rollout's reward from its group's mean, which no algorithm has scaled.
    """

    advantage: float
    rate: float
    groups: int
    unnormalised: float = 0.0


class Point(BaseModel):
    """A step, by level: the mass that it drew with, the pass rate that it saw (none where it drew nothing), and the
    value after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    mass: dict[int, float]
    rate: dict[int, float | None]
    value: dict[int, float]


class ArmState(BaseModel):
    """All arms, which a loop carries from step to step and from round to round.

    ``step`` counts the steps that it has seen in all, ``course`` tells those of the last round. Within a training,
    ``taken`` counts the tasks of each level that were drawn, and ``pending`` is the feedback that is not learnt yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    arms: tuple[Arm, ...]
    course: tuple[Point, ...] = ()
    taken: dict[int, int] = {}
    pending: dict[int, tuple[ArmFeedback, ...]] = {}

    @classmethod
    def begin(cls, levels: Iterable[int]) -> Self:
        """Arms of which nothing is known."""
        return cls(arms=tuple(Arm(level=level) for level in sorted(set(levels))))

    @property
    def levels(self) -> list[int]:
        """The levels, from the lowest on."""
        return [arm.level for arm in self.arms]

    def for_round(self, levels: Iterable[int], other_arms: Literal["stop", "adapt"]) -> Self:
        """The state for a training on tasks of these levels, whose course is still empty.

        Raises ``UserError`` where it has other arms and shall not adapt.
        """
        wanted = sorted(set(levels))
        if wanted != self.levels and other_arms == "stop":
            raise UserError(
                f"The state that is restored has the arms {_listed(self.levels)}, the tasks have {_listed(wanted)}: "
                "draw tasks of the same levels, or set 'other_arms' of the curriculum to 'adapt'."
            )
        known = {arm.level: arm for arm in self.arms}
        arms = tuple(known.get(level, Arm(level=level)) for level in wanted)
        return self.model_copy(update={"arms": arms, "course": (), "taken": {}, "pending": {}})

    def ended(self) -> Self:
        """The state after a training, without what mattered within it alone."""
        return self.model_copy(update={"taken": {}, "pending": {}})

    def probed(self, rates: Mapping[int, float]) -> Self:
        """The arms with pass rates that were measured without training."""
        self._refuse_others(rates)
        arms = (arm.model_copy(update={"rate": rates.get(arm.level, arm.rate)}) for arm in self.arms)
        return self.model_copy(update={"arms": tuple(arms)})

    def observed(self, seen: Mapping[int, ArmFeedback], mass: Mapping[int, float], values: Mapping[int, float]) -> Self:
        """The arms after a step that drew with ``mass`` and gave each level such a value."""
        arms = tuple(self._after(arm, seen.get(arm.level), values[arm.level]) for arm in self.arms)
        point = Point(
            step=self.step + 1,
            mass=dict(mass),
            rate={arm.level: seen[arm.level].rate if arm.level in seen else None for arm in arms},
            value={arm.level: arm.value for arm in arms},
        )
        update = {"step": self.step + 1, "arms": arms, "course": thinned((*self.course, point))}
        return self.model_copy(update=update)

    def refuse_odd(self, seen: Mapping[int, ArmFeedback]) -> None:
        """Refuse feedback on what is no arm, and numbers that are none."""
        self._refuse_others(seen)
        for level, each in seen.items():
            if not all(map(math.isfinite, each)):
                raise UserError(f"Step {self.step + 1} gave level {level} an advantage or a rate that is no number.")

    def _after(self, arm: Arm, seen: ArmFeedback | None, value: float) -> Arm:
        if seen is None:
            return arm.model_copy(update={"value": value})
        drawn, last = arm.drawn + seen.groups, self.step + 1
        update = {"value": value, "rate": seen.rate, "before": arm.rate, "drawn": drawn, "last": last}
        return arm.model_copy(update=update)

    def _refuse_others(self, levels: Mapping[int, Any]) -> None:
        others = sorted(set(levels) - set(self.levels))
        if others:
            raise UserError(f"Level {others[0]} is no arm: the arms are {_listed(self.levels)}.")


def taught(signal: Signal, arm: Arm, seen: ArmFeedback) -> float:
    """What a step taught of an arm, by a signal. Of 0/1 rewards at a pass rate p, the mean absolute advantage is about
    2 sqrt(p (1 - p)) where groups are standardized, and 2 p (1 - p) where they are not; progress is how far the pass
    rate went since the arm was drawn last, 0 when it is drawn first.
    """
    if signal == "progress":
        return abs(seen.rate - arm.rate) if arm.rate is not None else 0.0
    return seen.unnormalised if signal == "unnormalised" else seen.advantage


def joined(seen: Sequence[ArmFeedback]) -> ArmFeedback:
    """Several draws of an arm as one: means over their groups."""
    groups = sum(each.groups for each in seen)

    def mean(values: Iterable[float]) -> float:
        return sum(value * each.groups for value, each in zip(values, seen, strict=True)) / groups

    advantage, rate = mean(each.advantage for each in seen), mean(each.rate for each in seen)
    return ArmFeedback(advantage, rate, groups, mean(each.unnormalised for each in seen))


def thinned(course: tuple[Point, ...]) -> tuple[Point, ...]:
    """A round's points, evenly over its steps: the first, the last, and those between at equal distances."""
    *earlier, last = course
    first = course[0].step
    stride = 1
    while (last.step - first) // stride >= POINTS:
        stride *= 2
    return (*(point for point in earlier if (point.step - first) % stride == 0), last)


def phase(step: int, horizon: int, number: int) -> int:
    """Which of the ``number`` equal phases of a horizon a step lies in, from 0 on; the last continues behind it."""
    progress = min(step / horizon, 1.0)
    return min(int(progress * number + 1e-9), number - 1)  # 1/49 of the horizon times 49 is below 1


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels)) or "none"
