from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop.guards import Alarm
from selfloop.records import ItemResult

from .conftest import Round, alarm, reading, told


def lengths(champion: int, candidate: int, suite: str = "old", times: int = 20) -> list[ItemResult]:
    return [
        ItemResult(policy, suite, 1, f"{item}", 0, True, "x" * (size + n))
        for policy, size in (("champion", champion), ("candidate", candidate))
        for item, n in enumerate((-1, 0, 1) * times)
    ]


@pytest.mark.parametrize(
    ("candidate", "level"), [(10, "green"), (14, "green"), (23, "yellow"), (40, "red"), (4, "yellow"), (2, "red")]
)
def test_answers_to_old_items_that_grow_or_shrink_trip(candidate: int, level: str, evidence: Round) -> None:
    new = lengths(10, 1000, "target")  # there, longer answers are what the loop is for
    assert alarm("length", evidence(answers=lengths(10, candidate) + new)).level == level


def test_a_slow_drift_adds_up_over_the_rounds_that_were_promoted(evidence: Round) -> None:
    past, levels, size = list[dict[str, Any]](), list[str](), 100
    for number in range(1, 8):
        found = alarm("length", evidence(answers=lengths(size, size * 4 // 3, times=100), past=past))
        promoted = number % 2 == 1  # the longer answers of the others are gone with their candidates
        past.append(told(number, promoted, length=found))
        size = size * 4 // 3 if promoted else size
        levels.append(found.level)
    assert levels == ["green", "yellow", "yellow", "red", "red", "red", "red"]


@given(st.lists(st.tuples(st.integers(5, 30), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_drift_is_the_length_of_the_candidate_against_the_first_champion(
    evidence: Round, rounds: list[tuple[int, bool]]
) -> None:
    past, in_force = list[dict[str, Any]](), 10
    for number, (size, promoted) in enumerate(rounds):
        found = alarm("length", evidence(answers=lengths(in_force, size), past=past))
        assert found.value == pytest.approx(abs(log2(size / 10)), abs=0.02 * len(rounds))
        past.append(told(number, promoted, length=found))
        in_force = size if promoted else in_force


def test_a_policy_that_falls_silent_trips_and_is_no_infinity(evidence: Round) -> None:
    silent = [r._replace(completion="") if r.policy == "candidate" else r for r in lengths(8, 8)]
    found = alarm("length", evidence(answers=silent))
    assert found.value == pytest.approx(3, abs=0.1)
    assert found.level == "red"
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
    found = forgets(evidence, {1: 1, 2: 0.9}, {1: 1, 2: 1}, {1: 1, 2: 0.9}, {1: 0.9, 2: 0.7}, {1: 0.9, 2: 1})
    assert [each.value for each in found[1:]] == pytest.approx([-0.05, 0.05, 0.2, 0.05])
    assert [each.level for each in found] == ["green", "green", "green", "red", "green"]
    assert found[3].says == "80.0% of 800 old items are solved, 100.0% were at the best"
    assert found[3].memory == {"1": {"0": 40, "1": 360}, "2": {"0": 120, "1": 280}}


def test_levels_count_from_when_they_became_old_and_are_remembered_while_they_are_not_asked(evidence: Round) -> None:
    found = forgets(evidence, {1: 1}, {2: 1}, {1: 0.5, 3: 1})
    assert [each.value for each in found] == [None, None, 0.5]
    assert found[-1].memory.keys() == {"1", "3"}


def test_the_items_of_a_cluster_are_one_unit(evidence: Round) -> None:
    together = [each._replace(cluster=f"{n // 40}") for n, each in enumerate(old({1: 0.9}))]
    assert sum(reading("forgetting", evidence(answers=together)).memory["1"].values()) == 20


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
