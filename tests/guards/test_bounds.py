"""What every guard is: one-sided, right over all rounds, and able to see what is there to be seen."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.guards.bounds import (
    SOON,
    Measured,
    at_least,
    at_most,
    bet_on,
    by_unit,
    fewest,
    in_all,
    noted,
    share,
    units_of,
)

from .simulated import BEGINS, PLANTED, Round, planted, watched

ALPHA = 0.01
values = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def wealth(rounds: list[list[float]], limit: float, best: float, worst: float, most: float = 1e9) -> float:
    """The logarithm of what the bets came to."""
    kept: list[float] = []
    for look, units in enumerate(rounds, start=1):
        kept = bet_on([Measured(limit, best, worst, np.array(units))], kept, look, most)
    return in_all(kept)


def test_all_shares_of_a_budget_are_within_it() -> None:
    assert sum(share(number) for number in range(1, 100_000)) == pytest.approx(1, abs=1e-4)


@given(values, values, st.floats(0.05, 0.95))
def test_worse_units_are_never_less_evidence(some: list[float], more: list[float], limit: float) -> None:
    units = [*some, *more]
    worse = [min(each + 0.1, 1.0) for each in units]
    assert wealth([worse], limit, 0, 1) >= wealth([units], limit, 0, 1) - 1e-6
    assert wealth([units], limit, 0, 1) == pytest.approx(
        wealth([[1 - each for each in units]], 1 - limit, 1, 0), abs=1e-4
    )


@given(st.lists(st.integers(0, 1), min_size=1, max_size=6), st.floats(0.1, 0.9))
def test_a_mean_on_its_limit_is_expected_to_win_nothing(rounds: list[int], limit: float) -> None:
    """Exact: over all outcomes of three coins that fall on the bad side with a chance of ``limit``, in two rounds."""
    expected = 0.0
    for outcome in np.ndindex(2, 2, 2, 2):
        chance = math.prod(limit if bad else 1 - limit for bad in outcome)
        expected += chance * math.exp(wealth([list(outcome[:3]), [outcome[3]]], limit, 0, 1))
    assert expected <= share(1) + share(2) + 1e-6


@given(values, st.floats(1e-6, 0.5))
def test_bounds_hold_the_mean_between_them_and_are_wider_the_surer_they_are(units: list[float], level: float) -> None:
    column = np.array(units)
    low, high = at_least(column, 0, level), at_most(column, 1, level)
    assert -1e-6 <= low <= column.mean() + 1e-6
    assert column.mean() - 1e-6 <= high <= 1 + 1e-6
    assert at_least(column, 0, level / 10) <= low + 1e-6


@pytest.mark.parametrize("chance", [0.05, 0.5, 0.95])
def test_bounds_are_wrong_as_seldom_as_they_say(chance: float) -> None:
    rng = np.random.default_rng(31)
    wrong = sum(at_least((rng.random(60) < chance).astype(float), 0, 0.05) > chance for _ in range(1000))
    assert wrong <= 50


@pytest.mark.parametrize("limit", [0.02, 0.3, 0.7])
def test_as_many_units_as_are_named_show_half_of_the_worst_in_every_other_loop(limit: float) -> None:
    rng, needed, shown = np.random.default_rng(32), int(fewest(Measured(limit, 0, 1), ALPHA)), [0, 0]
    for _ in range(200):
        for few, units in enumerate((2 * needed, needed // 2)):
            rounds = (rng.random((SOON, units)) < (limit + 1) / 2).astype(float).tolist()
            shown[few] += wealth(rounds, limit, 0, 1) >= -math.log(ALPHA)
    assert shown[0] > 180
    assert shown[1] < 100


def test_what_cannot_be_shown_and_what_is_sure() -> None:
    assert fewest(Measured(1.5, 0, 1), ALPHA) == math.inf
    assert fewest(Measured(-0.5, 0, 1), ALPHA) == 1
    assert in_all(bet_on([Measured(-0.5, 0, 1, np.zeros(3))], [], 1, 7.0)) > 7


@given(st.lists(st.integers(-96, 96), max_size=30))
def test_what_is_noted_is_read_again(steps: list[int]) -> None:
    units = np.array(sorted(steps), float) / 32
    assert units_of(noted(units)).tolist() == pytest.approx(units.tolist(), abs=1e-5)


def test_a_unit_is_the_mean_of_its_own_in_the_order_in_which_they_come() -> None:
    assert by_unit(["b", "a", "b", "c"], [1, 5, 2, 0]).tolist() == [1.5, 5, 0]


def test_healthy_loops_are_not_halted() -> None:
    rng = np.random.default_rng(4101)
    small = Round(tasks=30, old=30, target=20, prompts=30)
    assert [watched(rng, [small] * 10).round for _ in range(25)] == [0] * 25


@pytest.mark.parametrize("guard", PLANTED)
def test_a_fault_is_found_within_five_rounds(guard: str) -> None:
    rng = np.random.default_rng(4102)
    ended: list[Any] = [planted(rng, guard, "usual") for _ in range(4)]
    assert [loop.guard for loop in ended] == [guard] * 4
    assert min(loop.round for loop in ended) >= BEGINS
