import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.lookup import LEVELS, Lookup
from selfloop.errors import UserError

LOOKUP = Lookup()
SEEDS = st.integers(0, 2**63 - 1)
SOME = st.sampled_from(LEVELS)


def passages(prompt: str) -> dict[str, tuple[str, str]]:
    """What each passage says, by its number."""
    return {number: (name, said) for number, name, said in re.findall(r"\[(\d)\](\w\w)=(\w\w)", prompt)}


@given(SOME, SEEDS)
@settings(max_examples=40)
def test_what_is_cited_leads_from_the_name_to_the_number(level: int, seed: int) -> None:
    for task in LOOKUP.tasks(level, 4, seed):
        written, there = LOOKUP.demonstration(task), passages(task.prompt)
        assert len(there) == level == task.level
        name = task.prompt.rpartition("?")[2].removesuffix(":")
        for number in re.findall(r"\[(\d)\]", written):
            assert there[number][0] == name
            name = there[number][1]
        assert name == task.answer == LOOKUP.extract_answer(written)
        assert LOOKUP.check(task, written) == (True, 1.0, "correct")
        assert len(written) < task.max_tokens
        assert set(task.prompt + written) <= set(Lookup.alphabet)


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_the_right_number_with_other_passages_is_wrong_and_worth_half(level: int, seed: int) -> None:
    [task] = LOOKUP.tasks(level, 1, seed)
    written = LOOKUP.demonstration(task)
    assert LOOKUP.check(task, f"[9]{written}") == (False, 0.5, "wrong passages")
    assert LOOKUP.check(task, f"{written[:-2]}{(int(task.answer) + 1) % 100:02}").reason == "wrong number"
    assert LOOKUP.check(task, task.answer).reason == LOOKUP.check(task, "").reason == "no citation and number"


@given(SOME, SEEDS, st.data())
@settings(max_examples=40)
def test_passages_restate_an_attempt_where_they_lead_to_all_that_it_cites_and_says(
    level: int, seed: int, data: st.DataObject
) -> None:
    [task] = LOOKUP.tasks(level, 1, seed)
    attempt, text = LOOKUP.demonstration(task), LOOKUP.restated(task)
    asked = LOOKUP.asked("restate", task, [attempt])
    assert asked.prompt == f"{level}{attempt}<restate>:"
    assert LOOKUP.retold(task, text) == task.prompt
    place, sign = data.draw(st.integers(0, len(text) - 1)), data.draw(st.sampled_from(Lookup.alphabet))
    for said in (text, text[:place] + sign + text[place + 1 :], text[:place]):
        ok = LOOKUP.check_restated(task, attempt, said).ok
        lines = passages(f"{said}:") if ok else {}
        assert ok or said != text
        assert not ok or (len(lines) == level and attempt == LOOKUP.demonstration(task._replace(prompt=f"{said}:")))
    for odd in ("[1]ab=cd[2]cd=ab?ab", "[1]ab=17[2]ab=17?ab", "[1]ab=17[3]cd=40?ab", "[1]ab=17?ab", "?ab", ""):
        assert not LOOKUP.check_restated(task._replace(level=2), "[1]17", odd).ok
    assert LOOKUP.check_restated(task._replace(level=2), "[1]17", "[1]ab=17[2]cd=40?ab").ok


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_names_of_the_guard_suite_are_near_and_those_of_tasks_are_not(level: int, seed: int) -> None:
    for task, shared in [(task, 0) for task in LOOKUP.tasks(level, 3, seed)] + [
        (task, 1) for task in LOOKUP.guard_suites(level, 3, seed).get("near", [])
    ]:
        name = task.prompt[-3:-1]
        others = [each for each, _ in passages(task.prompt).values() if each != name]
        assert all(sum(a == b for a, b in zip(name, each, strict=True)) == shared for each in others)
        assert LOOKUP.check(task, LOOKUP.demonstration(task)).ok


@given(SOME, SEEDS)
@settings(max_examples=10)
def test_the_same_seed_gives_the_same_tasks_and_no_prompt_comes_twice(level: int, seed: int) -> None:
    drawn = LOOKUP.tasks(level, 20, seed)
    assert drawn == LOOKUP.tasks(level, 20, seed)
    assert len({task.prompt for task in drawn}) == len(drawn) == 20


def test_a_level_that_is_not_there_is_refused() -> None:
    assert find_environment("lookup").offers == {"levels", "alphabet", "plain positions", "restate"}
    with pytest.raises(UserError, match="lookup has levels 1 to 9, not 10"):
        LOOKUP.tasks(10, 1, 0)
