import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.formulas import LEVELS, WAYS, Formulas, run
from selfloop.errors import UserError
from selfloop.split import part_of

FORMULAS = Formulas()
SEEDS = st.integers(0, 2**63 - 1)
SOME = st.sampled_from(LEVELS)
PYTHON = str.maketrans({"!": " not ", "&": " and ", "|": " or "})


@given(SOME, SEEDS)
@settings(max_examples=40)
def test_python_agrees_with_every_way_and_the_text_fits(level: int, seed: int) -> None:
    for task in FORMULAS.tasks(level, 6, seed):
        row, _, formula = task.prompt.partition(">")[2].removesuffix("=").partition(":")
        values = {name: bool(int(value)) for name, value in (each.split("=") for each in row.split(","))}
        written = FORMULAS.demonstration(task)
        assert task.answer == str(int(eval(formula.translate(PYTHON), {}, values)))
        assert FORMULAS.check(task, written) == (True, 1.0, "correct")
        assert FORMULAS.extract_answer(written) == task.answer
        assert len(written) < task.max_tokens
        assert set(task.prompt.partition(">")[2] + written) <= set(Formulas.alphabet)
        assert sum(map(formula.count, "!&|")) == level == task.level


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_every_step_of_a_chain_has_the_same_value_and_one_operation_less(level: int, seed: int) -> None:
    [task] = Formulas("chain").tasks(level, 1, seed)
    steps = FORMULAS.demonstration(task).split(";")
    assert {str(int(eval(step.translate(PYTHON).replace("1", "True").replace("0", "False")))) for step in steps} == {
        task.answer
    }
    assert [sum(map(step.count, "!&|")) for step in steps] == [*range(level, -1, -1)]


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_a_problem_is_one_in_every_way_and_in_one_part(level: int, seed: int) -> None:
    tasks = FORMULAS.tasks(level, 9, seed)
    assert tasks == FORMULAS.tasks(level, 9, seed)
    assert len({task.prompt for task in tasks}) == len(tasks)
    for first in range(0, len(tasks) - 2, 3):
        three = tasks[first : first + 3]
        assert [task.prompt.partition(">")[0] for task in three] == [f"<{way}" for way in WAYS]
        assert len({FORMULAS.content(task) for task in three}) == len({part_of(FORMULAS, task) for task in three}) == 1


def test_what_has_not_the_form_of_its_way_is_wrong_even_where_its_value_is_right() -> None:
    tasks = {task.prompt[1:].partition(">")[0]: task for task in FORMULAS.tasks(2, 3, 1)}
    for way, task in tasks.items():
        other = FORMULAS.demonstration(tasks["table" if way != "table" else "program"])
        assert not FORMULAS.check(task, other).ok
        flipped = FORMULAS.demonstration(task)[:-1] + str(1 - int(task.answer))
        assert not FORMULAS.check(task, flipped).ok
    opposite = str(1 - int(tasks["program"].answer))
    said = {
        text: FORMULAS.check(tasks["program"], text).reason
        for text in ("&=1", f"1=0{opposite}", f"{opposite}={opposite}")
    }
    assert list(said.values()) == ["not a program", "not what the program leaves", "wrong value"]


@given(st.text("01!&|ab", max_size=12))
def test_a_program_leaves_one_value_or_is_none(program: str) -> None:
    taken = 0
    for sign in program:
        taken += {"!": 0, "&": -1, "|": -1}.get(sign, 1)
        if taken < 1:
            break
    if taken == 1:
        assert run(program, {"a": "1", "b": "0"}) in ("0", "1")
    else:
        with pytest.raises(ValueError, match="not a program"):
            run(program, {"a": "1", "b": "0"})


def test_its_guard_suite_holds_negations_and_what_is_not_there_is_refused() -> None:
    suite = FORMULAS.guard_suites(3, 7, 0)["negated"]
    assert all(task.prompt.partition(":")[2].startswith("!") for task in suite)
    assert all(FORMULAS.check(task, FORMULAS.demonstration(task)).ok for task in suite)
    assert find_environment("formulas:table").offers == {"levels", "alphabet", "plain positions"}
    with pytest.raises(UserError, match="way of formulas 'tabel': did you mean 'table'"):
        find_environment("formulas:tabel")
    with pytest.raises(UserError, match="formulas has levels 1 to 8, not 9"):
        FORMULAS.tasks(9, 1, 0)
