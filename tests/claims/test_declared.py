"""What a recipe may declare."""

from math import inf
from typing import Any

import pytest
from selfloop.claims import Claims, Statement
from selfloop.claims.measuring import Run, planned, settings_of
from selfloop.claims.results import committed, is_stale, judged_anew
from selfloop.claims.table import is_borne_out, state
from selfloop.recipe import recipes

GOOD: dict[str, Any] = {
    "arms": {"new": {}, "old": {}, "unused": {}},
    "statements": (Statement("It is higher.", "m", "new", ("old",)),),
    "tuning": (10,),
    "seeds": (0, 1, 2, 3, 4),
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": (0, 1, 2, 3)}, "at least 5 test seeds, not 4"),
        ({"seeds": (0, 1, 2, 3, 3)}, "at least 5 test seeds, not 4"),
        ({"seeds": (0, 1, 2, 3, 4, 4)}, "given twice"),
        ({"tuning": (4, 10)}, "Seed 4 of claims is for tuning and for the test"),
        ({"arms": {"new": {}}}, "names the arm 'old', which is not there"),
        ({"statements": ()}, "need a statement"),
        ({"statements": (Statement("x", "m", "new", ("old",), setups=("moon",)),)}, "the setup 'moon'"),
    ],
)
def test_claims_that_cannot_be_measured_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Claims(**GOOD | change)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "needs baselines or a range"),
        ({"baselines": ("old",), "within": (0.0, 1.0)}, "needs baselines or a range"),
        ({"within": (1.0, 0.0)}, "holds nothing"),
        ({"baselines": ("new",)}, "compares arm 'new' with itself"),
        ({"baselines": ("old",), "missing": float("nan")}, "give a number"),
        ({"baselines": ("old",), "missing": 2.0, "bounds": (0.0, 1.0)}, "beyond its bounds"),
        ({"baselines": ("old",), "bounds": (1.0, 0.0)}, "has the bounds .*, which holds nothing"),
        ({"baselines": ("old",), "bounds": (0.0, float("inf"))}, "give two numbers, or none"),
        ({"within": (0.0, 1.0), "bounds": (0.0, 1.0)}, "narrow it"),
        ({"baselines": ("old",), "better": "same"}, "give the margin below which a difference does not matter"),
        ({"baselines": ("old",), "margin": 0.0}, "the margin 0.0: give a number above 0"),
        ({"baselines": ("old",), "margin": -0.1}, "give a number above 0"),
        ({"baselines": ("old",), "margin": float("nan")}, "give a number above 0"),
        ({"within": (0.0, 1.0), "margin": 0.1}, "a range, which needs no margin"),
        ({"within": (0.0, 1.0), "better": "same"}, "a range, which needs no margin"),
    ],
)
def test_a_statement_that_says_nothing_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Statement("It is so.", "m", "new", **given)


def test_only_what_some_statement_needs_is_run() -> None:
    assert Claims(**GOOD).cells == [("default", "new"), ("default", "old")]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if recipe.claims])
def test_the_claims_of_a_recipe_are_settings_that_it_has(name: str) -> None:
    recipe = recipes()[name]
    assert recipe.claims is not None
    for run in planned(recipe, recipe.claims.seeds[:1]):
        recipe.check(settings_of(recipe, run))
    for run in planned(recipe, (*recipe.claims.seeds, *recipe.claims.tuning)):
        assert settings_of(recipe, run).seed == run.seed
    one, *others = (settings_of(recipe, Run(*cell, recipe.claims.seeds[0])).overrides() for cell in recipe.claims.cells)
    assert all(other != one for other in others), "two arms are the same"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if recipe.claims])
def test_each_seed_has_items_of_its_own_which_its_arms_share(name: str) -> None:
    recipe = recipes()[name]
    assert recipe.claims is not None
    by_seed: dict[int, set[int]] = {}
    for run in planned(recipe, (*recipe.claims.seeds, *recipe.claims.tuning)):
        settings = settings_of(recipe, run)
        items = [getattr(settings, stage).item_seeds for stage in settings.stages() if has_items(settings, stage)]
        assert items, "a loop without items of its own to judge on"
        assert by_seed.setdefault(run.seed, {each for some in items for each in some}) == set(items[0])
    assert sum(map(len, by_seed.values())) == len(set[int]().union(*by_seed.values()))


def has_items(settings: Any, stage: str) -> bool:
    return "item_seeds" in type(getattr(settings, stage)).model_fields


def test_a_range_that_ends_where_its_bounds_do_has_one_end() -> None:
    assert Statement("x", "m", "new", within=(0.5, 1.0), bounds=(0.0, 1.0)).room == (0.5, inf)
    assert Statement("x", "m", "new", within=(0.0, 0.5), bounds=(0.0, 1.0)).room == (-inf, 0.5)
    assert Statement("x", "m", "new", within=(0.2, 0.5), bounds=(0.0, 1.0)).room == (0.2, 0.5)


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if committed(recipe)])
def test_a_committed_result_is_judged_by_the_rules_that_there_are(name: str) -> None:
    recipe = recipes()[name]
    told = committed(recipe)
    assert told is not None
    assert recipe.claims is not None
    assert judged_anew(recipe, told) == told, f"run 'selfloop claim {name} --judge --write'"
    assert state(recipe) == ("stale" if is_stale(recipe, told) else f"{borne_out(told)} of {len(told['statements'])}")
    if not is_stale(recipe, told):
        assert told["seeds"] == list(recipe.claims.seeds)


def borne_out(told: dict[str, Any]) -> int:
    return sum(map(is_borne_out, told["statements"]))
