"""Curation by preference, held against the closed form of Ferbach et al. (arXiv:2407.09499)."""

from collections import Counter
from itertools import product
from math import exp, prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial
from selfloop.filter import FilterParams
from selfloop.filter.selectors.curated import chances

from .conftest import Filtered, group

DENSITY, REWARD = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 2.0])


def kept(attempts: int) -> np.ndarray:
    """The density of what is kept of so many attempts, over all groups that there can be."""
    made = np.zeros(len(DENSITY))
    for drawn in product(range(len(DENSITY)), repeat=attempts):
        for text, chance in zip(drawn, chances(REWARD[list(drawn)]), strict=True):
            made[text] += prod(DENSITY[list(drawn)]) * chance
    return made


@pytest.mark.parametrize("attempts", [2, 3, 5])
def test_what_is_kept_has_the_density_of_the_closed_form(attempts: int) -> None:
    others = list(product(range(len(DENSITY)), repeat=attempts - 1))
    for text, density in enumerate(DENSITY):
        own = exp(REWARD[text])
        expected = sum(
            prod(DENSITY[list(other)]) * attempts * own / (own + np.exp(REWARD[list(other)]).sum()) for other in others
        )
        assert kept(attempts)[text] == pytest.approx(density * expected, abs=1e-12)


def test_with_many_attempts_it_goes_to_the_density_times_e_to_the_reward() -> None:
    limit = DENSITY * np.exp(REWARD)
    far = [abs(kept(attempts) - limit / limit.sum()).max() for attempts in (2, 4, 8)]
    assert far[0] > far[1] > far[2]


def test_of_a_thousand_attempts_it_is_that_limit_to_a_thousandth() -> None:
    """Over all that a thousand attempts can be, as numbers of each text."""
    size, limit = 1000, DENSITY * np.exp(REWARD)
    number = np.array([(a, b, size - a - b) for a in range(size + 1) for b in range(size + 1 - a)])
    chance = multinomial.pmf(number, size, DENSITY)
    chosen = number * np.exp(REWARD) / (number * np.exp(REWARD)).sum(axis=1, keepdims=True)
    assert abs(chance @ chosen - limit / limit.sum()).max() < 1e-3


def test_round_after_round_the_reward_rises_and_its_variance_falls() -> None:
    density, means, spreads = DENSITY, [], []
    for _ in range(12):
        worth = sum(density * np.exp(REWARD))
        means.append(worth)
        spreads.append(sum(density * np.exp(REWARD) ** 2) - worth**2)
        density = density * np.exp(REWARD) / worth
    assert means == sorted(means)
    assert spreads[-1] < 1e-3 < spreads[0]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_the_chances_of_a_group_are_a_distribution_that_prefers_what_is_worth_more(worth: list[float]) -> None:
    found = chances(worth)
    assert found.sum() == pytest.approx(1)
    order = np.argsort(worth, kind="stable")
    assert list(found[order]) == sorted(found)


def test_of_each_task_one_is_kept_as_often_as_its_chance_says_and_is_good(tmp_path: Path) -> None:
    judged = [each for task in range(400) for each in group(f"t{task}", ("a", False, 0.0), ("b", None, 1.0))]
    made = Filtered(tmp_path, FilterParams(select="curated"), judged)
    assert made.rejected == {"another was chosen": 400}
    counted = Counter(made.texts)
    assert counted["b"] / 400 == pytest.approx(exp(1) / (1 + exp(1)), abs=6 * (0.2 / 400) ** 0.5)
    assert all(row.good for row in made.examples)
