import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from selfloop.environments.addition import Addition
from selfloop.records import Task, to_batch

SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.integers(1, 60)


def one(level: int, seed: int) -> Task:
    [task] = Addition().tasks(level, 1, seed)
    return task


@given(LEVELS, SEEDS)
def test_the_answer_is_the_sum_written_backwards(level: int, seed: int) -> None:
    task = one(level, seed)
    a, b = (int(number[::-1]) for number in task.prompt.removesuffix("=").split("+"))
    assert int(task.answer[::-1]) == a + b


@given(LEVELS, SEEDS)
def test_both_numbers_have_as_many_digits_as_the_level_and_the_answer_one_more(level: int, seed: int) -> None:
    task = one(level, seed)
    a, b = task.prompt.removesuffix("=").split("+")
    assert len(a) == len(b) == level == len(task.answer) - 1
    assert level == 1 or not (a.endswith("0") or b.endswith("0"))


@given(LEVELS, SEEDS)
def test_answer_and_end_token_fit_into_what_a_task_allows(level: int, seed: int) -> None:
    task = one(level, seed)
    assert task.max_tokens == len(task.answer) + 1
    assert task.level == level


@given(LEVELS, SEEDS)
def test_a_text_has_only_characters_of_the_alphabet(level: int, seed: int) -> None:
    task = one(level, seed)
    assert set(task.prompt + task.answer) <= set(Addition.alphabet)


@given(LEVELS, st.integers(0, 20), SEEDS)
def test_the_same_seed_gives_the_same_tasks(level: int, count: int, seed: int) -> None:
    tasks = Addition().tasks(level, count, seed)
    assert tasks == Addition().tasks(level, count, seed)
    assert len({task.id for task in tasks}) == count


@given(st.integers(4, 60), SEEDS, SEEDS)
def test_different_seeds_give_different_tasks(level: int, seed: int, other: int) -> None:
    assume(seed != other)
    prompts = [{task.prompt for task in Addition().tasks(level, 5, s)} for s in (seed, other)]
    assert prompts[0] != prompts[1]


def carries(level: int, count: int, seed: int) -> list[Task]:
    [(name, tasks)] = Addition().guard_suites(level, count, seed).items()
    assert name == "carries"
    return tasks


@given(LEVELS, SEEDS)
def test_in_a_guard_suites_sum_a_carry_runs_through_all_digits(level: int, seed: int) -> None:
    for task in carries(level, 3, seed):
        left, right = task.prompt.removesuffix("=").split("+")
        assert len(left) == len(right) == level == len(task.answer) - 1
        assert level == 1 or not (left.endswith("0") or right.endswith("0"))
        assert int(task.answer[::-1]) == int(left[::-1]) + int(right[::-1])
        carried = 0
        for a, b in zip(left, right, strict=True):
            carried = (int(a) + int(b) + carried) // 10
            assert carried == 1
        assert task.max_tokens == level + 2


@given(LEVELS, st.integers(0, 20), SEEDS)
def test_the_same_seed_gives_the_same_guard_suite_with_ids_of_its_own(level: int, count: int, seed: int) -> None:
    made = carries(level, count, seed)
    assert made == carries(level, count, seed)
    assert len({task.id for task in made + Addition().tasks(level, count, seed)}) == 2 * count


def test_every_pair_of_digits_that_carries_occurs() -> None:
    seen = {tuple(task.prompt[:-1].split("+")) for task in carries(1, 2000, seed=1)}
    assert seen == {(str(a), str(b)) for a in range(1, 10) for b in range(10 - a, 10)}


@given(LEVELS, SEEDS, st.text("0123456789+= x", max_size=62))
def test_the_check_accepts_the_answer_and_nothing_else(level: int, seed: int, text: str) -> None:
    task = one(level, seed)
    assume(text != task.answer)
    assert Addition().check(task, task.answer) == (True, 1.0, "correct")
    for wrong in (text, task.answer[:-1], task.answer + "0", task.answer + " ", task.answer[::-1] + "x"):
        assert Addition().check(task, wrong) == (False, 0.0, "wrong answer")


@given(LEVELS, SEEDS, st.lists(st.booleans(), max_size=8))
def test_check_and_check_batch_agree(level: int, seed: int, rights: list[bool]) -> None:
    tasks = Addition().tasks(level, len(rights), seed)
    completions = [task.answer if right else task.answer[1:] for task, right in zip(tasks, rights, strict=True)]
    columns = Addition().check_batch(to_batch(Task, tasks), pa.array(completions, pa.string()))
    grades = [Addition().check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == rights


@pytest.mark.parametrize("level", [1, 4000])
def test_the_first_and_the_last_level_can_be_drawn(level: int) -> None:
    assert level in Addition.levels
    assert len(one(level, 0).answer) == level + 1
