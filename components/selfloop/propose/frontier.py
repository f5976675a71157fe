"""``propose_tasks``: tasks from a curriculum of levels of rising difficulty.

The schedule ``frontier`` keeps the highest level mastered and the champion's accuracy on levels near it. It moves after
each round, also when the candidate was rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.artifacts import read_json
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level, solved_levels
from selfloop.propose.items import ItemParams, held_out
from selfloop.propose.schedule import Progress, RoundTasks, Schedule
from selfloop.records import ItemResult, Task, writing
from selfloop.seeds import STREAM, seed_for
from selfloop.settings import START
from selfloop.split import draw_training
from selfloop.stages import stage


class ProposeParams(ItemParams):
    """The next few levels: how far ahead, how many tasks, how many attempts, and the items to be judged on."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset to draw from.")
    ahead: int = Field(4, ge=1, description="Levels beyond the frontier at most.")
    ahead_share: float = Field(0.125, ge=0, description="The same as a share of the frontier, where that is more.")
    continue_above: float = Field(0.5, ge=0, le=1, description="A level follows if the one before is this accurate.")
    per_level: int = Field(1000, ge=1, description="Tasks of each level.")
    attempts: int = Field(1, ge=1, description="Attempts at each task.")
    retry_below: float = Field(0.3, ge=0, le=1, description="Levels less accurate than this get more attempts.")
    retries: int = Field(4, ge=0, description="How many more attempts those levels get.")
    look_beyond: int = Field(3, ge=0, description="Levels beyond those that are in the target suite too.")
    old_levels: int = Field(8, ge=1, description="Levels up to the frontier, spread evenly, that are the old suite.")
    stream: str = Field("", description=STREAM)


class ProposedTasks(NamedTuple):
    """The tasks of a round, and the held-out items that its candidate is judged on."""

    tasks: Dataset
    eval_items: Dataset


@stage()
def propose_tasks(out: ProposedTasks, params: ProposeParams, progress: Artifact) -> None:
    """Propose tasks of the levels just beyond the frontier, and the held-out items to judge the candidate on."""
    environment, state = find_environment(params.environment), read_json(progress.path)
    frontier = state["frontier"]
    accuracy = {int(level): value for level, value in state["accuracy"].items()}
    if not environment.levels_among([frontier + 1]):
        raise UserError(f"Environment '{params.environment}' has no level beyond {frontier}: lower the loop's target.")
    ahead = levels_ahead(frontier, params)
    with writing(out.tasks.path, Task) as table:
        for level in environment.levels_among(next_levels(frontier, accuracy, ahead, params.continue_above)):
            attempts = params.attempts + (params.retries if expected(level, accuracy) < params.retry_below else 0)
            drawn = draw_training(environment, level, params.per_level, seed_for(params, "tasks", params.round, level))
            table.write([task._replace(suite="train", attempts=attempts) for task in drawn])
    with writing(out.eval_items.path, Task) as table:
        table.write(items_at(environment, frontier, params))


def items_at(environment: Environment, frontier: int, params: ProposeParams) -> Iterator[Task]:
    """The held-out items of a round whose frontier this is."""
    beyond = range(frontier + 1, frontier + levels_ahead(frontier, params) + params.look_beyond + 1)
    suites = dict.fromkeys(spread(frontier, params.old_levels), "old")
    suites |= dict.fromkeys(environment.levels_among(beyond), "target")
    return held_out(environment, suites, params)


def levels_ahead(frontier: int, params: ProposeParams) -> int:
    """Levels beyond the frontier that tasks are proposed of, at most."""
    return max(params.ahead, int(params.ahead_share * frontier))


def next_levels(frontier: int, accuracy: Mapping[int, float], ahead: int, continue_above: float) -> list[int]:
    """The levels to propose: the one beyond the frontier, and each next one while the one before is accurate enough."""
    levels = [frontier + 1]
    while len(levels) < ahead and expected(levels[-1], accuracy) >= continue_above:
        levels.append(levels[-1] + 1)
    return levels


def expected(level: int, accuracy: Mapping[int, float]) -> float:
    """The accuracy to reckon with: the level's own, or that of the last level below it that was evaluated, or 0."""
    return accuracy.get(
        level, next((accuracy[known] for known in sorted(accuracy, reverse=True) if known < level), 0.0)
    )


def spread(last: int, number: int) -> list[int]:
    """At most ``number`` levels from 1 to ``last``, evenly spread; the last one is always among them."""
    if number >= last:
        return list(range(1, last + 1))
    return sorted({round(last - step * (last - 1) / max(number - 1, 1)) for step in range(number)})


class Frontier(Schedule):
    """The levels just beyond the highest that the champion has mastered, until that has come to a target."""

    name = "frontier"
    needs = "the settings 'propose', and an environment with levels"
    takes = ("propose",)
    advance_at: float = Field(0.9, gt=0, le=1, description="Accuracy at which the frontier moves past a level.")
    target: int = Field(30, ge=1, description="The loop ends when the frontier has come to this level.")

    def draw(self, settings: Any, progress: Artifact) -> RoundTasks:
        """Draw tasks and items by ``propose_tasks``."""
        made = propose_tasks(settings.propose, progress=progress)
        return RoundTasks(made.tasks, made.eval_items)

    def first_items(self, settings: Any) -> Iterator[Task] | None:
        """Those at the frontier that the labelled data begins with; those of a loop that continues are not known."""
        if settings.origin != START:
            return None
        return items_at(find_environment(settings.propose.environment), settings.base.levels, settings.propose)

    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """Move the frontier past the levels that the champion has mastered; over when the target is reached."""
        accuracy = accuracy_by_level(results).get("candidate" if promoted else "champion", {})
        frontier = solved_levels(accuracy, self.advance_at, state["frontier"])
        return {"frontier": frontier, "accuracy": {str(k): v for k, v in accuracy.items()}}, frontier < self.target
