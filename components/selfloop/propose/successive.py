"""The schedule ``successive``: one level after another, whether or not the one before was learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kfp.dsl import Artifact
from pydantic import Field

from selfloop.environments import find_environment
from selfloop.evaluate import accuracy_by_level
from selfloop.propose.fixed import DrawParams, draw_tasks, items_of
from selfloop.propose.schedule import Progress, RoundTasks, Schedule
from selfloop.records import ItemResult, Task


class Successive(Schedule):
    """Tasks of one level after another, with those that were taught before as the old suite."""

    name = "successive"
    needs = "the settings 'draw'"
    takes = ("draw",)
    each: int = Field(1, ge=1, description="Rounds of each level, in the order of 'draw.levels'; then of the last.")

    def now(self, settings: Any) -> DrawParams:
        """What a round draws."""
        levels = settings.draw.levels
        place = min(max(settings.number - 1, 0) // self.each, len(levels) - 1)
        old = [*settings.draw.old_levels, *levels[:place]]
        drawn: DrawParams = settings.draw.model_copy(update={"levels": [levels[place]], "old_levels": old})
        return drawn

    def draw(self, settings: Any, progress: Artifact) -> RoundTasks:
        """Draw tasks and items by ``draw_tasks``."""
        made = draw_tasks(self.now(settings))
        return RoundTasks(made.tasks, made.eval_items)

    def first_items(self, settings: Any) -> Iterator[Task]:
        """Those of the first level."""
        return items_of(find_environment(settings.draw.environment), self.now(settings))

    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """Note the champion's accuracy; there are as many rounds as are asked for."""
        accuracy = accuracy_by_level(results).get("candidate" if promoted else "champion", {})
        return {"accuracy": {str(level): value for level, value in accuracy.items()}}, True
