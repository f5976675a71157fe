import ast
import json
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.code import KINDS, Code, metadata
from selfloop.errors import UserError
from selfloop.programs import program_in
from selfloop.records import Task, to_batch
from selfloop.sandbox.grading import taken_apart

pytestmark = pytest.mark.slow

LEVELS = st.integers(1, 20)
SEEDS = st.integers(0, 2**63 - 1)

HUMAN_EVAL = """
METADATA = {"author": "somebody"}

def check(candidate):
    assert candidate([1, 2, 3]) == 6
    assert candidate([]) == 0, "nothing adds up to zero"
"""


class Impatient(Code):
    seconds = 0.5


def own(tests: list[str], function: str = "", before: str = "") -> Task:
    return Task("mine", 1, "", "Add up.", "", metadata=metadata(tests, function, before))


@given(LEVELS, st.integers(0, 4), SEEDS)
@settings(max_examples=30)
def test_the_same_seed_gives_the_same_tasks(level: int, count: int, seed: int) -> None:
    tasks = Code().tasks(level, count, seed)
    assert tasks == Code().tasks(level, count, seed)
    assert len({task.id for task in tasks}) == len(tasks) == count
    assert all(task.level == level for task in tasks)


@given(LEVELS, SEEDS)
@settings(max_examples=30)
def test_a_task_has_as_many_steps_as_its_level_and_says_its_signature(level: int, seed: int) -> None:
    [task] = Code().tasks(level, 1, seed)
    assert len(re.findall(r"^\d+\. ", task.prompt, re.MULTILINE)) == level
    [function] = ast.parse(program_in(task.answer)).body
    signature = ast.unparse(function).splitlines()[0].removeprefix("def ").removesuffix(":")
    assert f"`{signature}`" in task.prompt
    assert len(function.body) == level + 1  # type: ignore[attr-defined]


@given(LEVELS, SEEDS)
@settings(max_examples=30)
def test_the_tests_tell_a_function_from_a_constant(level: int, seed: int) -> None:
    [task] = Code().tasks(level, 1, seed)
    tests = json.loads(task.metadata)["tests"]
    assert len({test.partition("==")[2] for test in tests}) >= 3


@pytest.mark.debian("bubblewrap")
@pytest.mark.parametrize("level", [1, 2, 5, 20])
def test_the_reference_solution_passes_and_doing_nothing_does_not(level: int) -> None:
    tasks = Code().tasks(level, 20, seed=1)
    ok, score, reason = Code().check_batch(to_batch(Task, tasks * 2), pa.array([t.answer for t in tasks] + [""] * 20))
    assert ok.to_pylist() == [True] * 20 + [False] * 20
    assert score.to_pylist() == [1.0] * 20 + [0.0] * 20
    assert reason.to_pylist() == ["correct"] * 20 + ["no such function"] * 20


@pytest.mark.debian("bubblewrap")
def test_check_and_check_batch_agree() -> None:
    [task] = Code().tasks(3, 1, seed=2)
    program = program_in(task.answer)
    completions = [
        task.answer,
        program,
        program.replace("return v", "return [v]"),
        "I do not know.",
        "while True: pass",
    ]
    columns = Impatient().check_batch(to_batch(Task, [task] * 5), pa.array(completions))
    grades = list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert grades == [Impatient().check(task, completion) for completion in completions]
    reasons = ["correct", "correct", "wrong answer on test 1", "syntax error", "timeout"]
    assert [reason for _, _, reason in grades] == reasons


def test_an_empty_batch_has_columns_of_the_right_types() -> None:
    columns = Code().check_batch(to_batch(Task, []), pa.array([], pa.string()))
    assert [str(column.type) for column in columns] == ["bool", "double", "string"]


@pytest.mark.debian("bubblewrap")
def test_the_program_of_an_answer_in_a_chat_is_run() -> None:
    task = own(["assert total([1, 2]) == 3"], before="import math\n")
    said = "So:\r\n~~~py3\r\ndef total(xs):\r\n    return math.fsum(xs)\r\n~~~\r\nIt prints:\r\n```\r\n3\r\n```"
    assert Code().check(task, said).ok


@pytest.mark.debian("bubblewrap")
def test_tests_of_a_data_set_are_judged_in_both_customary_forms() -> None:
    mbpp = own(["assert total([1, 2]) == 3", "assert abs(total([0.1, 0.2]) - 0.3) < 1e-9"])
    human = own([HUMAN_EVAL], "total", "from typing import List\n\ndef total(xs: List[int]) -> int:\n")
    assert Code().check(mbpp, "def total(xs): return sum(xs)").ok
    assert Code().check(mbpp, "def total(xs): return xs[0] + xs[1]").ok
    assert Code().check(human, "    return sum(xs)\n").ok
    assert Code().check(human, "    return xs[0] + xs[1] + xs[2]\n") == (False, 0.5, "IndexError on test 2")


def test_tests_that_cannot_be_judged_outside_are_refused_when_the_task_is_made() -> None:
    with pytest.raises(UserError, match="cannot be judged outside the sandbox"):
        own(["try:\n    f(1)\nexcept ValueError:\n    pass"])
    with pytest.raises(UserError, match="call no function"):
        own(["assert 1 == 1"])


def test_a_task_without_tests_is_said_by_name() -> None:
    task = Task("bare", 1, "", "Add up.", "")
    with pytest.raises(UserError, match=r"Task bare has no unit tests"):
        Code().check(task, "x = 1")


def test_every_step_works_for_every_number_it_may_have() -> None:
    for _, steps, _ in KINDS.values():
        for step in steps:
            for number in step.numbers:
                ast.parse(step.code.format(n=number))
                assert "{" not in step.words.format(n=number)


def test_it_offers_levels_and_no_alphabet() -> None:
    environment = find_environment("code")
    assert environment.offers == {"levels"}
    [task] = environment.tasks(1, 1, seed=0)
    assert taken_apart(tuple(json.loads(task.metadata)["tests"]), "solve").calls
