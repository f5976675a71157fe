import json
from pathlib import Path

import pyarrow as pa
import pytest
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.records import Task, to_batch

from .conftest import DATA

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def math() -> Environment:
    return find_environment(f"math:{DATA}/math")


def test_levels_are_the_data_sets_own_over_all_subjects(math: Environment) -> None:
    assert math.levels == range(1, 6)
    assert [len(math.tasks(level, 100, seed=0)) for level in (1, 2, 3, 5)] == [2, 2, 1, 1]
    subjects = {json.loads(task.metadata)["subject"] for task in math.tasks(2, 100, seed=0)}
    assert subjects == {"Algebra", "Geometry"}


def test_the_answer_is_what_stands_in_the_last_box(math: Environment) -> None:
    assert {task.answer for task in math.tasks(2, 2, seed=0)} == {"5", "5\\sqrt{2}"}
    assert {task.answer for task in math.tasks(1, 2, seed=0)} == {"4", "\\frac{1}{3}"}


def test_rows_without_a_level_or_a_box_are_left_out(math: Environment) -> None:
    prompts = [task.prompt for level in (1, 2, 3, 5) for task in math.tasks(level, 100, seed=0)]
    assert not any("nobody knows" in prompt or "no box" in prompt for prompt in prompts)


def test_held_out_items_are_the_test_splits(math: Environment) -> None:
    assert {task.answer for task in math.held_out(1, 100, seed=0)} == {"7", "90^\\circ"}
    with pytest.raises(UserError, match=r"has no train tasks of level 4: it has some of level 1, 2, 3, 5\."):
        math.tasks(4, 1, seed=0)


def test_an_answer_is_right_however_it_is_written(math: Environment) -> None:
    [task] = math.tasks(3, 1, seed=0)
    for right in (math.demonstration(task), "\\boxed{x^2 + 2x}", "\\boxed{x \\cdot (2 + x)}"):
        assert math.check(task, right) == (True, 1.0, "correct")
    for wrong in ("\\boxed{x^2 + 2}", "\\boxed{y(y+2)}", ""):
        assert not math.check(task, wrong).ok


def test_check_and_check_batch_agree(math: Environment) -> None:
    tasks = [*math.tasks(1, 2, seed=0), *math.tasks(3, 1, seed=0)]
    completions = [math.demonstration(tasks[0]), "", "\\boxed{2x + x^2}"]
    columns = math.check_batch(to_batch(Task, tasks), pa.array(completions))
    grades = [math.check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == [True, False, True]


def test_what_is_not_math_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"question": "a", "answer": "1"}\n')
    with pytest.raises(UserError, match="lacks one of the columns problem, level, type and solution"):
        find_environment(f"math:{tmp_path}").tasks(1, 1, seed=0)
