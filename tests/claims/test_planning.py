"""What a plan promises, by simulation, and what it does not know."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.claims import Claims, Statement
from selfloop.claims.judging import Value, judge
from selfloop.claims.measuring import Outcome, Run
from selfloop.claims.planning import POWER, largest_deviation, least_difference, prospects, seconds_of

BASELINES = ("old", "older", "oldest")
STATEMENT = Statement("It is higher.", "m", "new", BASELINES)
CLAIMS = Claims(
    arms={arm: {} for arm in ("new", *BASELINES)},
    statements=(STATEMENT,),
    tuning=tuple(range(100, 106)),
    seeds=tuple(range(10)),
)


def tuned(metrics: dict[str, list[float]], seconds: float | None = 6.0) -> dict[Run, Outcome]:
    runs = [(Run("default", arm, 100 + at), value) for arm, some in metrics.items() for at, value in enumerate(some)]
    return {run: Outcome(run, {"m": value}, seconds=seconds) for run, value in runs}


@settings(deadline=None)
@given(st.floats(0.01, 100), st.integers(2, 40), st.floats(0.5, 0.99))
def test_the_least_difference_has_the_power_that_it_says(deviation: float, seeds: int, power: float) -> None:
    least = least_difference(deviation, seeds, power)
    shift = least / deviation * np.sqrt(seeds)
    assert stats.nct.sf(stats.t.ppf(0.95, seeds - 1), seeds - 1, shift) == pytest.approx(power, abs=1e-4)
    assert least_difference(deviation, seeds + 1, power) < least
    assert least_difference(2 * deviation, seeds, power) == pytest.approx(2 * least)


@pytest.mark.parametrize("seeds", [5, 10])
def test_all_comparisons_hold_together_as_often_as_a_plan_promises(seeds: int) -> None:
    rng, times = np.random.default_rng([2002, seeds]), 300
    found = prospects(CLAIMS, STATEMENT, tuned({arm: rng.normal(size=6).tolist() for arm in CLAIMS.arms}), seeds)
    assert [each.baseline for each in found] == list(BASELINES)
    held = 0
    for _ in range(times):
        base = rng.normal(size=seeds)
        values = {("default", "new"): base}
        for each in found:
            assert each.spread is not None
            assert each.least is not None
            values["default", each.baseline] = base - rng.normal(each.least, each.spread, seeds)
        by_seed = {where: [Value(seed, float(v)) for seed, v in enumerate(some)] for where, some in values.items()}
        held += judge(STATEMENT, ["default"], by_seed).word == "holds"
    assert stats.binomtest(held, times).proportion_ci(0.99).high >= POWER


def test_the_largest_spread_is_exceeded_as_seldom_as_it_says() -> None:
    rng, times = np.random.default_rng(2003), 2000
    for seeds in (2, 5):
        deviations = rng.normal(size=(times, seeds)).std(axis=1, ddof=1)
        exceeded = sum(largest_deviation(each, seeds) < 1 for each in deviations.tolist())
        assert stats.binomtest(exceeded, times, 0.2).pvalue > 0.001


def test_seeds_that_do_not_differ_or_lack_have_no_spread() -> None:
    same = tuned({"new": [0.5, 0.75], "old": [0.25, 0.5], "older": [0.1], "oldest": [0.1, 0.3]})
    found = prospects(CLAIMS, STATEMENT, same, 10)
    assert [(each.seeds, each.spread, each.least) for each in found] == [(1, None, None)] * 3
    near_an_end = tuned({arm: [value] * 2 for arm, value in zip(CLAIMS.arms, (0.9, 0.0, 0.1, 0.0), strict=True)})
    apart = near_an_end | tuned({"new": [0.85, 0.95]})
    share = replace(STATEMENT, bounds=(0, 1))
    assert [each.spread for each in prospects(CLAIMS, share, apart, 10)][::2] == [None, None]
    whole = same | tuned({"older": [0.1, 0.2]})
    spreads = [each.spread for each in prospects(CLAIMS, STATEMENT, whole, 10)]
    assert spreads == [None, pytest.approx(0.15 / 2**0.5), pytest.approx(0.05 / 2**0.5)]


def test_runs_take_as_long_as_those_of_their_arm_did() -> None:
    runs = [Run("default", "new", seed) for seed in range(10)]
    assert seconds_of(runs, tuned({"new": [0.1, 0.2]})) == 60
    assert seconds_of(runs, tuned({"new": [0.1, 0.2]}, seconds=None)) is None
    assert seconds_of(runs, tuned({"old": [0.1]})) is None
