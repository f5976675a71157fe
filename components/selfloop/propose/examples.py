"""``write_examples``: a round's tasks with their demonstrations, as labelled data."""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Dataset
from pydantic import Field

from selfloop.environments import find_environment
from selfloop.propose.base import shown
from selfloop.records import Example, Task, rows, writing
from selfloop.seeds import STREAM
from selfloop.stage import Params, stage


class WriteParams(Params):
    """Whose demonstrations are written."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    stream: str = Field("", description=STREAM)


class WrittenExamples(NamedTuple):
    """An example of each task."""

    written: Dataset


@stage()
def write_examples(out: WrittenExamples, params: WriteParams, tasks: Dataset) -> None:
    """Write down what is right for each task, as the environment demonstrates it: data that no policy made."""
    environment = find_environment(params.environment)
    with writing(out.written.path, Example) as table:
        for task in rows(tasks.path, Task):
            table.write([shown(environment, task)])
