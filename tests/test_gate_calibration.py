"""How often the gate promotes, by simulation: at most at its rate where nothing is better, often where something is.

The seeds here were not used when the methods were chosen.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from scipy import stats
from selfloop.paired import bounds, e_value, mcnemar
from selfloop.promote.gate import decide
from selfloop.promote.spending import Ledger, Looked, Spend
from selfloop.records import ItemResult

pytestmark = pytest.mark.slow

CONFIDENCE, ALPHA = 0.95, 0.05
ROUNDS = 1000
CHAINS = 400
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
exact = cache(mcnemar)


def at_most(promoted: int, rounds: int) -> float:
    """The lower end of the exact 95 % interval of a rate that was seen: what it can be said to exceed."""
    return float(stats.binomtest(promoted, rounds).proportion_ci(0.95).low)


def paired(rng: np.random.Generator, items: int, gain: float, discordance: float, rounds: int) -> Counts:
    """Items that only the candidate and only the champion solved, a row a round."""
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    return rng.multinomial(items, chances, size=rounds)


# With no true difference


@pytest.mark.parametrize("discordance", [0.02, 0.12, 0.3])
@pytest.mark.parametrize("items", [60, 400])
def test_mcnemar_promotes_at_most_at_its_rate(items: int, discordance: float) -> None:
    rng = np.random.default_rng([1001, items, int(1000 * discordance)])
    promoted = sum(exact(won, lost) <= ALPHA for won, lost, _ in paired(rng, items, 0.0, discordance, ROUNDS).tolist())
    assert at_most(promoted, ROUNDS) <= ALPHA


def test_a_gate_that_takes_what_looks_better_is_found_out() -> None:
    counts = paired(np.random.default_rng(1001), 400, 0.0, 0.12, ROUNDS).tolist()
    assert at_most(sum(won > lost for won, lost, _ in counts), ROUNDS) > 8 * ALPHA


def uneven(rng: np.random.Generator, items: int, discordance: float) -> Numbers:
    """Four samples of items that are mostly easy or hard; some have another chance under the candidate, as much more
    often as less.
    """
    champion = rng.beta(0.4, 0.4, items)
    moved = rng.random(items) < discordance
    candidate = np.where(moved, 1 - champion, champion)  # whose distribution is the same
    return (rng.binomial(4, candidate) - rng.binomial(4, champion)) / 4


def same(rng: np.random.Generator, items: int, discordance: float) -> Numbers:
    """Eight samples; both policies solve an item with the same chance, and most items always or never."""
    chance = np.where(rng.random(items) < discordance, rng.random(items), rng.integers(0, 2, items))
    return (rng.binomial(8, chance) - rng.binomial(8, chance)) / 8


def few_large_losses(rng: np.random.Generator, items: int, discordance: float) -> Numbers:
    """Many items won by one sample of four, and a few lost altogether, which a small suite may not show."""
    kind = rng.random(items)
    return np.where(kind < discordance / 5, -1.0, np.where(kind < discordance, 0.25, 0.0))


@pytest.mark.parametrize("discordance", [0.02, 0.12, 0.3])
@pytest.mark.parametrize("items", [15, 60, 400])
@pytest.mark.parametrize("differences", [uneven, same, few_large_losses])
def test_the_bootstrap_promotes_at_most_at_its_rate(
    differences: Callable[[np.random.Generator, int, float], Numbers], items: int, discordance: float
) -> None:
    rng = np.random.default_rng([1002, items, int(1000 * discordance)])
    promoted = sum(bounds(differences(rng, items, discordance).tolist(), CONFIDENCE, 999)[0] > 0 for _ in range(ROUNDS))
    assert at_most(promoted, ROUNDS) <= ALPHA


@pytest.mark.parametrize("discordance", [0.03, 0.05, 0.12])
@pytest.mark.parametrize("items", [70, 132, 345, 1000])
def test_a_suite_that_fell_by_the_tolerance_passes_at_most_at_the_gates_rate(items: int, discordance: float) -> None:
    rng = np.random.default_rng([1003, items, int(1000 * discordance)])
    passed = 0
    for won, lost, other in paired(rng, items, -0.03, discordance, ROUNDS).tolist():
        passed += bounds([1.0] * won + [-1.0] * lost + [0.0] * other, CONFIDENCE, 999)[0] >= -0.03
    assert at_most(passed, ROUNDS) <= ALPHA


def answered(suite: str, chances: Numbers, rng: np.random.Generator, samples: int) -> list[ItemResult]:
    """Both policies on items that each solves with the same chance."""
    made = []
    for policy in ("champion", "candidate"):
        for number, oks in enumerate((rng.random((len(chances), samples)) < chances[:, None]).tolist()):
            made += [ItemResult(policy, suite, 1, f"{number}", sample, ok, str(ok)) for sample, ok in enumerate(oks)]
    return made


@pytest.mark.parametrize(("samples", "items"), [(1, 60), (1, 240), (4, 60)])
def test_the_whole_gate_promotes_at_most_at_its_rate(samples: int, items: int) -> None:
    rng = np.random.default_rng([1004, samples, items])
    promoted = better = 0
    for _ in range(ROUNDS):
        chances = rng.beta(0.5, 0.5, items)
        results = answered("target", chances, rng, samples) + answered("old", np.full(60, 0.99), rng, 1)
        decided = decide(results, tolerance=0.1, resamples=199)
        promoted += decided.promoted
        better += decided.suites["target"].passed
    assert at_most(better, ROUNDS) <= ALPHA
    assert promoted <= better
    assert better > 0.005 * ROUNDS  # not by promoting nothing


# With a true difference


def test_three_points_on_a_thousand_items_are_promoted_four_times_of_five() -> None:
    rng = np.random.default_rng(1005)
    counts = paired(rng, 1000, 0.03, 0.12, ROUNDS).tolist()
    promoted = sum(exact(won, lost) <= ALPHA for won, lost, _ in counts)
    assert promoted >= 0.8 * ROUNDS
    by_bootstrap = sum(
        bounds([1.0] * won + [-1.0] * lost + [0.0] * other, CONFIDENCE, 999)[0] > 0 for won, lost, other in counts
    )
    assert by_bootstrap >= 0.8 * ROUNDS


def test_less_discordance_is_more_power() -> None:
    rng = np.random.default_rng(1006)
    rates = [
        np.mean([exact(won, lost) <= ALPHA for won, lost, _ in paired(rng, 1000, 0.03, each, ROUNDS).tolist()])
        for each in (0.30, 0.12, 0.05)
    ]
    assert rates == sorted(rates)


# A whole loop


@pytest.mark.parametrize("spelt", ["harmonic", "even", "betting"])
def test_a_loop_that_learns_nothing_promotes_anything_at_most_at_the_rate_of_its_whole_life(spelt: str) -> None:
    rng, spend, promoted = np.random.default_rng([1009, len(spelt)]), Spend.parse(spelt), 0
    for _ in range(CHAINS):
        ledger = Ledger()
        first, second = (paired(rng, items, 0.0, 0.12, 40).tolist() for items in (300, 1200))
        for (won, lost, _), (more, less, _) in zip(first, second, strict=True):
            if exact(won, lost) <= 0.2:
                bet = partial(e_value, [1.0] * more + [-1.0] * less)
                look = spend.look(ledger, ALPHA, Looked(exact(more, less), bet))
                ledger = look.after
                if look.confirmed:
                    promoted += 1
                    break
    assert at_most(promoted, CHAINS) <= ALPHA


def test_a_loop_that_learns_nothing_promotes_something_mostly_where_each_round_has_a_test_of_its_own() -> None:
    rng = np.random.default_rng(1010)
    loops = [paired(rng, 300, 0.0, 0.12, 40).tolist() for _ in range(CHAINS)]
    assert np.mean([any(exact(won, lost) <= ALPHA for won, lost, _ in loop) for loop in loops]) > 0.6


# Forty rounds in a row

Rule = Callable[[int, int], bool]


def by_the_gate(won: int, lost: int) -> bool:
    return exact(won, lost) <= ALPHA


def always(won: int, lost: int) -> bool:
    return True


def ends(rule: Rule, mean: float, deviation: float, seed: int, rounds: int = 40, items: int = 300) -> Numbers:
    """How much the champion's true accuracy has changed after some rounds, in each of many chains.

    A candidate's accuracy differs from the champion's by a normal random amount; an eighth of the items, or as many as
    the amount asks for, are solved by one of the two alone.
    """
    rng = np.random.default_rng(seed)
    changed = np.zeros(CHAINS)
    for _ in range(rounds):
        amounts = rng.normal(mean, deviation, CHAINS)
        for chain, amount in enumerate(amounts.tolist()):
            [(won, lost, _other)] = paired(rng, items, amount, max(0.125, abs(amount)), 1).tolist()
            changed[chain] += amount * rule(won, lost)
    return changed


def standard_error(values: Numbers) -> float:
    return float(stats.sem(values))


@pytest.mark.parametrize("mean", [0.0, -0.005], ids=["as good", "slightly worse"])
def test_the_champion_does_not_drift_down_behind_the_gate(mean: float) -> None:
    changed = ends(by_the_gate, mean, 0.02, seed=1007)
    assert changed.mean() >= -2 * standard_error(changed)


def test_a_champion_that_every_candidate_replaces_drifts_down_where_they_are_slightly_worse() -> None:
    changed = ends(always, -0.005, 0.02, seed=1007)
    assert changed.mean() < -5 * standard_error(changed)
    assert changed.mean() == pytest.approx(-0.005 * 40, abs=0.03)


def test_candidates_that_are_all_equally_worse_cost_no_more_than_the_gates_rate_of_them() -> None:
    changed = ends(by_the_gate, -0.005, 0.0, seed=1008)
    assert changed.mean() >= -0.005 * 40 * ALPHA
