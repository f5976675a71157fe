from pathlib import Path

import pytest
from selfloop.environments import Environment, find_environment
from selfloop.environments.gsm8k import GSM8K
from selfloop.errors import UserError

from .conftest import DATA

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def gsm8k() -> Environment:
    return find_environment(f"gsm8k:{DATA}/gsm8k")


def test_the_level_is_the_number_of_steps_of_the_solution(gsm8k: Environment) -> None:
    assert [len(gsm8k.tasks(level, 100, seed=0)) for level in (1, 2, 3)] == [3, 1, 2]
    for task in gsm8k.tasks(3, 2, seed=0):
        assert gsm8k.demonstration(task).count("=") == 3
        assert "<<" not in gsm8k.demonstration(task)


def test_tasks_are_the_training_split_and_held_out_items_the_test_split(gsm8k: Environment) -> None:
    assert {task.answer for task in gsm8k.tasks(1, 100, seed=0)} == {"42", "27", "15"}
    assert {task.answer for task in gsm8k.held_out(1, 100, seed=0)} == {"72"}


def test_the_answer_is_compared_as_a_number(gsm8k: Environment) -> None:
    [task] = [task for task in gsm8k.tasks(3, 2, seed=0) if task.answer == "1,470"]
    for right in (gsm8k.demonstration(task), "\\boxed{1470}", "So \\boxed{\\$1,470.00}", "#### 1470"):
        assert gsm8k.check(task, right) == (True, 1.0, "correct")
    assert gsm8k.check(task, "\\boxed{1471}") == (False, 0.0, "wrong answer")
    assert gsm8k.check(task, "about 1470") == (False, 0.0, "no number as the final answer")


def test_the_policy_is_asked_for_a_box(gsm8k: Environment) -> None:
    [task] = gsm8k.held_out(1, 1, seed=0)
    assert task.prompt == (
        "A gardener plants 9 rows of 8 tulips. How many tulips are that?\n\n"
        "Think step by step, then put the final answer in \\boxed{}."
    )
    assert gsm8k.demonstration(task) == "9*8=72 tulips.\n\\boxed{72}"


def test_votes_are_counted_on_numbers() -> None:
    gsm8k = GSM8K(f"{DATA}/gsm8k")
    assert gsm8k.extract_answer("\\boxed{1,470}") == gsm8k.extract_answer("#### 1470.0") == "1470"
    assert gsm8k.extract_answer("\\boxed{many}") == ""


def test_what_is_not_gsm8k_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "a", "answer": "1"}\n')
    with pytest.raises(UserError, match="is no copy of openai/gsm8k: it has no split 'test'"):
        find_environment(f"gsm8k:{tmp_path}/train.jsonl").tasks(1, 1, seed=0)
    (tmp_path / "test.jsonl").write_text('{"question": "a", "answer": "#### 1"}\n')
    with pytest.raises(UserError, match="row 1 is none of GSM8K"):
        find_environment(f"gsm8k:{tmp_path}").tasks(1, 1, seed=0)
    with pytest.raises(UserError, match="There is no data set at /no/where"):
        find_environment("gsm8k:/no/where")
