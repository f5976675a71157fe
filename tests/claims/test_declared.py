"""What a recipe may declare."""

from typing import Any

import pytest
from selfloop.claims import Claims, Statement
from selfloop.claims.measuring import Run, planned, settings_of
from selfloop.claims.results import committed, is_stale
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
    ],
)
def test_a_statement_that_says_nothing_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Statement("It is so.", "m", "new", **given)


def test_only_what_some_statement_needs_is_run() -> None:
    assert Claims(**GOOD).cells == [("default", "new"), ("default", "old")]


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if recipe.claims])
def test_the_claims_of_a_recipe_are_settings_that_it_has(name: str) -> None:
    recipe = recipes()[name]
    assert recipe.claims is not None
    for run in planned(recipe, (*recipe.claims.seeds, *recipe.claims.tuning)):
        settings = settings_of(recipe, run)
        recipe.check(settings)
        assert settings.seed == run.seed
    one, *others = (settings_of(recipe, Run(*cell, recipe.claims.seeds[0])).overrides() for cell in recipe.claims.cells)
    assert all(other != one for other in others), "two arms are the same"


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if committed(recipe)])
def test_a_committed_result_is_of_the_recipe_as_it_is(name: str) -> None:
    recipe = recipes()[name]
    told = committed(recipe)
    assert told is not None
    assert recipe.claims is not None
    assert not is_stale(recipe, told), f"run 'selfloop claim {name} --write'"
    assert told["seeds"] == list(recipe.claims.seeds)
    assert [each["sentence"] for each in told["statements"]] == [each.sentence for each in recipe.claims.statements]
