"""The arithmetic of claims: against scipy, and for any values."""

import math
from collections.abc import Sequence
from statistics import fmean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.claims import Statement
from selfloop.claims.judging import Value, corrected, interval, judge, paired

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
several = st.lists(numbers, min_size=5, max_size=12)
HIGHER = Statement("It is higher.", "m", "new", ("old",))
LOWER = Statement("It is lower.", "m", "new", ("old",), better="lower")


def by_seed(values: Sequence[float]) -> list[Value]:
    return [Value(seed, value) for seed, value in enumerate(values)]


def judged(statement: Statement, **arms: Sequence[float]) -> str:
    return judge(statement, ["s"], {("s", name): by_seed(values) for name, values in arms.items()}).word


@settings(deadline=None)
@given(several, st.integers(1, 6))
def test_an_interval_is_scipys(values: list[float], comparisons: int) -> None:
    assume(len(set(values)) > 1)
    confidence = corrected(comparisons)
    ours, theirs = interval(values, confidence), stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert ours.low == pytest.approx(theirs.low, rel=1e-6, abs=1e-6)
    assert ours.high == pytest.approx(theirs.high, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(several, several)
def test_a_difference_is_scipys_paired_test(new: list[float], old: list[float]) -> None:
    new, old = new[: len(old)], old[: len(new)]
    assume(len({round(a - b, 6) for a, b in zip(new, old, strict=True)}) > 1)
    found, test = paired(by_seed(new), by_seed(old)), stats.ttest_rel(new, old)
    assert (found.low > 0 or found.high < 0) == (test.pvalue < 0.05) or abs(test.pvalue - 0.05) < 1e-6
    assert found.mean == pytest.approx(fmean(new) - fmean(old), abs=1e-9)


@settings(deadline=None)
@given(several, several)
def test_a_statement_that_holds_does_not_hold_the_other_way_round(new: list[float], old: list[float]) -> None:
    new, old = new[: len(old)], old[: len(new)]
    opposite = {"holds": "does not hold", "does not hold": "holds", "inconclusive": "inconclusive"}
    assert judged(LOWER, new=new, old=old) == opposite[judged(HIGHER, new=new, old=old)]
    assert judged(HIGHER, new=old, old=new) == opposite[judged(HIGHER, new=new, old=old)]


@settings(deadline=None)
@given(several, several, several)
def test_one_more_baseline_never_makes_a_statement_hold(a: list[float], b: list[float], c: list[float]) -> None:
    least = min(map(len, (a, b, c)))
    arms = {"new": a[:least], "old": b[:least], "older": c[:least]}
    both = judged(Statement("It is higher.", "m", "new", ("old", "older")), **arms)
    if both == "holds":
        assert judged(HIGHER, new=arms["new"], old=arms["old"]) == "holds"


@settings(deadline=None)
@given(several)
def test_what_all_seeds_shift_alike_is_a_point(values: list[float]) -> None:
    assert interval([3.0] * len(values)) == (3.0, 3.0, 3.0)
    assert judged(HIGHER, new=values, old=values) == "inconclusive"
    whole = [float(int(value)) for value in values]
    assert judged(HIGHER, new=[value + 1 for value in whole], old=whole) == "holds"


def test_pairs_see_what_the_spread_of_the_seeds_hides() -> None:
    new, old = [0.11, 0.32, 0.51, 0.72, 0.91], [0.10, 0.30, 0.50, 0.70, 0.90]
    assert stats.ttest_ind(new, old).pvalue > 0.9
    assert judged(HIGHER, new=new, old=old) == "holds"


def test_a_range_holds_where_the_whole_interval_lies_in_it() -> None:
    values = [0.48, 0.5, 0.52, 0.49, 0.51]
    for low, high, word in (
        (0.35, 0.65, "holds"),
        (0.5, 0.65, "inconclusive"),
        (0.6, 0.8, "does not hold"),
        (0.1, 0.2, "does not hold"),
    ):
        assert judged(Statement("It is within.", "m", "new", within=(low, high)), new=values) == word


def test_a_statement_is_about_all_its_setups() -> None:
    statement = Statement("It is higher.", "m", "new", ("old",))
    good, bad = by_seed([2, 3, 2, 3, 2]), by_seed([0, 0.1, 0, 0, 0])
    values = {("a", "new"): good, ("a", "old"): bad, ("b", "new"): bad, ("b", "old"): good}
    found = judge(statement, ["a", "b"], values)
    assert found.word == "does not hold"
    assert judge(statement, ["a"], values).word == "holds"
    one, two = judge(statement, ["a"], values).differences[0], found.differences[0]
    assert two.interval.low < one.interval.low < one.interval.high < two.interval.high


def test_the_intervals_of_a_statement_cover_together_as_often_as_they_say() -> None:
    import numpy as np

    draw, wrong, times = np.random.default_rng(0), 0, 400
    statement = Statement("It is higher.", "m", "new", ("a", "b", "c"))
    for _ in range(times):
        arms = {name: draw.normal(size=5).tolist() for name in statement.arms}
        wrong += judged(statement, **arms) != "inconclusive"
    assert wrong <= stats.binom.ppf(0.999, times, 0.05)


def test_one_seed_says_nothing_of_the_mean() -> None:
    assert interval([0.5]) == (0.5, -math.inf, math.inf)


def test_values_of_different_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired([Value(1, 0.0), Value(2, 0.0)], [Value(2, 0.0), Value(1, 0.0)])
