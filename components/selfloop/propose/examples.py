"""``write_examples``: a round's tasks with their demonstrations, as labelled data. No policy made any of it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kfp.dsl import Dataset
from pydantic import Field

from selfloop.environments import find_environment
from selfloop.propose.base import shown
from selfloop.records import BATCH_ROWS, Example, Task, batched, rows, writing
from selfloop.seeds import STREAM, seed_of
from selfloop.stages import Params, stage


class WriteParams(Params):
    """Whose demonstrations are written, and how many of them are false."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    flipped: float = Field(
        0.0, ge=0, lt=1, description="Share of the tasks that get what is right for the one before of their level."
    )
    stream: str = Field("", description=STREAM)


class WrittenExamples(NamedTuple):
    """An example of each task, and the replay pool with them."""

    examples: Dataset
    replay_pool: Dataset


@stage()
def write_examples(out: WrittenExamples, params: WriteParams, tasks: Dataset, replay_pool: Dataset) -> None:
    """Write down what is right for each task, as its environment demonstrates it, and add it to the replay pool."""
    environment, before = find_environment(params.environment), dict[int, Example]()
    with writing(out.examples.path, Example) as table, writing(out.replay_pool.path, Example) as pool:
        deque(pool.extend(replay_pool.path), maxlen=0)
        for some in batched(rows(tasks.path, Task), BATCH_ROWS):
            made = list[Example]()
            for task in some:
                right = shown(environment, task)
                given = before.get(task.level, right) if is_flipped(task, params.flipped) else right
                before[task.level] = right
                made.append(right._replace(completion=given.completion, segments=given.segments))
            for each in (table, pool):
                each.write(made)


def is_flipped(task: Task, share: float) -> bool:
    """Whether a task is among this share of all, the same for the same task."""
    return seed_of("flipped", task.id) % 10**6 < share * 10**6
