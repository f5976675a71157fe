"""Curricula: which tasks an on-policy training tries next, one file each.

A curriculum chooses the tasks of a draw and learns what came of them. It keeps nothing itself: what it remembers,
within a training and from round to round, is a value that it is given and returns anew (``keeps``).

Most weigh levels (``LevelCurriculum``): ``(arms, step) -> weights``, a function of what is known of each level. One of
your own is such a function, whose keyword-only arguments are its parameters, or a subclass of either class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, Field

from selfloop.errors import UserError
from selfloop.memory import NoState
from selfloop.propose.arms import Arm, ArmFeedback, ArmState, joined
from selfloop.propose.weights import checked_weights, shares
from selfloop.records import Task
from selfloop.seeds import seed_of
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]

Probe = Callable[[Sequence[Task]], Sequence[float]]
"""The reward of one attempt at each of some tasks, of the policy as it is."""


class TaskPool:
    """The tasks that a training draws from, and the levels that there were before held-out items were taken out."""

    def __init__(self, tasks: Sequence[Task], levels: Iterable[int], seed: Callable[[str], int]) -> None:
        """``seed`` gives the seed of this training's round for a purpose."""
        self.tasks, self.levels, self.seed = tasks, sorted(set(levels)), seed

    @cached_property
    def by_level(self) -> dict[int, list[Task]]:
        """The tasks of each level."""
        found: dict[int, list[Task]] = {level: [] for level in self.levels}
        for task in self.tasks:
            found[task.level].append(task)
        return found


class DrawFeedback(NamedTuple):
    """What came of a draw: its tasks, and the rewards and advantages of their attempts (groups, attempts)."""

    tasks: Sequence[Task]
    rewards: Table
    advantages: Table


class Curriculum(Strategy):
    """Which tasks a training tries next."""

    kind = "curriculum"
    plural = "curricula"
    package = __name__
    probes: ClassVar[bool] = False
    """Whether it has tasks tried that are not trained on, to see how hard they are."""
    keeps: ClassVar[type[BaseModel]] = NoState

    @classmethod
    def base_of_functions(cls) -> type[Strategy]:
        """A function of one's own weighs levels."""
        return LevelCurriculum

    def own_tasks(self, environment: str, groups: int) -> Sequence[Task] | None:
        """Tasks that it makes itself, for ``groups`` at once; none where it chooses among those that it is given."""
        return None

    def for_round(self, before: Any, pool: TaskPool) -> Any:
        """What it remembers as a training begins, of what was known before; that is none at the very start."""
        return before or self.keeps()

    @abstractmethod
    def choose(self, state: Any, pool: TaskPool, draw: int, groups: int, probe: Probe) -> tuple[list[Task], Any]:
        """The tasks of a draw, one a group, and what it remembers then."""

    def learn(self, state: Any, feedback: DrawFeedback) -> Any:
        """What it remembers after a draw."""
        return state

    def ended(self, state: Any) -> Any:
        """What it remembers of a training that is over."""
        return state


class LevelCurriculum(Curriculum):
    """A curriculum over levels: each is an arm, drawn as often as its weight says."""

    keeps = ArmState
    grain: Literal["step", "round"] = Field("step", description="Whether the arms learn of each draw, or of the round.")
    other_arms: Literal["stop", "adapt"] = Field(
        "stop", description="Where a state has other arms: stop, or keep those in common and begin the new ones at 0."
    )

    @abstractmethod
    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """A weight for each arm, finite and not negative; ``step`` counts the steps behind, of all rounds."""

    def value(self, arm: Arm, seen: ArmFeedback | None) -> float:
        """An arm's value (Q) after a step that drew it, or did not: the mean |A| when it was drawn last."""
        return arm.value if seen is None else seen.advantage

    def probed(self, state: ArmState, pool: TaskPool, probe: Probe) -> ArmState:
        """The arms as a step begins, with pass rates measured anew where it wants them (``probes``)."""
        return state

    def for_round(self, before: ArmState | None, pool: TaskPool) -> ArmState:
        """Arms of the levels that there are. Raises ``UserError`` for one without a task, and for other arms."""
        empty = [level for level, tasks in pool.by_level.items() if not tasks]
        if empty:
            raise UserError(
                f"All tasks of level {empty[0]} are held-out items, which leaves this arm none: propose more of this "
                "level, or draw other levels."
            )
        return (before or ArmState.begin(pool.levels)).for_round(pool.levels, self.other_arms)

    def choose(self, state: ArmState, pool: TaskPool, draw: int, groups: int, probe: Probe) -> tuple[list[Task], Any]:
        """Of each level that is drawn the next task that was not tried, and all again when all were."""
        if self.probes and (self.grain == "step" or draw == 0):
            state = self.probed(state, pool, probe)
        taken, chosen = dict(state.taken), []
        for level in self.draw(state, groups, seed_of(pool.seed("arms"), draw)):
            of_level = pool.by_level[level]
            chosen.append(of_level[taken.get(level, 0) % len(of_level)])
            taken[level] = taken.get(level, 0) + 1
        return chosen, state.model_copy(update={"taken": taken})

    def draw(self, state: ArmState, number: int, seed: int) -> list[int]:
        """Levels, drawn independently of one another."""
        import numpy as np

        mass = self.mass(state)
        drawn = np.random.default_rng(seed).choice(list(mass), number, p=list(mass.values()))
        return [int(level) for level in drawn]

    def mass(self, state: ArmState) -> dict[int, float]:
        """The probability of each level in the next step. Raises ``UserError`` for weights that are none."""
        named = [f"level {level}" for level in state.levels]
        weights = checked_weights(self(state.arms, state.step), named, f"Curriculum '{self}'")
        return dict(zip(state.levels, shares(weights), strict=True))

    def learn(self, state: ArmState, feedback: DrawFeedback) -> ArmState:
        """Let the arms know what their groups came to."""
        seen = by_level(feedback)
        if self.grain == "step":
            return self.observed(state, seen)
        pending = {level: (*state.pending.get(level, ()), each) for level, each in seen.items()}
        return state.model_copy(update={"pending": state.pending | pending})

    def observed(self, state: ArmState, seen: Mapping[int, ArmFeedback]) -> ArmState:
        """The arms after a step of theirs."""
        state.refuse_odd(seen)
        values = {arm.level: self.value(arm, seen.get(arm.level)) for arm in state.arms}
        return state.observed(seen, self.mass(state), values)

    def ended(self, state: ArmState) -> ArmState:
        """The arms after a training; in the grain of a round this is their step."""
        if self.grain == "round":
            state = self.observed(state, {level: joined(each) for level, each in state.pending.items()})
        return state.ended()


def by_level(feedback: DrawFeedback) -> dict[int, ArmFeedback]:
    """What came of a draw, by level."""
    tasks, rewards, advantages = feedback
    seen = {}
    for level in sorted({task.level for task in tasks}):
        rows = [number for number, task in enumerate(tasks) if task.level == level]
        apart = rewards[rows] - rewards[rows].mean(axis=1, keepdims=True)
        means = (float(each.mean()) for each in (abs(advantages[rows]), rewards[rows], abs(apart)))
        advantage, rate, unnormalised = means
        seen[level] = ArmFeedback(advantage, rate, len(rows), unnormalised)
    return seen


def rates_by_level(pool: TaskPool, number: int, probe: Probe) -> dict[int, float]:
    """The pass rate of each level, of one attempt at each of its first tasks."""
    measured = {level: of_level[:number] for level, of_level in pool.by_level.items()}
    given = iter(probe([task for of_level in measured.values() for task in of_level]))
    return {level: fmean(next(given) for _ in of_level) for level, of_level in measured.items()}
