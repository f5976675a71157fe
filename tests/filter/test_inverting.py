"""Examples of restating, turned round into examples of solving."""

from pathlib import Path

import pytest
from kfp.dsl import Dataset
from selfloop import roles
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.filter import InvertParams, invert_examples
from selfloop.filter.inverting import InvertedExamples
from selfloop.records import Example, Task, rows

from ..conftest import sealed_table


def turned(place: Path, name: str, tasks: list[Task], examples: list[Example]) -> list[Example]:
    out = InvertedExamples(Dataset(uri=str(place / "out")))
    invert_examples.into(
        out,
        InvertParams(environment=name),
        tasks=sealed_table(place / "tasks", Task, tasks),
        examples=sealed_table(place / "examples", Example, examples),
    )
    return list(rows(out.inverted.path, Example))


@pytest.mark.parametrize("name", ["chain", "arithmetic:tools", "lookup"])
def test_what_was_said_is_solved_by_what_it_was_said_of(tmp_path: Path, name: str) -> None:
    environment, asked = find_environment(name), find_environment(f"asked:restate:{name}")
    tasks = asked.tasks(3, 20, 5)
    said = [Example(task.id, 3, task.prompt, asked.demonstration(task), 4) for task in tasks]
    made = turned(tmp_path, name, tasks, said)
    for task, example in zip(tasks, made, strict=True):
        question = roles.subject(task)
        assert (example.prompt, example.task, example.round) == (question.prompt, task.id, 4)
        assert environment.check(question, example.completion).ok
        others = "".join(each.text for each in example.segments if each.author != "policy")
        assert others == "".join(example.completion[a:b] for a, b in environment.non_policy_spans(example.completion))


def test_what_restates_nothing_is_refused(tmp_path: Path) -> None:
    [task] = find_environment("chain").tasks(2, 1, 0)
    example = Example(task.id, 2, task.prompt, "1234", 1)
    with pytest.raises(UserError, match="asks nobody to restate a task: take tasks of the role 'restate'"):
        turned(tmp_path / "a", "chain", [task], [example])
    with pytest.raises(UserError, match="names the task 'x', which is not among its tasks"):
        turned(tmp_path / "b", "chain", [task], [example._replace(task="x")])
