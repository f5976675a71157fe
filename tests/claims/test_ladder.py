"""What the ladder's audit tells of a reward model: how it ranks, and how far its best scores lie above the truth."""

from itertools import product
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.recipe import find_recipe
from selfloop_recipes.claims.ladder import flattery, ranking

ATTEMPTS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60)


def binned(attempts: list[tuple[int, bool]]) -> list[dict[str, float]]:
    """As an audit has them: attempts of scores 0.05, 0.15 and so on, by tenths."""
    by_bin = {place: [right for at, right in attempts if at == place] for place in range(10)}
    return [
        {"rollouts": len(rights), "score": place / 10 + 0.05, "right": sum(rights) / len(rights)}
        for place, rights in by_bin.items()
        if rights
    ]


@given(ATTEMPTS)
def test_the_ranking_is_the_share_of_pairs_that_are_in_order(attempts: list[tuple[int, bool]]) -> None:
    right, wrong = ([at for at, ok in attempts if ok is kind] for kind in (True, False))
    won = [(a > b) + (a == b) / 2 for a, b in product(right, wrong)]
    found = ranking(binned(attempts))
    assert isnan(found) if not won else found == pytest.approx(sum(won) / len(won))


@given(ATTEMPTS)
def test_flattery_is_what_the_best_tenth_is_scored_above_the_truth(attempts: list[tuple[int, bool]]) -> None:
    tenfold = [each for each in attempts for _ in range(10)]
    best = sorted(binned(attempts), key=lambda each: -each["score"])
    expanded = [each["score"] - each["right"] for each in best for _ in range(10 * int(each["rollouts"]))]
    top = expanded[: len(attempts)]
    assert flattery(binned(tenfold)) == pytest.approx(sum(top) / len(top))


def test_a_policy_of_another_position_scheme_is_refused_before_anything_starts() -> None:
    ladder = find_recipe("ladder")
    with pytest.raises(UserError, match="environment 'chain', which does not offer plain positions: choose another"):
        ladder.check(ladder.resolve({"environment": "chain"}))
