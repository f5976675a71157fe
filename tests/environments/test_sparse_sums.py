import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.sparse_sums import LENGTH, PLACES, SparseSums
from selfloop.errors import UserError
from selfloop.records import Task

SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.integers(1, len(PLACES))


def digits_of(task: Task) -> list[int]:
    return [int(letter) for letter in task.prompt.partition(":")[2].removesuffix("=")]


@given(LEVELS, SEEDS)
def test_the_answer_is_the_sum_of_the_level_s_places(level: int, seed: int) -> None:
    [task] = SparseSums().tasks(level, 1, seed)
    given = digits_of(task)
    assert len(given) == LENGTH
    assert int(task.answer) == sum(given[place] for place in PLACES[:level]) % 10
    assert set(task.prompt + task.answer) <= set(SparseSums.alphabet)
    assert SparseSums().check(task, task.answer).ok


@given(LEVELS, SEEDS, st.integers(0, LENGTH - 1), st.integers(1, 9))
def test_only_the_level_s_places_change_the_answer(level: int, seed: int, place: int, more: int) -> None:
    """A level adds one place to what the level below it needs."""
    [task] = SparseSums().tasks(level, 1, seed)
    given = digits_of(task)
    changed = [(digit + more * (number == place)) % 10 for number, digit in enumerate(given)]
    moved = (sum(changed[at] for at in PLACES[:level]) - int(task.answer)) % 10
    assert moved == (more if place in PLACES[:level] else 0)


@given(LEVELS, st.integers(0, 20), SEEDS)
def test_the_same_seed_gives_the_same_tasks(level: int, count: int, seed: int) -> None:
    tasks = SparseSums().tasks(level, count, seed)
    assert tasks == SparseSums().tasks(level, count, seed)
    assert len({task.id for task in tasks}) == count


def test_a_level_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match=f"sparse-sums has levels 1 to {len(PLACES)}, not 7"):
        find_environment("sparse-sums").tasks(7, 1, 0)
