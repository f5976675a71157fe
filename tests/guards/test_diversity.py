import re
from collections import Counter
from math import log
from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.guards import Alarm, counted
from selfloop.records import BATCH_ROWS, ItemResult

from .conftest import Round, Said, alarm, reading, told


def groups(number: int, completions: str, truth: bool | None = False) -> list[Said]:
    """Tasks whose attempts say these letters."""
    return [(f"{completions} {task}", letter, True, truth) for task in range(number) for letter in completions]


both = pytest.mark.parametrize("name", ["distinct", "entropy"])


@both
def test_attempts_that_come_to_say_the_same_trip(name: str, evidence: Round) -> None:
    past, found = list[dict[str, Any]](), list[Alarm]()
    for number, differ in enumerate([60, 60, 40, 14, 8, 0, 60]):
        found.append(alarm(name, evidence([*groups(differ, "abcd"), *groups(60 - differ, "aaaa")], past=past)))
        past.append(told(number, True, **{name: found[-1]}))
    assert [each.value for each in found] == pytest.approx([1, 1, 40 / 60, 14 / 60, 8 / 60, 0, 1])
    assert [each.level for each in found] == ["green", "green", "green", "green", "yellow", "red", "green"]


@both
def test_a_loop_whose_attempts_agree_from_the_beginning_is_not_seen_and_says_so(name: str, evidence: Round) -> None:
    past = [told(1, True, **{name: alarm(name, evidence(groups(30, "aaaa")))})]
    found = alarm(name, evidence(groups(30, "aaaa"), past=past))
    assert found.level == "green"
    assert found.says.endswith("0.0% at first; no number of units could show it beyond 0.3 here")


def test_the_share_of_new_answers_and_the_entropy_do_not_depend_on_the_number_of_attempts(evidence: Round) -> None:
    for completions in ("ab", "abcd"):
        round = evidence(groups(40, completions))
        assert reading("distinct", round).memory["mean"] == 1
        assert reading("entropy", round).memory["mean"] == pytest.approx(1)
    mixed = evidence([*groups(20, "aabb"), *groups(20, "aa")])
    assert reading("distinct", mixed).memory["mean"] == pytest.approx(fmean([1 / 3, 0]))
    assert reading("entropy", mixed).memory["mean"] == pytest.approx(fmean([0.5, 0]))


@both
def test_the_tasks_of_a_cluster_are_one_unit(name: str, evidence: Round) -> None:
    said = groups(60, "abcd")
    alone, together = (
        reading(
            name, evidence(said, clusters={task: f"{n // 12}" for n, (task, *_) in enumerate(said)} if many else {})
        )
        for many in (False, True)
    )
    assert alone.memory["mean"] == together.memory["mean"]
    assert alone.memory["bound"] > together.memory["bound"] + 0.2, "20 clusters show less than 60 tasks"


@both
def test_mastery_is_no_collapse(name: str, evidence: Round) -> None:
    lost = [told(1, True, **{name: alarm(name, evidence(groups(40, "abcd")))})]
    mastered = groups(200, "aaaa", truth=True)
    assert reading(name, evidence(mastered, past=lost)).value is None
    nearly = [(f"{n}", letter, True, letter == "a") for n in range(40) for letter in "aaaaaaab"]
    assert reading(name, evidence([*mastered, *nearly], past=lost)).value == pytest.approx(1)
    in_error = [(f"{n}", letter, True, letter == "a") for n in range(400) for letter in "abbbbbbb"]
    assert alarm(name, evidence([*mastered, *in_error], past=lost)).level != "green"


@both
def test_without_truth_all_tasks_count(name: str, evidence: Round) -> None:
    lost = [told(1, True, **{name: alarm(name, evidence(groups(40, "abcd", truth=None)))})]
    assert alarm(name, evidence(groups(60, "aaaa", truth=None), past=lost)).level == "red"


@both
def test_lone_attempts_say_nothing_and_few_tasks_say_what_they_cannot_see(name: str, evidence: Round) -> None:
    alone = reading(name, evidence(groups(100, "a")))
    assert alone[:2] == (None, "no task has several attempts that are not all right")
    past = [told(1, True, **{name: alarm(name, evidence(groups(40, "abcd")))})]
    few = alarm(name, evidence(groups(3, "aa"), past=past))
    assert few.level == "green"
    assert re.search(r"not shown to be beyond 0\.3; 3 are too few to .* within 5 rounds, \d+ would do$", few.says)


def test_tasks_are_counted_whole_over_the_borders_of_batches(evidence: Round) -> None:
    number = BATCH_ROWS // 3 + 100
    found = evidence(groups(number, "aab")).groups
    assert (len(found.attempts), {*found.attempts}, {*found.distinct}) == (number, {3}, {2})


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([True, False, None])), min_size=1, max_size=6),
        min_size=1,
        max_size=8,
    )
)
def test_counting_agrees_with_a_plain_reading(tasks: list[list[tuple[str, bool | None]]]) -> None:
    rows = [(f"t{n}", said, truth) for n, attempts in enumerate(tasks) for said, truth in attempts]
    names, said, truths = (list(column) for column in zip(*rows, strict=True))
    found = counted(pa.array(names), pa.array(said), pa.array(truths, pa.bool_()))
    expected = []
    for attempts in tasks:
        right = [said for said, truth in attempts if truth][:1]
        counting = [said for said, truth in attempts if not truth] + right
        if len(counting) > 1:
            votes = Counter(counting).values()
            shares = [vote / len(counting) for vote in votes]
            expected.append((len(counting), len(votes), -sum(share * log(share) for share in shares)))
    assert sorted(zip(*(c.tolist() for c in found[:3]), strict=True)) == [
        pytest.approx(e, abs=1e-9) for e in sorted(expected)
    ]


def samples(policy: str, by_item: list[str], suite: str = "target") -> list[ItemResult]:
    """Items with a sample a letter: 1 is right."""
    return [
        ItemResult(policy, suite, 1, f"item {item}", attempt, letter == "1", "")
        for item, letters in enumerate(by_item)
        for attempt, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("candidate", "value", "level"),
    [
        (["1111"] * 6 + ["0000"] * 4, -0.4, "red"),
        (["1111"] * 8 + ["0000"] * 2, -0.2, "yellow"),
        (["1100"] * 10, 0.0, "green"),
    ],
)
def test_pass_at_k_that_falls_while_pass_at_1_rises_trips(
    candidate: list[str], value: float, level: str, evidence: Round
) -> None:
    old = samples("champion", ["1111"], "old") + samples("candidate", ["0000"], "old")
    round = evidence(answers=samples("champion", ["1000"] * 200) + samples("candidate", candidate * 20) + old)
    found = alarm("coverage", round)
    assert found.value == pytest.approx(value)
    assert found.level == level


def test_coverage_needs_several_samples_and_a_rise(evidence: Round) -> None:
    one = evidence(answers=samples("champion", ["0"]) + samples("candidate", ["1"]))
    assert reading("coverage", one)[:2] == (None, "an item of the target suite has one sample")
    worse = evidence(answers=samples("champion", ["11", "10"]) + samples("candidate", ["11", "00"]))
    assert reading("coverage", worse)[:2] == (None, "pass@1 did not rise")


def test_what_promoted_candidates_lost_of_pass_at_k_adds_up(evidence: Round) -> None:
    past, found = list[dict[str, Any]](), list[Alarm]()
    answers = samples("champion", ["1000"] * 200) + samples("candidate", (["1111"] * 9 + ["0000"]) * 20)
    for number, promoted in enumerate([True, False, True, True, True]):
        found.append(alarm("coverage", evidence(answers=answers, past=past)))
        past.append(told(number, promoted, coverage=found[-1]))
    assert [each.value for each in found] == pytest.approx([-0.1, -0.2, -0.2, -0.3, -0.4])
    assert [each.level for each in found] == ["green", "yellow", "yellow", "red", "red"]
