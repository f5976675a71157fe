"""Schedules: which tasks and items a round has, and when a loop is over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.records import ItemResult, Task
from selfloop.strategies import Strategy

Progress = Mapping[str, Any]
"""What a schedule keeps from round to round, as JSON."""


class RoundTasks(NamedTuple):
    """A round's tasks and the held-out items to judge its candidate on; ``None`` where the loop makes its own."""

    tasks: Dataset
    eval_items: Dataset


class Schedule(Strategy):
    """Which tasks and items a round has, and when the loop is over."""

    kind = "schedule"
    package = "selfloop.propose"
    takes: ClassVar[tuple[str, ...]] = ()
    """The parts of a loop's settings that it draws with."""

    @abstractmethod
    def draw(self, settings: Any, progress: Artifact) -> RoundTasks:
        """The tasks and items of a round: stage calls with the loop's settings."""

    def first_items(self, settings: Any) -> Iterable[Task] | None:
        """The items of a loop's first round, where they are known before it begins."""
        return None

    @abstractmethod
    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """What to keep after a round, and whether another is worth it."""


class Unscheduled(Schedule):
    """No tasks: the loop makes its own, and ends when no candidate is promoted any more."""

    name = "none"
    patience: int = Field(1000, ge=1, description="Rounds in a row without a promotion after which the loop ends.")

    def draw(self, settings: Any, progress: Artifact) -> RoundTasks:
        """Draw nothing."""
        nothing: Any = None
        return RoundTasks(nothing, nothing)

    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """Count the rounds without a promotion."""
        waited = 0 if promoted else state.get("waited", 0) + 1
        return {"waited": waited}, waited < self.patience
