import re
from pathlib import Path

import pyarrow as pa
import pytest
from selfloop.environments import Environment, environments, find_environment
from selfloop.errors import UserError
from selfloop.records import Task, to_batch

OWN = """
from selfloop.environments import Environment, Grade
from selfloop.records import Task


class Shout(Environment):
    name = "shout"
    summary = "a word in capitals"

    def tasks(self, level, count, seed):
        return [Task(f"shout-{n}", level, "", f"shout {'a' * (n + seed)}", "A" * (n + seed)) for n in range(count)]

    def check(self, task, completion):
        close = completion.upper() == task.answer
        return Grade(completion == task.answer, 1.0 if completion == task.answer else 0.5 * close, "compared")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    (tmp_path / "someones_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return find_environment("someones_tasks:Shout")


@pytest.mark.parametrize(
    "name",
    sorted(
        environments().keys()
        - {"reasoning-gym", "dataset", "programs", "mixture", "asked", "marked", "feasible", "views", "budgeted"}
    ),
)
def test_an_environment_is_found_by_its_name(name: str) -> None:
    environment = find_environment(name)
    assert environment.name == name
    assert environment.summary


def test_an_unknown_environment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="no environment 'additon': did you mean 'addition'"):
        find_environment("additon")


def test_where_no_name_is_near_all_are_listed() -> None:
    with pytest.raises(UserError, match="known are: addition, "):
        find_environment("zzzzzz")


def test_an_environment_of_ones_own_works_by_module_and_class(own: Environment) -> None:
    [task] = own.tasks(1, 1, seed=3)
    assert own.check(task, "AAA").ok
    assert own.offers == set()


def test_check_and_check_batch_agree_for_an_environment_of_ones_own(own: Environment) -> None:
    tasks, completions = own.tasks(1, 3, seed=1), ["A", "aa", "b"]
    columns = own.check_batch(to_batch(Task, tasks), pa.array(completions))
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == [
        own.check(task, text) for task, text in zip(tasks, completions, strict=True)
    ]
    assert columns[1].to_pylist() == [1.0, 0.5, 0.0]


def test_an_environment_of_ones_own_needs_no_guard_suites(own: Environment) -> None:
    assert own.guard_suites(1, 3, seed=1) == {}


def test_an_environment_of_ones_own_takes_no_proposals_unless_it_says_so(own: Environment) -> None:
    assert (own.proposals(1, 3, seed=1), own.non_policy_spans("AAA"), own.proposal_prompt) == ([], [], None)
    with pytest.raises(ValueError, match="shout takes no proposals"):
        own.parse_proposal("shout aaa", "x")


def test_an_empty_batch_has_columns_of_the_right_types(own: Environment) -> None:
    columns = own.check_batch(to_batch(Task, []), pa.array([], pa.string()))
    assert [str(column.type) for column in columns] == ["bool", "double", "string"]


@pytest.mark.parametrize("name", ["no_such_module:Shout", "selfloop.environments.addition:Subtraction"])
def test_a_module_or_class_that_is_not_there_is_said_by_name(name: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"No environment at '{name}'")):
        find_environment(name)
