import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.countdown import Countdown, given_in, worked_out
from selfloop.environments.search import HABITS, SO, TRIES, parts
from selfloop.errors import UserError
from selfloop.split import part_of

COUNTDOWN = Countdown()
LEVELS, SEEDS = st.integers(1, 4), st.integers(0, 2**63 - 1)


@given(LEVELS, SEEDS)
@settings(max_examples=40)
def test_every_habit_that_is_shown_is_so(level: int, seed: int) -> None:
    everything = find_environment("search:all")
    for task in everything.tasks(level, 4, seed):
        numbers, target = given_in(task)
        trace, _, answer = everything.demonstration(task).partition(SO)
        assert answer == task.answer
        *given_up, last = trace.split("<back>")
        assert len(given_up) <= TRIES
        for tried in [*given_up, last]:
            goal, left, text, value = re.fullmatch(
                r"<goal>([0-9/]+)(?:<from>([^:]*))?:(.+)<check>([0-9]+)", tried
            ).groups()  # type: ignore[union-attr]
            assert worked_out(text) == (Fraction(value), worked_out(text)[1])
            assert sorted(worked_out(text)[1]) == sorted(numbers)
            assert (int(value) == target) is (tried is last)
            if left:
                chained, _, needed = left.partition("=")
                assert worked_out(chained)[0] == int(needed)
                assert (Fraction(goal) == int(needed)) is (int(value) == target)


@given(LEVELS, SEEDS, st.sampled_from(["all", "wrong", "empty", "dots", "back", "check-from"]))
@settings(max_examples=60)
def test_primings_are_shown_other_searches_for_the_same_problems(level: int, seed: int, shows: str) -> None:
    environment = find_environment(f"search:{shows}")
    for task, plain in zip(environment.tasks(level, 3, seed), COUNTDOWN.tasks(level, 3, seed), strict=True):
        text = environment.demonstration(task)
        assert environment.check(task, text).ok is (shows != "wrong")
        assert task._replace(max_tokens=plain.max_tokens) == plain
        assert part_of(environment, task) == part_of(COUNTDOWN, plain)
        tokens = re.findall(r"<[a-z]+>|.", text)
        assert len(tokens) < task.max_tokens
        assert {token for token in tokens if len(token) == 1} <= set(environment.alphabet or "")
        assert {token for token in tokens if len(token) > 1} <= set(environment.special_tokens)
        shown = {habit for habit, times in environment.traits(text).items() if times}
        assert shown <= set({"all": HABITS, "wrong": HABITS}.get(shows, shows.split("-")))
        if shows == "dots":
            alike = re.findall(r"<[a-z]+>|.", find_environment("search:all").demonstration(task))
            assert text == "." * alike.index(SO) + SO + task.answer


@given(LEVELS, SEEDS)
@settings(max_examples=20)
def test_the_answer_alone_is_judged(level: int, seed: int) -> None:
    environment = find_environment("search:all")
    [task] = environment.tasks(level, 1, seed)
    assert environment.check(task, f"1+1<check>2{SO}{task.answer}").ok
    assert environment.check(task, f"{task.answer}{SO}1").reason == "not the given numbers"
    assert environment.check(task, task.answer).reason == "no answer"
    assert environment.traits("<back><check><back>") == {"check": 1, "back": 2, "goal": 0, "from": 0}


def test_what_the_target_leaves_for_the_first_part() -> None:
    assert parts("(2+9)*2+4", 26) == (Fraction(22), "26-4=22")
    assert parts("9-4", 26) == (Fraction(9), "26+4=30")
    assert parts("9*4", 26) == (Fraction(9), ""), "no whole number"
    assert parts("8/4", 26) == (Fraction(8), "26*4=104")


def test_an_unknown_habit_is_refused() -> None:
    with pytest.raises(UserError, match="'guess' of 'search:back-guess' is no habit: write check, back, goal, from"):
        find_environment("search:back-guess")
