"""``invert_examples``: of who restates tasks, examples for who solves them."""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Dataset
from pydantic import Field

from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.records import ENVIRONMENT, Example, Task, as_rows, read, rows, segments_of, writing
from selfloop.roles import retold
from selfloop.stages import Params, stage


class InvertParams(Params):
    """Which environment the tasks are of that were restated."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset that made the tasks.")


class InvertedExamples(NamedTuple):
    """The examples the other way round."""

    inverted: Dataset


@stage()
def invert_examples(out: InvertedExamples, params: InvertParams, tasks: Dataset, examples: Dataset) -> None:
    """Turn examples of restating round: the task that was said is the prompt, the attempt it was said of the text."""
    environment, known = find_environment(params.environment), {task.id: task for task in rows(tasks.path, Task)}
    with writing(out.inverted.path, Example) as table:
        for batch in read(examples.path, Example):
            table.write([inverted(environment, known, example) for example in as_rows(batch, Example)])


def inverted(environment: Environment, known: dict[str, Task], example: Example) -> Example:
    """An example the other way round. Raises ``UserError`` where its task is not known, or restates nothing."""
    if example.task not in known:
        raise UserError(f"An example names the task '{example.task}', which is not among its tasks.")
    prompt, attempt = retold(environment, known[example.task], example.completion)
    segments = segments_of(attempt, environment.non_policy_spans(attempt), ENVIRONMENT)
    return Example(example.task, example.level, prompt, attempt, example.round, segments=segments)
