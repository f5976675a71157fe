"""Tasks of levels that stay the same: ``draw_tasks``, and the schedule ``fixed``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple, Self

from kfp.dsl import Artifact, Dataset
from pydantic import Field, model_validator

from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level
from selfloop.propose.items import ItemParams, held_out
from selfloop.propose.schedule import Progress, RoundTasks, Schedule
from selfloop.records import ItemResult, Task, writing
from selfloop.seeds import STREAM, seed_for
from selfloop.split import draw_training
from selfloop.stages import stage


class DrawParams(ItemParams):
    """Which levels, how many tasks and attempts, and whether each round has tasks of its own."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset to draw from.")
    levels: list[int] = Field([1], min_length=1, description="Levels of the tasks, and of the target suite.")
    old_levels: list[int] = Field([], description="Levels of the old suite: what must not be lost.")
    per_level: int = Field(1000, ge=1, description="Tasks of each level; a data set may hold fewer.")
    attempts: int = Field(8, ge=1, description="Attempts at each task.")
    draw: Literal["fresh", "same"] = Field("fresh", description="Each round draws its own tasks, or all the same.")
    stream: str = Field("", description=STREAM)

    @model_validator(mode="after")
    def _each_level_has_one_suite(self) -> Self:
        twice = sorted(set(self.levels) & set(self.old_levels))
        if twice:
            raise ValueError(f"level {twice[0]} is among the levels and the old levels: name it in one of them")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a level stands twice among the levels: name each once")
        return self

    def check(self) -> None:
        """Refuse levels that the environment has not."""
        there = find_environment(self.environment).levels
        absent = [level for level in [*self.levels, *self.old_levels] if there is not None and level not in there]
        if there is not None and absent:
            raise UserError(
                f"Environment '{self.environment}' has the levels {there[0]} to {there[-1]}: take level {absent[0]} "
                "out of the levels that are drawn."
            )


class DrawnTasks(NamedTuple):
    """The tasks of a round, and the held-out items that its candidate is judged on."""

    tasks: Dataset
    eval_items: Dataset


@stage()
def draw_tasks(out: DrawnTasks, params: DrawParams) -> None:
    """Draw tasks of the same levels each round, and the held-out items to judge the candidate on."""
    params.check()
    environment = find_environment(params.environment)
    number = params.round if params.draw == "fresh" else 0
    with writing(out.tasks.path, Task) as table:
        for level in params.levels:
            drawn = draw_training(environment, level, params.per_level, seed_for(params, "tasks", number, level))
            table.write([task._replace(suite="train", attempts=params.attempts) for task in drawn])
    with writing(out.eval_items.path, Task) as table:
        table.write(items_of(environment, params))


def items_of(environment: Environment, params: DrawParams) -> Iterator[Task]:
    """The held-out items of a round."""
    suites = dict.fromkeys(params.old_levels, "old") | dict.fromkeys(params.levels, "target")
    return held_out(environment, suites, params, guarded=("target",))


class Fixed(Schedule):
    """Tasks of the same levels each round, until the champion is good enough or no candidate is promoted any more."""

    name = "fixed"
    needs = "the settings 'draw'"
    takes = ("draw",)
    enough: float = Field(1.0, gt=0, le=1, description="Accuracy on the target suite at which the loop ends.")
    patience: int = Field(3, ge=1, description="Rounds in a row without a promotion after which the loop ends.")

    def draw(self, settings: Any, progress: Artifact) -> RoundTasks:
        """Draw tasks and items by ``draw_tasks``."""
        made = draw_tasks(settings.draw)
        return RoundTasks(made.tasks, made.eval_items)

    def first_items(self, settings: Any) -> Iterator[Task]:
        """Those of its levels."""
        return items_of(find_environment(settings.draw.environment), settings.draw)

    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """Note the champion's accuracy; over when it is enough, or when no candidate was promoted for too long."""
        by_level = accuracy_by_level(results, ("target",))
        accuracy = by_level.get("candidate" if promoted else "champion", {})
        waited = 0 if promoted else state.get("waited", 0) + 1
        after = {"accuracy": {str(k): v for k, v in accuracy.items()}, "waited": waited}
        is_enough = bool(accuracy) and fmean(accuracy.values()) >= self.enough
        return after, not is_enough and waited < self.patience
