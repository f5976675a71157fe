"""The distance from the anchor: which rounds tell it, and where it stands in its chart."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.report.sections import RunHistory
from selfloop.report.sections.anchor import Anchor, anchored, drift

from .test_render import a_decision, a_round, a_suite

GAINS = st.floats(-0.2, 0.9)


def a_measured(number: int, gain: float, promoted: bool = True, **given: Any) -> dict[str, Any]:
    """A round with a suite of old skills."""
    old = {"bar": -0.05, "lower": gain - 0.02, "upper": gain + 0.02, "passed": gain >= -0.03, "by_level": {}, **given}
    suites = {"target": a_suite(), "old": {**a_suite(gain), **old}}
    return a_round(
        number, decision=a_decision("promoted" if promoted else "rejected", promoted=promoted, suites=suites)
    )


def test_rounds_tell_it_that_asked_the_anchor_or_whose_champion_is_the_anchor() -> None:
    rounds = [
        a_measured(1, 0.0, promoted=False, against="champion"),
        a_measured(2, 0.01, against="champion"),
        a_measured(3, 0.0, promoted=False, against="champion"),  # the first look did not pass
        a_measured(4, -0.01, against="anchor"),
    ]
    found = anchored(rounds)
    assert found.keys() == {"old"}
    assert [point.round for point in found["old"]] == [1, 2, 4]


@given(st.lists(GAINS, min_size=1, max_size=30))
def test_a_chart_holds_every_loss_and_what_may_be_lost_and_no_more_of_a_gain_than_there_is_room(
    gains: list[float],
) -> None:
    points = anchored([a_measured(number, gain, against="anchor") for number, gain in enumerate(gains, 1)])["old"]
    found = drift("old", points)
    heights = [float(part.split(" ")[1]) for part in found.line[1:].split("L")]
    assert all(0 <= height <= 100 for height in (*heights, found.bar, found.zero))
    assert found.zero < found.bar
    for gain, height in zip(gains, heights, strict=True):
        assert (gain > 0) == (height < found.zero) or height == pytest.approx(found.zero, abs=0.2)
    assert found.passed.count("M") + found.failed.count("M") == len(gains)
    places = sorted(mark.at for mark in found.heights)
    assert all(after - before >= 10 for before, after in pairwise(places))


def test_levels_are_told_of_the_last_round_and_a_run_without_such_suites_has_no_section() -> None:
    level = {"items": 64, "gain": -0.2, "lower": -0.3, "upper": -0.1, "passed": False}
    run = RunHistory(
        [a_measured(1, 0.0, against="anchor", by_level={"10": level, "9": {**level, "passed": True}})], [], {}
    )
    shown = Anchor()(run)
    assert shown.index(">9<") < shown.index(">10<")
    assert "✗ lost" in shown
    assert Anchor()(RunHistory([a_round(1, decision=a_decision(suites={"target": a_suite()}))], [], {})) == ""
