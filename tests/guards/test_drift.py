from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop.guards import Alarm
from selfloop.guards.forgetting import at_least
from selfloop.records import ItemResult

from .conftest import Round, alarm, reading, told


def lengths(champion: int, candidate: int, suite: str = "old") -> list[ItemResult]:
    return [
        ItemResult(policy, suite, 1, f"{n}", 0, True, "x" * (size + n))
        for policy, size in (("champion", champion), ("candidate", candidate))
        for n in (-1, 0, 1)
    ]


@pytest.mark.parametrize(
    ("candidate", "level"), [(10, "green"), (14, "green"), (16, "yellow"), (20, "red"), (6, "yellow"), (5, "red")]
)
def test_answers_to_old_items_that_grow_or_shrink_trip(candidate: int, level: str, evidence: Round) -> None:
    new = lengths(10, 1000, "target")  # there, longer answers are what the loop is for
    assert alarm("length", evidence(answers=lengths(10, candidate) + new)).level == level


def test_a_slow_drift_adds_up_over_the_rounds_that_were_promoted(evidence: Round) -> None:
    past, levels, size = list[dict[str, Any]](), list[str](), 100
    for number in range(1, 8):
        found = alarm("length", evidence(answers=lengths(size, size * 5 // 4), past=past))
        promoted = number % 2 == 1  # the longer answers of the others are gone with their candidates
        past.append(told(number, promoted, length=found))
        size = size * 5 // 4 if promoted else size
        levels.append(found.level)
    assert levels == ["green", "yellow", "yellow", "yellow", "yellow", "red", "red"]


@given(st.lists(st.tuples(st.integers(2, 40), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_drift_is_the_length_of_the_candidate_against_the_first_champion(
    evidence: Round, rounds: list[tuple[int, bool]]
) -> None:
    past, in_force = list[dict[str, Any]](), 10
    for number, (size, promoted) in enumerate(rounds):
        found = alarm("length", evidence(answers=lengths(in_force, size), past=past))
        assert found.memory["candidate"] == pytest.approx(log2(size / 10), abs=1e-9)
        past.append(told(number, promoted, length=found))
        in_force = size if promoted else in_force


def test_a_policy_that_falls_silent_trips_and_is_no_infinity(evidence: Round) -> None:
    silent = [r._replace(completion="") if r.policy == "candidate" else r for r in lengths(8, 8)]
    found = alarm("length", evidence(answers=silent))
    assert (found.value, found.level) == (3, "red")
    both = [r._replace(completion="") for r in silent]
    assert alarm("length", evidence(answers=both)).value == 0


def test_without_old_items_nothing_is_said_of_length_and_forgetting(evidence: Round) -> None:
    round = evidence(answers=lengths(10, 90, "target"))
    assert reading("length", round).value is None
    assert reading("forgetting", round).value is None


ITEMS = 400


def old(accuracy: dict[int, float]) -> list[ItemResult]:
    """The champion's answers to old items, and a candidate that knows nothing."""
    answers = []
    for level, right in accuracy.items():
        for n in range(ITEMS):
            answers.append(ItemResult("champion", "old", level, f"{level} {n}", 0, n < ITEMS * right, "x"))
            answers.append(ItemResult("candidate", "old", level, f"{level} {n}", 0, False, "x"))
    return answers


def forgets(evidence: Round, *accuracies: dict[int, float]) -> list[Alarm]:
    past, found = list[dict[str, Any]](), list[Alarm]()
    for number, accuracy in enumerate(accuracies, start=1):
        target = [ItemResult("champion", "target", 1, "t", 0, False, "x")]
        found.append(alarm("forgetting", evidence(answers=old(accuracy) + target, past=past)))
        past.append(told(number, True, forgetting=found[-1]))
    return found


def test_small_losses_that_each_pass_the_gate_add_up(evidence: Round) -> None:
    found = forgets(evidence, {1: 1, 2: 0.9}, {1: 1, 2: 1}, {1: 1, 2: 0.88}, {1: 0.9, 2: 0.85}, {1: 0.9, 2: 1})
    assert [each.value for each in found[1:]] == pytest.approx([-0.06, 0.06, 0.125, 0.05], abs=0.01)
    assert [each.level for each in found] == ["green", "green", "yellow", "red", "green"]
    assert found[3].says == "2 old levels are 0.123 below their best, level 2 is 0.148 below"
    assert found[3].memory == pytest.approx({"1": 1, "2": 1}, abs=0.003)


def test_levels_count_from_when_they_became_old_and_are_remembered_while_they_are_not_asked(evidence: Round) -> None:
    found = forgets(evidence, {1: 1}, {2: 1}, {1: 0.5, 3: 1})
    assert [each.value for each in found] == [None, None, pytest.approx(0.5, abs=0.003)]
    assert found[-1].memory == pytest.approx({"1": 1, "2": 1, "3": 1}, abs=0.003)


@given(st.integers(1, 200), st.data())
def test_the_lower_bound_lies_below_the_share_and_comes_near_it(number: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, number))
    bound = at_least(right, number)
    assert 0 <= bound <= right / number
    assert right / number - bound <= number**-0.5
    assert at_least(100 * right, 100 * number) >= bound


def test_the_luck_of_fresh_items_is_no_forgetting(evidence: Round) -> None:
    rng, past, levels = np.random.default_rng(0), list[dict[str, Any]](), list[str]()
    for number in range(40):
        lucky = [
            ItemResult("champion", "old", level, f"{level} {n}", 0, bool(rng.random() < 0.97), "x")
            for level in range(8)
            for n in range(64)
        ]
        found = alarm("forgetting", evidence(answers=lucky, past=past))
        past.append(told(number, True, forgetting=found))
        levels.append(found.level)
    assert set(levels) == {"green"}
