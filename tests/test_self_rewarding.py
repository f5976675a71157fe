"""What self-rewarding prefers to what."""

from pathlib import Path
from typing import Any

import pytest
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.modes.inprocess import run
from selfloop.recipe import find_recipe
from selfloop.records import Example, rows

from .tiny import tiny

RECIPE, CHAIN = find_recipe("self-rewarding"), find_environment("chain")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"pairs": ["tried over tired"]}, "no source of attempts in 'tried over tired' 'tired': did you mean 'tried'"),
        ({"pairs": ["tried"]}, "no source of attempts in 'tried over ' ''"),
        (
            {"pairs": ["asked over tried"]},
            "answers in the role 'judge' are none: let about.role be one of again, wrong",
        ),
        ({"pairs": []}, "pairs"),
    ],
)
def test_pairs_that_there_are_not_are_refused(given: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        RECIPE.resolve(given)


@pytest.mark.parametrize(
    ("recipe", "given", "sentence"),
    [
        (
            "self-rewarding",
            {"base": {"roles": ["again"]}},
            "in the role 'judge' by verify, and its base is never shown it",
        ),
        (
            "self-rewarding",
            {"base": {"roles": ["again"]}, "verify": {"verifier": "weighted,weights=exact:1+judge:1"}},
            "in the role 'judge' by verify, and its base is never shown it",
        ),
        (
            "rlvr",
            {"form": "covo", "base": {"roles": []}},
            "in the role 'now' by reinforce.*: put 'now' into base.roles",
        ),
    ],
)
def test_a_base_that_is_never_shown_what_it_is_asked_is_refused_before_anything_starts(
    recipe: str, given: dict[str, Any], sentence: str
) -> None:
    found = find_recipe(recipe)
    with pytest.raises(UserError, match=sentence):
        found.check(found.resolve(given))
    found.check(
        found.resolve(given | {"environment": "asked:judge:chain"}) if recipe == "self-rewarding" else found.resolve()
    )


@pytest.mark.slow
def test_in_spin_demonstrations_are_preferred_to_other_attempts(tmp_path: Path) -> None:
    run(RECIPE, RECIPE.resolve(tiny(RECIPE, "spin") | {"rounds": 1}), tmp_path)
    [place] = tmp_path.glob("round-01/pair*/examples")
    pairs = list(rows(place, Example))
    shown = {
        each.prompt: CHAIN.demonstration(CHAIN.parse_proposal(each.prompt.removesuffix("="), "")) for each in pairs
    }
    assert len(pairs) > 5
    assert all(each.completion == shown[each.prompt] != each.rejected for each in pairs)
