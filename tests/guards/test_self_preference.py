"""A judge that prefers its own attempts, and one that does not: planted and healthy loops."""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.guards import Evidence
from selfloop.records import Audit

from ..conftest import sealed_table
from .conftest import alarm, reading, told

Mark = tuple[int, bool | None, float]
"""A task, whether an attempt at it is right, and its mark."""
MARKS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([True, False, None]), st.floats(0, 1)), max_size=12)


def round_of(place: Path, own: Sequence[Mark], others: Sequence[Mark], past: Sequence[dict[str, Any]] = ()) -> Evidence:
    tables = {}
    for name, marks in (("audit", own), ("others", others)):
        rows = [Audit(f"t{task}", 1, number, None, mark, truth) for number, (task, truth, mark) in enumerate(marks)]
        tables[name] = sealed_table(place / name, Audit, sorted(rows)).path
    return Evidence(tables, candidate={}, past=past, audited=0, seed=0)


def loop(place: Path, preference: float, rounds: int) -> list[str]:
    """The levels of a loop whose own attempts are better, and marked so much higher than others that are as right."""
    rng, past, found = random.Random(5), list[dict[str, Any]](), list[str]()

    def marked(chance: float, more: float) -> list[Mark]:
        attempts = [(task, rng.random() < chance) for task in range(60) for _ in range(4)]
        return [(task, ok, min(0.4 * rng.random() + 0.3 * ok + more, 1.0)) for task, ok in attempts]

    for number in range(rounds):
        seen = alarm("self-preference", round_of(place / f"{number}", marked(0.8, preference), marked(0.3, 0.0), past))
        past.append(told(number, True, **{"self-preference": seen}))
        found.append(seen.level)
    return found


def test_a_loop_that_prefers_its_own_halts_soon_and_one_that_is_better_and_fair_never(tmp_path: Path) -> None:
    assert "red" in loop(tmp_path / "planted", 0.6, 6)
    assert set(loop(tmp_path / "healthy", 0.0, 6)) == {"green"}


@given(MARKS, MARKS)
@settings(max_examples=25)
def test_it_is_the_mean_over_tasks_of_differences_at_equal_truth(
    tmp_path_factory: pytest.TempPathFactory, own: list[Mark], others: list[Mark]
) -> None:
    found = reading("self-preference", round_of(tmp_path_factory.mktemp("round"), own, others))
    by_task = defaultdict[int, list[float]](list)
    for task in range(4):
        for right in (True, False):
            mine, theirs = ([mark for t, ok, mark in each if (t, ok) == (task, right)] for each in (own, others))
            if mine and theirs:
                by_task[task].append(fmean(mine) - fmean(theirs))
    if by_task:
        assert found.value == pytest.approx(fmean(map(fmean, by_task.values())))
    else:
        assert (found.value, found.says[:15]) == (None, "no two attempts")


def test_a_loop_that_marks_one_policy_alone_is_green_and_says_so(tmp_path: Path) -> None:
    evidence = round_of(tmp_path, [(1, True, 0.5)], [])
    alone = Evidence({"audit": evidence.table("audit")}, candidate={}, past=[], audited=0, seed=0)
    found = alarm("self-preference", alone)
    assert (found.level, found.says) == ("green", "this loop has no others")
