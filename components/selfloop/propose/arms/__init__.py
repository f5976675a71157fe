"""Arms: the levels of an environment as what a curriculum draws from, and the strategies that weigh them.

A strategy is a function ``strategy(arms, params, progress) -> weights`` that looks at the arms and gives each a weight,
finite and not negative; levels are drawn in proportion. It keeps nothing: what the loop has seen of an arm stands in
the arm. A strategy is a module of this package, or the user's own as ``module:function``. A module that says ``probes =
True`` has its arms' pass rates measured with the current policy at the beginning of each phase, of which the horizon
has as many as there are arms.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from kfp.dsl import Artifact
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from selfloop.artifacts import write_json
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.lookup import imported, unknown
from selfloop.stage import Params, stage

POINTS = 200
"""Points of the course that a state holds, about; of a longer round every second, fourth, eighth step is kept."""


class ArmsParams(Params):
    """Which levels are arms, and how they are weighed."""

    environment: str = Field("addition", description="The taskset whose levels are the arms.")
    strategy: str = Field("bandit", description="What weighs the arms: a name, or a function as module:function.")
    levels: list[int] = Field([1, 2, 3, 4], min_length=1, description="Levels that are arms, one each.")
    alpha: float = Field(0.5, gt=0, le=1, description="Share of a step's signal in an arm's new value.")
    tau: float = Field(1.0, gt=0, description="bandit: temperature; a small one draws the best arm alone.")
    unsampled: Literal["decay", "keep"] = Field(
        "decay", description="An arm's value after a step that did not draw it: as if it had given nothing, or kept."
    )
    horizon: int = Field(
        240, ge=1, description="ordered, reverse, reestimated: steps in which they go through all arms."
    )
    other_arms: Literal["stop", "adapt"] = Field(
        "stop", description="Where a state has other arms: stop, or keep those in common and begin the new ones at 0."
    )

    @field_validator("levels")
    @classmethod
    def _different(cls, levels: list[int]) -> list[int]:
        if len(set(levels)) < len(levels):
            raise ValueError("a level stands twice: name each once")
        return levels

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if ":" not in name and name not in strategies():
            raise unknown("strategy", name, strategies())
        return name


class Arm(BaseModel):
    """A level and what is known of it: its value (Q), its latest pass rate (none before it was drawn or probed), the
    groups drawn of it in all, and the step in which it was drawn last, 0 if never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int
    value: float = 0.0
    rate: float | None = None
    drawn: int = 0
    last: int = 0


class Seen(NamedTuple):
    """An arm in one step: the mean of its rollouts' absolute advantages, its pass rate and the groups drawn of it."""

    advantage: float
    rate: float
    groups: int


class Point(BaseModel):
    """A step, by level: the mass that it drew with, the pass rate that it saw (none where it drew nothing), and the
    value after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    mass: dict[int, float]
    rate: dict[int, float | None]
    value: dict[int, float]


Strategy = Callable[[Sequence[Arm], ArmsParams, float], Sequence[float]]
"""``(arms, params, progress) -> weights``; ``progress`` is the share of the horizon that is behind, from 0 to 1."""


@cache
def strategies() -> Sequence[str]:
    """The names of the strategies that come with selfloop."""
    return [info.name for info in pkgutil.iter_modules(__path__)]


def find_strategy(name: str) -> Strategy:
    """The strategy of this name. Raises ``UserError`` with the nearest name where there is none."""
    if ":" not in name and name not in strategies():
        raise unknown("strategy", name, strategies())
    found = imported("strategy", name if ":" in name else f"{__name__}.{name}:strategy")
    if not callable(found):
        raise UserError(f"The strategy '{name}' cannot be called: name a function (arms, params, progress) -> weights.")
    return found  # type: ignore[no-any-return]


def probes(name: str) -> bool:
    """Whether the strategy of this name wants pass rates measured at the beginning of each phase."""
    find_strategy(name)
    module = name.partition(":")[0] if ":" in name else f"{__name__}.{name}"
    return bool(getattr(importlib.import_module(module), "probes", False))


def phase(progress: float, number: int) -> int:
    """Which of ``number`` equal phases this is, from 0 on; the last one goes on behind the horizon."""
    return min(int(progress * number + 1e-9), number - 1)  # 1/49 of the horizon times 49 is below 1


class Arms(BaseModel):
    """The state of a curriculum, which a loop carries from step to step and from round to round.

    ``step`` counts the steps that it has seen in all, ``course`` tells those of the last round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    strategy: str
    arms: tuple[Arm, ...]
    course: tuple[Point, ...] = ()

    @classmethod
    def begin(cls, params: ArmsParams) -> Arms:
        """Arms of which nothing is known."""
        return cls(strategy=params.strategy, arms=tuple(Arm(level=level) for level in sorted(params.levels)))

    @classmethod
    def from_json(cls, value: Any) -> Arms:
        """Arms as ``to_json`` gave them. Raises ``UserError`` for anything else."""
        try:
            return cls.model_validate(value)
        except ValidationError:
            raise UserError("The loop's state is not one of arms: go on from a version that has arms.") from None

    def to_json(self) -> dict[str, Any]:
        """The whole state as JSON has it, for ``write_json``."""
        return self.model_dump(mode="json")

    @property
    def levels(self) -> list[int]:
        """The levels, from the lowest on."""
        return [arm.level for arm in self.arms]

    def restored(self, params: ArmsParams) -> Arms:
        """The state under these parameters. Raises ``UserError`` where it has other arms and shall not adapt."""
        wanted = sorted(params.levels)
        if wanted != self.levels and params.other_arms == "stop":
            raise UserError(
                f"The state that is restored has the arms {_listed(self.levels)}, the settings have {_listed(wanted)}: "
                "set 'levels' to the same, or 'other_arms' to 'adapt'."
            )
        known = {arm.level: arm for arm in self.arms}
        arms = tuple(known.get(level, Arm(level=level)) for level in wanted)
        return self.model_copy(update={"strategy": params.strategy, "arms": arms})

    def without_course(self) -> Arms:
        """The state for a new round, whose course is not told yet."""
        return self.model_copy(update={"course": ()})

    def progress(self, params: ArmsParams) -> float:
        """The share of the horizon that is behind, from 0 to 1."""
        return min(self.step / params.horizon, 1.0)

    def wants_rates(self, params: ArmsParams) -> bool:
        """Whether the arms are to be ``probed`` before the next step, as some strategies ask: where a phase begins, and
        where an arm was never measured.
        """
        if not probes(params.strategy):
            return False
        before, now = (phase(min(step / params.horizon, 1.0), len(self.arms)) for step in (self.step - 1, self.step))
        return before != now or any(arm.rate is None for arm in self.arms)

    def probed(self, rates: Mapping[int, float]) -> Arms:
        """The arms with pass rates that were measured without training."""
        self._refuse_others(rates)
        arms = (arm.model_copy(update={"rate": rates.get(arm.level, arm.rate)}) for arm in self.arms)
        return self.model_copy(update={"arms": tuple(arms)})

    def mass(self, params: ArmsParams) -> dict[int, float]:
        """The probability of each level in the next step. Raises ``UserError`` for weights that are none."""
        given = find_strategy(params.strategy)(self.arms, params, self.progress(params))
        weights = _weights(given, self.levels, params.strategy)
        scaled = [weight / max(weights) for weight in weights]
        whole = math.fsum(scaled)
        return {level: weight / whole for level, weight in zip(self.levels, scaled, strict=True)}

    def draw(self, params: ArmsParams, number: int, seed: int) -> list[int]:
        """Levels of the next step, drawn independently of one another."""
        import numpy as np

        mass = self.mass(params)
        drawn = np.random.default_rng(seed).choice(list(mass), number, p=list(mass.values()))
        return [int(level) for level in drawn]

    def observed(self, params: ArmsParams, seen: Mapping[int, Seen]) -> Arms:
        """The arms after a step: q = (1 - alpha) q + alpha |A| where an arm was drawn (SEC, arXiv:2505.14970).

        One that was not drawn counts as |A| = 0, as in the released code, or keeps its value.
        """
        self._refuse_others(seen)
        arms = tuple(self._after(arm, params, seen.get(arm.level)) for arm in self.arms)
        point = Point(
            step=self.step + 1,
            mass=self.mass(params),
            rate={arm.level: seen[arm.level].rate if arm.level in seen else None for arm in arms},
            value={arm.level: arm.value for arm in arms},
        )
        update = {"step": self.step + 1, "arms": arms, "course": thinned((*self.course, point))}
        return self.model_copy(update=update)

    def _after(self, arm: Arm, params: ArmsParams, seen: Seen | None) -> Arm:
        decayed = (1 - params.alpha) * arm.value
        if seen is None:
            return arm.model_copy(update={"value": decayed}) if params.unsampled == "decay" else arm
        if not (math.isfinite(seen.advantage) and math.isfinite(seen.rate)):
            raise UserError(f"Step {self.step + 1} gave level {arm.level} an advantage or a rate that is no number.")
        value = decayed + params.alpha * seen.advantage
        update = {"value": value, "rate": seen.rate, "drawn": arm.drawn + seen.groups, "last": self.step + 1}
        return arm.model_copy(update=update)

    def _refuse_others(self, levels: Mapping[int, Any]) -> None:
        others = sorted(set(levels) - set(self.levels))
        if others:
            raise UserError(f"Level {others[0]} is no arm: the arms are {_listed(self.levels)}.")


def thinned(course: tuple[Point, ...]) -> tuple[Point, ...]:
    """A round's points, evenly over its steps: the first, the last, and those between at equal distances."""
    *earlier, last = course
    first = course[0].step
    stride = 1
    while (last.step - first) // stride >= POINTS:
        stride *= 2
    return (*(point for point in earlier if (point.step - first) % stride == 0), last)


def _weights(given: Any, levels: Sequence[int], strategy: str) -> list[float]:
    try:
        weights = [float(weight) for weight in given]
    except (TypeError, ValueError):
        raise UserError(f"Strategy '{strategy}' gave {given!r}: return a weight for each arm.") from None
    if len(weights) != len(levels):
        raise UserError(f"Strategy '{strategy}' gave {len(weights)} weights to {len(levels)} arms: return one each.")
    for level, weight in zip(levels, weights, strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(
                f"Strategy '{strategy}' gave level {level} the weight {weight}: return finite ones, from 0."
            )
    if not any(weights):
        raise UserError(f"Strategy '{strategy}' gave every arm the weight 0: return one above 0 at least.")
    return weights


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels))


def refuse_absent(params: ArmsParams) -> None:
    """Raise ``UserError`` where the environment has no levels, or not these."""
    levels = find_environment(params.environment).levels
    if levels is None:
        raise UserError(
            f"Environment '{params.environment}' has no levels, which the arms are: choose one that offers levels."
        )
    absent = [level for level in params.levels if level not in levels]
    if absent:
        raise UserError(
            f"Environment '{params.environment}' has the levels {levels[0]} to {levels[-1]}: take level {absent[0]} "
            "out of the arms' levels."
        )


class InitialArms(NamedTuple):
    """The arms, of which nothing is known yet."""

    arms: Artifact


@stage()
def begin_arms(out: InitialArms, params: ArmsParams) -> None:
    """Begin a curriculum over levels of an environment, of which nothing is known yet."""
    refuse_absent(params)
    write_json(out.arms.path, Arms.begin(params).to_json())
