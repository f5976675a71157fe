"""What a gate can see, against every outcome of few items and against the gate itself."""

import subprocess
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.errors import UserError
from selfloop.paired import mcnemar
from selfloop.promote import GateParams
from selfloop.promote.planning import check, independent, items_for, level_after, power, promotes

GATE = GateParams()


@given(st.integers(1, 14), st.floats(0.05, 0.9), st.floats(0, 1), st.sampled_from([0.2, 0.05, 0.01]))
@settings(max_examples=40, deadline=None)
def test_the_power_is_that_of_every_outcome_together(items: int, discordance: float, part: float, level: float) -> None:
    gain = part * discordance
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    outcomes = [(won, lost) for won in range(items + 1) for lost in range(items + 1 - won)]
    known = sum(
        stats.multinomial.pmf([won, lost, items - won - lost], items, chances)
        for won, lost in outcomes
        if mcnemar(won, lost) <= level
    )
    assert power(items, gain, discordance, level) == pytest.approx(known, abs=1e-6)


def test_a_gate_promotes_more_for_a_larger_gain_more_items_and_fewer_looks_that_were_lost() -> None:
    for rates in (
        [promotes(GATE, 400, gain, 0.12) for gain in (0.01, 0.02, 0.04)],
        [promotes(GATE, items, 0.02, 0.12) for items in (200, 800, 3200)],
        [promotes(GATE, 400, 0.02, 0.12, lost) for lost in (30, 3, 0)],
    ):
        assert all(less < more for less, more in pairwise(rates))


@pytest.mark.parametrize("lost", [0, 10])
def test_the_items_that_are_named_promote_as_often_as_is_wanted(lost: int) -> None:
    items = items_for(GATE, 0.8, 0.03, 0.2, lost)
    assert promotes(GATE, items, 0.03, 0.2, lost) >= 0.8
    assert promotes(GATE, round(0.98 * items), 0.03, 0.2, lost) < 0.8


def test_levels_fall_with_the_looks_that_were_lost() -> None:
    assert [level_after(GATE, lost) / 0.05 for lost in (0, 1, 2)] == pytest.approx([1 / 4, 1 / 12, 1 / 24])
    gone = GateParams(spend="even,looks=2")
    assert (level_after(gone, 2), promotes(gone, 400, 0.1, 0.2, 2)) == (0, 0)
    with pytest.raises(
        UserError, match=r"No number of items promotes a gain of 0.1 with a chance of 0.8 after 2 looks"
    ):
        items_for(gone, 0.8, 0.1, 0.2, 2)


def test_policies_that_are_independent_differ_most_at_a_half() -> None:
    assert independent(0.5, 0.0) == 0.5
    assert independent(0.9, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("accuracy", "gain", "discordance", "sentence"),
    [
        (0.99, 0.02, 0.1, "From an accuracy of 0.99 there is no gain of 0.02"),
        (0.5, 0.0, 0.1, "From an accuracy of 0.5 there is no gain of 0"),
        (
            0.5,
            0.1,
            0.05,
            "A discordance of 0.05 cannot be with an accuracy of 0.5 and a gain of 0.1: give one from 0.1 to",
        ),
        (0.9, 0.05, 0.5, "give one from 0.05 to 0.15"),
    ],
)
def test_numbers_that_no_policies_have_are_refused(
    accuracy: float, gain: float, discordance: float, sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        check(accuracy, gain, discordance)
    assert sentence in str(refused.value)


def test_the_plan_is_a_table_for_the_looks_that_were_lost_before(
    typed: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    words = ["gate", "plan", "--accuracy", "0.5", "--gain", "0.02", "--discordance", "0.12", "--items", "500"]
    told = typed(*words).stdout
    assert "500 items in the first look, 2,000 in the second" in told
    assert f"would promote {power(500, 0.02, 0.12, 0.05):.0%}." in told
    assert told.splitlines()[2].split()[:3] == ["0", "0.013", f"{promotes(GATE, 500, 0.02, 0.12):.1%}"]
