import itertools
import re
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import Grade, find_environment
from selfloop.environments.countdown import Countdown, worked_out
from selfloop.errors import UserError
from selfloop.records import Task, to_batch

SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.sampled_from(Countdown.levels)
TASK = Task("x", 2, "", "3,7,8=29:", "3*7+8")


def numbers_of(task: Task) -> list[int]:
    return sorted(map(int, task.prompt.split("=")[0].split(",")))


@given(LEVELS, SEEDS)
@settings(max_examples=30)
def test_every_task_can_be_solved_by_its_answer(level: int, seed: int) -> None:
    made = Countdown().tasks(level, 20, seed)
    made += itertools.chain(*Countdown().guard_suites(level, 20, seed).values())
    for task in made:
        assert Countdown().check(task, task.answer) == (True, 1.0, "correct"), task
        assert len(numbers_of(task)) == task.level + 1
        assert len(task.answer) < task.max_tokens


@given(LEVELS, SEEDS)
@settings(max_examples=30)
def test_a_text_has_only_characters_of_the_alphabet(level: int, seed: int) -> None:
    suites = Countdown().guard_suites(level, 10, seed).values()
    for task in itertools.chain(Countdown().tasks(level, 10, seed), *suites):
        assert set(task.prompt + task.answer) <= set(Countdown.alphabet)


@given(LEVELS, st.integers(0, 40), SEEDS)
@settings(max_examples=30)
def test_the_same_seed_gives_the_same_tasks_and_fewer_are_the_first_of_more(level: int, count: int, seed: int) -> None:
    tasks = Countdown().tasks(level, count, seed)
    assert tasks == Countdown().tasks(level, count, seed) == Countdown().tasks(level, 50, seed)[:count]
    assert len({task.id for task in tasks}) == len({task.prompt for task in tasks}) == count


def test_a_problem_is_its_target_and_its_numbers_in_whatever_order() -> None:
    for task in Countdown().tasks(2, 200, 1):
        numbers, target = task.prompt.split("=")
        turned = f"{','.join(reversed(numbers.split(',')))}={target}"
        assert Countdown().content(task) == Countdown().content(task._replace(prompt=turned))
        assert Countdown().content(task) != Countdown().content(task._replace(prompt=f"{numbers}=101:"))


def test_a_level_with_fewer_problems_than_asked_for_gives_each_once() -> None:
    everything = Countdown().tasks(1, 5000, 1)
    assert len(everything) < 300
    assert {task.prompt for task in everything} == {task.prompt for task in Countdown().tasks(1, 5000, 2)}


def test_guard_suites_have_larger_numbers_and_larger_targets() -> None:
    suites = Countdown().guard_suites(3, 20, seed=1)
    assert min(itertools.chain(*map(numbers_of, suites["numbers"]))) >= 10
    assert all(re.fullmatch(r"[\d,]+=\d{3}:", task.prompt) for task in suites["targets"])
    assert suites.keys() == {"numbers", "targets"}
    assert Countdown().guard_suites(1, 3, seed=1).keys() == {"numbers"}


@pytest.mark.parametrize(
    "text", ["3*7+8", "8+7*3", "(3*7)+8", " 8 + 3 * 7 ", "8+(7)*3", "((3*7)+8)"], ids=lambda text: f"<{text}>"
)
def test_any_expression_that_is_the_target_is_right(text: str) -> None:
    assert Countdown().check(TASK, text) == (True, 1.0, "correct")


def test_the_arithmetic_is_exact() -> None:
    task = Task("x", 3, "", "3,3,8,8=24:", "8/(3-8/3)")
    assert Countdown().check(task, "8/(3-8/3)").ok
    assert worked_out("1/3+1/3+1/3")[0] == Fraction(1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3+7+8", "not the target"),
        ("29", "not the given numbers"),
        ("3*7+8+8-8", "not the given numbers"),
        ("37-8", "not the given numbers"),
        ("3*7+8*1", "not the given numbers"),
        ("3/(7-7)+8", "division by zero"),
        ("", "not an expression"),
        ("3*7+", "not an expression"),
        ("3*7+8=29", "not an expression"),
        ("3**7+8", "not an expression"),
        ("3//7+8", "not an expression"),
        ("-3*-7+8", "not an expression"),
        ("03*7+8", "not an expression"),
        ("3(7)+8", "not an expression"),
        ("(3,7,8)", "not an expression"),
        ("3*7+8\n", "not an expression"),
        ("3*7+8\0", "not an expression"),
        ("٣*7+8", "not an expression"),
        ("__import__('os')", "not an expression"),
        ("(" * 5000 + "3*7+8" + ")" * 5000, "not an expression"),
        ("(" * 97 + "3*7+8" + ")" * 97, "correct"),
        ("9" * 5000, "not an expression"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_wrong_is_said(text: str, reason: str) -> None:
    assert Countdown().check(TASK, text) == Grade(reason == "correct", float(reason == "correct"), reason)


@given(st.text("37829+-*/() ", max_size=30))
def test_no_text_breaks_the_check(text: str) -> None:
    grade = Countdown().check(TASK, text)
    assert grade.ok == (grade.reason == "correct")


def test_check_and_check_batch_agree() -> None:
    tasks = Countdown().tasks(2, 3, seed=1)
    completions = [tasks[0].answer, tasks[0].answer, ""]
    columns = Countdown().check_batch(to_batch(Task, tasks), pa.array(completions))
    grades = [Countdown().check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == [True, False, False]


def test_a_level_beyond_the_last_is_refused() -> None:
    with pytest.raises(UserError, match="countdown has levels 1 to 5, not 6"):
        Countdown().tasks(6, 1, seed=0)


def test_it_offers_what_a_policy_from_scratch_needs() -> None:
    assert find_environment("countdown").offers == {"levels", "alphabet", "plain positions"}
