import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.reverse import Reverse
from selfloop.records import Task, to_batch

SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.integers(1, 60)


def one(level: int, seed: int) -> Task:
    [task] = Reverse().tasks(level, 1, seed)
    return task


@given(LEVELS, SEEDS)
def test_the_answer_is_the_number_backwards(level: int, seed: int) -> None:
    task = one(level, seed)
    assert task.prompt == "".join(reversed(task.answer)) + "="
    assert len(task.answer) == level == task.level == task.max_tokens - 1


@given(LEVELS, SEEDS)
def test_a_text_has_only_characters_of_the_alphabet(level: int, seed: int) -> None:
    task = one(level, seed)
    assert set(task.prompt + task.answer) <= set(Reverse.alphabet)


@given(LEVELS, st.integers(0, 20), SEEDS)
def test_the_same_seed_gives_the_same_tasks(level: int, count: int, seed: int) -> None:
    tasks = Reverse().tasks(level, count, seed)
    assert tasks == Reverse().tasks(level, count, seed)
    assert len({task.id for task in tasks}) == count


@given(st.integers(4, 60), SEEDS, SEEDS)
def test_different_seeds_give_different_tasks(level: int, seed: int, other: int) -> None:
    assume(seed != other)
    prompts = [{task.prompt for task in Reverse().tasks(level, 5, s)} for s in (seed, other)]
    assert prompts[0] != prompts[1]


@given(LEVELS, st.integers(0, 20), SEEDS)
def test_a_guard_suites_number_repeats_at_most_two_digits(level: int, count: int, seed: int) -> None:
    [(name, made)] = Reverse().guard_suites(level, count, seed).items()
    assert name == "repeats"
    assert Reverse().guard_suites(level, count, seed) == {name: made}
    assert len({task.id for task in made + Reverse().tasks(level, count, seed)}) == 2 * count
    for task in made:
        assert task.prompt == task.answer[::-1] + "="
        assert len(task.answer) == level == task.level == task.max_tokens - 1
        assert len(set(task.answer)) <= 2


@given(LEVELS, SEEDS, st.text(max_size=61))
def test_the_check_accepts_the_answer_and_nothing_else(level: int, seed: int, text: str) -> None:
    task = one(level, seed)
    assume(text != task.answer)
    assert Reverse().check(task, task.answer) == (True, 1.0, "correct")
    for wrong in (text, task.answer[:-1], task.answer + "0", task.answer + "="):
        assert Reverse().check(task, wrong) == (False, 0.0, "wrong answer")


@given(LEVELS, SEEDS, st.lists(st.booleans(), max_size=8))
def test_check_and_check_batch_agree(level: int, seed: int, rights: list[bool]) -> None:
    tasks = Reverse().tasks(level, len(rights), seed)
    completions = [task.answer if right else task.answer[1:] for task, right in zip(tasks, rights, strict=True)]
    columns = Reverse().check_batch(to_batch(Task, tasks), pa.array(completions, pa.string()))
    grades = [Reverse().check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades


def test_it_offers_what_a_policy_from_scratch_needs() -> None:
    assert find_environment("reverse").offers == {"levels", "alphabet"}
