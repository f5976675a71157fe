"""The arithmetic of claims: against scipy, and for any values."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.claims import Statement
from selfloop.claims.judging import Value, differences, judge

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
several = st.lists(numbers, min_size=5, max_size=12)
HIGHER = Statement("It is higher.", "m", "new", ("old",))
LOWER = Statement("It is lower.", "m", "new", ("old",), better="lower")


def by_seed(values: Sequence[float]) -> list[Value]:
    return [Value(seed, value) for seed, value in enumerate(values)]


def judged(statement: Statement, **arms: Sequence[float]) -> str:
    return judge(statement, ["s"], {("s", name): by_seed(values) for name, values in arms.items()}).word


@settings(deadline=None)
@given(several, several)
def test_a_statement_holds_where_scipys_paired_test_says_so(new: list[float], old: list[float]) -> None:
    new, old = new[: len(old)], old[: len(new)]
    assume(len({round(a - b, 6) for a, b in zip(new, old, strict=True)}) > 1)
    test = stats.ttest_rel(new, old, alternative="greater")
    assume(min(abs(test.pvalue - 0.05), abs(test.pvalue - 0.95)) > 1e-6)
    assert judged(HIGHER, new=new, old=old) == (
        "holds" if test.pvalue < 0.05 else "does not hold" if test.pvalue > 0.95 else "inconclusive"
    )


@settings(deadline=None)
@given(several, several)
def test_a_statement_that_holds_does_not_hold_the_other_way_round(new: list[float], old: list[float]) -> None:
    new, old = new[: len(old)], old[: len(new)]
    opposite = {"holds": "does not hold", "does not hold": "holds", "inconclusive": "inconclusive"}
    assert judged(LOWER, new=new, old=old) == opposite[judged(HIGHER, new=new, old=old)]
    assert judged(HIGHER, new=old, old=new) == opposite[judged(HIGHER, new=new, old=old)]


@settings(deadline=None)
@given(several, several, several)
def test_a_statement_holds_where_each_of_its_comparisons_does(a: list[float], b: list[float], c: list[float]) -> None:
    least = min(map(len, (a, b, c)))
    arms = {"new": a[:least], "old": b[:least], "older": c[:least]}
    both = judged(Statement("It is higher.", "m", "new", ("old", "older")), **arms)
    alone = [judged(HIGHER, new=arms["new"], old=arms[each]) for each in ("old", "older")]
    assert (both == "holds") == (alone == ["holds", "holds"])
    if both == "does not hold":
        assert "does not hold" in alone


@settings(deadline=None)
@given(several, several, st.floats(0.01, 1e3))
def test_equivalent_is_two_one_sided_tests(new: list[float], old: list[float], margin: float) -> None:
    new, old = new[: len(old)], old[: len(new)]
    differences = [a - b for a, b in zip(new, old, strict=True)]
    assume(len({round(each, 6) for each in differences}) > 1)
    tests = [
        stats.ttest_1samp(differences, -margin, alternative="greater").pvalue,
        stats.ttest_1samp(differences, margin, alternative="less").pvalue,
    ]
    assume(abs(max(tests) - 0.05) > 1e-6)
    word = judged(replace(HIGHER, better="same", margin=margin), new=new, old=old)
    assert (word == "equivalent") == (max(tests) < 0.05)
    assert judged(replace(HIGHER, better="same", margin=margin), new=old, old=new) == word


@settings(deadline=None)
@given(several, several, st.floats(0.01, 1e3))
def test_a_margin_changes_no_word_but_inconclusive(new: list[float], old: list[float], margin: float) -> None:
    new, old = new[: len(old)], old[: len(new)]
    without, with_margin = (judged(each, new=new, old=old) for each in (HIGHER, replace(HIGHER, margin=margin)))
    assert with_margin in ({without, "equivalent"} if without == "inconclusive" else {without})


def test_a_difference_that_is_shown_and_does_not_matter_says_both() -> None:
    old, statement = [0.1, 0.3, 0.5, 0.7, 0.9], replace(HIGHER, margin=0.05)
    better = [each + more for each, more in zip(old, (0.01, 0.012, 0.009, 0.011, 0.01), strict=True)]
    both = {("s", "new"): by_seed(better), ("s", "old"): by_seed(old)}
    assert judge(statement, ["s"], both)[:2] == ("holds", "by less than the margin of 0.05")
    found = judge(replace(statement, better="lower"), ["s"], both)
    assert found.word == "does not hold"
    assert found.note.endswith("by less than the margin of 0.05")


def test_differences_that_do_not_differ_say_nothing_without_bounds() -> None:
    old = [0.1, 0.3, 0.5, 0.6, 0.2]
    for shift in (0.0, 0.1):
        new = [each + shift for each in old]  # which differs by the noise of floating point
        values = {("s", "new"): by_seed(new), ("s", "old"): by_seed(old)}
        found = judge(HIGHER, ["s"], values)
        assert found.comparisons[0].interval.mean == pytest.approx(shift)
        assert found.comparisons[0].interval[1:] == (-math.inf, math.inf)
        assert found[:2] == (
            "inconclusive",
            "the seeds do not differ, and without bounds of the metric that says nothing",
        )


def test_all_seeds_for_and_none_against_are_a_sign_test() -> None:
    share = replace(HIGHER, bounds=(0, 1))
    for number, word in ((4, "inconclusive"), (5, "holds")):  # one in 16, one in 32
        assert judged(share, new=[1.0] * number, old=[0.0] * number) == word


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("number", [1, 3])
def test_no_word_is_said_more_often_than_it_may_where_it_is_wrong(seeds: int, number: int) -> None:
    rng, times = np.random.default_rng([2004, seeds, number]), 300
    arms = tuple(f"old {each}" for each in range(number))
    higher = Statement("It is higher.", "m", "new", arms)
    same = replace(higher, better="same", margin=0.1)
    wrong = dict.fromkeys(("holds where one is as good", "does not hold where all are", "equivalent at the margin"), 0)
    for _ in range(times):
        base, noise = rng.normal(0.5, 0.1, seeds), rng.normal(0, 0.05, (number, seeds))
        for what, statement, gaps in (
            ("holds where one is as good", higher, [0.0, 1.0, 1.0]),
            ("does not hold where all are", higher, [0.0, 0.0, 0.0]),
            ("equivalent at the margin", same, [0.1, 0.0, 0.0]),
        ):
            olds = {arm: base - gap - each for arm, gap, each in zip(arms, gaps[:number], noise, strict=True)}
            word = judged(statement, new=base.tolist(), **{arm: each.tolist() for arm, each in olds.items()})
            wrong[what] += what.startswith(word)
    for what, count in wrong.items():
        assert stats.binomtest(count, times).proportion_ci(0.99).low <= 0.05, what


def test_the_worst_seed_is_the_one_that_bears_it_out_least() -> None:
    values = {("s", "new"): by_seed([3, 5, 4]), ("s", "old"): by_seed([1, 1, 3])}
    worst = {
        better: judge(replace(HIGHER, better=better, margin=9.0), ["s"], values).comparisons[0].worst[:2]
        for better in ("higher", "lower", "same")
    }
    assert worst == {"higher": (2, 1), "lower": (1, 4), "same": (1, 4)}
    ranged = Statement("It is within.", "m", "new", within=(4.5, 9.0))
    assert judge(ranged, ["s"], values).comparisons[0].worst == (0, 3, False)


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
    assert found.note.startswith("less old in b is in [")
    assert judge(statement, ["a"], values).comparisons[0] == found.comparisons[0], (
        "no comparison is corrected by others"
    )


def test_what_is_barely_bad_in_one_of_many_comparisons_excludes_nothing() -> None:
    bad = by_seed([-1.0, -1.2, 0.1, -0.9, -0.2])
    good = by_seed([5.0, 6.0, 5.5, 6.2, 5.7])
    zero = by_seed([0.0] * 5)
    setups = list("abcdef")
    values = (
        {("a", "new"): bad} | {(each, "new"): good for each in setups[1:]} | {(each, "old"): zero for each in setups}
    )
    assert judge(HIGHER, ["a"], values).word == "does not hold"
    assert judge(HIGHER, setups, values).word == "inconclusive"


def test_values_of_different_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        differences([Value(1, 0.0), Value(2, 0.0)], [Value(2, 0.0), Value(1, 0.0)])
