"""Designs of claims beside those of the recipes, each in a file of its own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.claims.measuring import Run, planned, settings_of
from selfloop.recipe import designs, find_recipe, recipes
from selfloop_recipes.claims import informative
from selfloop_recipes.claims.agent0_chains import follows
from selfloop_recipes.claims.rlvr_worlds import knows
from selfloop_recipes.claims.sec_staircase import reached


@pytest.mark.slow
@pytest.mark.parametrize("name", designs())
def test_a_design_is_made_of_settings_that_its_recipe_has(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name not in recipes()
    assert recipe.claims is not None
    for run in planned(recipe, recipe.claims.seeds[:1]):
        recipe.check(settings_of(recipe, run))
    one, *others = (settings_of(recipe, Run(*cell, 99)).overrides() for cell in recipe.claims.cells)
    assert all(other != one for other in others), "two arms are the same"
    assert all(len(statement.baselines) <= 1 for statement in recipe.claims.statements)
    assert len(recipe.claims.seeds) >= 10


@given(st.dictionaries(st.integers(1, 40), st.floats(0, 1)), st.floats(0.1, 1))
def test_what_is_reached_is_solved_as_is_all_below_it(accuracy: dict[int, float], solved: float) -> None:
    highest = reached(accuracy, solved)
    assert all(value >= solved for level, value in accuracy.items() if level <= highest)
    beyond = [level for level in accuracy if level > highest]
    assert not beyond or accuracy[min(beyond)] < solved


def test_proposals_follow_where_they_rise_and_fall_with_the_accuracy_before() -> None:
    rounds = [
        {"accuracy": {"candidate": {"3": share}}, "band": {"tasks": 9, "mean_level": level}}
        for share, level in ((0.1, 9.0), (0.3, 1.0), (0.2, 3.0), (0.5, 2.0))
    ]
    assert math.isclose(follows(rounds), 1.0)
    assert math.isnan(follows(rounds[:2]))
    assert math.isnan(follows([rounds[0]] * 4)), "nothing changes"


def test_how_informative_a_run_was_is_the_mean_over_rounds_that_trained() -> None:
    assert informative([{"roles": [{"informative": share}]} for share in (0.25, None, 0.75)]) == 0.5
    assert math.isnan(informative([{"roles": [{"informative": None}]}]))


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(1, 2))
def test_what_a_policy_says_of_itself_is_borne_out_by_its_own_rates(rates: list[float], boundary: int) -> None:
    def knows_if(says: list[float]) -> float:
        right = [can if level <= boundary else 1 - can for level, can in enumerate(says, 1)]
        return knows(dict(enumerate([*rates, *right], 1)), boundary)

    assert math.isclose(knows_if([1.0] * 3), sum(rates) / 3), "it always says that it can"
    best = knows_if([float(rate >= 0.5) for rate in rates])
    assert best >= max(knows_if([1.0] * 3), knows_if([0.0] * 3)) - 1e-9
