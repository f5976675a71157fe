"""Bounds of a mean: against scipy, for any values, and how often they are right."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.claims.intervals import ALPHA, highest_mean, interval

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
shares = st.lists(st.floats(0, 1).map(lambda value: round(value, 3)), min_size=1, max_size=12)
SHARE = (0.0, 1.0)


@settings(deadline=None)
@given(st.lists(numbers, min_size=2, max_size=12), st.sampled_from([0.05, 0.01, 0.005]))
def test_an_interval_is_scipys(values: list[float], alpha: float) -> None:
    assume(len(set(values)) > 1)
    ours, theirs = interval(values, alpha=alpha), stats.ttest_1samp(values, 0).confidence_interval(1 - 2 * alpha)
    assert ours[1:] == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(st.integers(1, 30), st.data(), st.sampled_from([0.05, 0.01, 0.005]))
def test_of_zeros_and_ones_it_is_clopper_and_pearsons(number: int, data: Any, alpha: float) -> None:
    ones = data.draw(st.integers(0, number))
    theirs = stats.binomtest(ones, number).proportion_ci(1 - 2 * alpha, method="exact")
    ours = interval([1.0] * ones + [0.0] * (number - ones), SHARE, alpha)
    assert ours == pytest.approx((ones / number, theirs.low, theirs.high), abs=1e-8)


@settings(deadline=None)
@given(shares)
def test_a_share_stays_a_share_and_turns_round(values: list[float]) -> None:
    found, turned = interval(values, SHARE), interval([1 - value for value in values], SHARE)
    assert 0 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1
    assert turned == pytest.approx((1 - found.mean, 1 - found.high, 1 - found.low), abs=1e-6)


@settings(deadline=None)
@given(shares, st.floats(0.1, 50), st.floats(-50, 50))
def test_a_mean_has_the_same_bounds_in_other_units(values: list[float], scale: float, shift: float) -> None:
    found, other = highest_mean(values, 1), highest_mean([scale * value + shift for value in values], scale + shift)
    assert other == pytest.approx(scale * found + shift, abs=1e-5)


@settings(deadline=None)
@given(shares, st.data())
def test_a_higher_value_never_lowers_the_bound(values: list[float], data: Any) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    raised = [*values]
    raised[place] = data.draw(st.floats(values[place], 1))
    assert highest_mean(raised, 1) >= highest_mean(values, 1) - 1e-6


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 30))
def test_seeds_that_do_not_differ_leave_open_what_so_many_can_miss(value: float, number: int) -> None:
    missed = 1 - ALPHA ** (1 / number)
    found = interval([value] * number, SHARE)
    assert found == pytest.approx((value, value * (1 - missed), value + (1 - value) * missed), abs=1e-6)


def test_what_is_not_known_is_not_said() -> None:
    assert interval([3.0] * 5) == (3.0, -math.inf, math.inf)
    assert interval([0.5]) == (0.5, -math.inf, math.inf)
    assert interval([0.1 + 0.2, 0.3, 0.3])[1:] == (-math.inf, math.inf), "noise of floating point is no spread"


DRAWN: dict[str, tuple[float, Callable[[Any, int], Any]]] = {
    "seeds alike, near 0": (0.002, lambda rng, n: rng.binomial(500, 0.002, n) / 500),
    "seeds differ, near 0": (0.02, lambda rng, n: rng.binomial(500, rng.beta(0.3, 14.7, n)) / 500),
    "seeds differ, near 1": (0.9, lambda rng, n: rng.binomial(500, rng.beta(18, 2, n)) / 500),
    "all or nothing": (0.9, lambda rng, n: (rng.random(n) < 0.9).astype(float)),
    "in the middle": (0.5, lambda rng, n: rng.beta(10, 10, n)),
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("seeds", [5, 10])
def test_each_bound_of_a_share_is_right_as_often_as_it_says(name: str, seeds: int) -> None:
    mean, draw = DRAWN[name]
    rng, times = np.random.default_rng([2001, seeds, *name.encode()]), 300
    found = [interval(draw(rng, seeds).tolist(), SHARE) for _ in range(times)]
    for wrong in (sum(each.low > mean + 1e-9 for each in found), sum(each.high < mean - 1e-9 for each in found)):
        assert stats.binomtest(wrong, times).proportion_ci(0.99).low <= ALPHA
