"""Kuhn poker: its rules, what its strategies are worth, and what a policy is shown of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.kuhn_poker import (
    CARDS,
    DEALS,
    VALUE,
    exploited,
    information_sets,
    payoff,
    value,
)
from selfloop.evaluate.games import played

GAME = find_environment("kuhn-poker")
NAMES = [name for seat in (0, 1) for name in information_sets(seat)]
CHANCES = st.fixed_dictionaries({name: st.floats(0, 1) for name in NAMES})


def equilibrium(bluff: float) -> dict[str, float]:
    """Kuhn's optimal strategies: the first seat has one for each ``bluff`` from 0 to 1/3, the second a single one."""
    first = {"FJ:": bluff, "FQ:": 0, "FK:": 3 * bluff, "FJ:pb": 0, "FQ:pb": bluff + 1 / 3, "FK:pb": 1}
    return first | {"SJ:p": 1 / 3, "SQ:p": 0, "SK:p": 1, "SJ:b": 0, "SQ:b": 1 / 3, "SK:b": 1}


def test_there_are_six_information_sets_a_seat() -> None:
    assert sorted(NAMES) == sorted(equilibrium(0))


@given(bluff=st.floats(0, 1 / 3))
def test_optimal_play_is_worth_a_loss_of_an_eighteenth_to_the_first_seat_and_cannot_be_exploited(bluff: float) -> None:
    best = equilibrium(bluff)
    assert value(best, best) == pytest.approx(VALUE) == pytest.approx(-1 / 18)
    assert exploited(best).exploitability == pytest.approx(0, abs=1e-9)
    assert exploited(best).by_second == pytest.approx(1 / 18)


@given(strategy=CHANCES, other=CHANCES)
def test_no_strategy_wins_more_of_another_than_the_best_answer(
    strategy: dict[str, float], other: dict[str, float]
) -> None:
    found = exploited(strategy)
    assert found.exploitability >= -1e-9
    assert -value(strategy, other) <= found.by_second + 1e-9
    assert value(other, strategy) <= found.by_first + 1e-9


def test_a_coin_loses_almost_half_a_chip_a_game() -> None:
    coin = dict.fromkeys(NAMES, 0.5)
    assert value(coin, coin) == 0.125
    assert exploited(coin).exploitability == pytest.approx(11 / 24)


def test_the_higher_card_wins_where_nobody_folds() -> None:
    assert payoff("KJ", "pp") == 1
    assert payoff("JK", "bb") == -2
    assert payoff("QK", "pbb") == -2
    assert payoff("JK", "bp") == 1, "who folds loses the ante, whatever the cards"
    assert payoff("KJ", "pbp") == -1


def test_games_are_played_by_the_chances_of_the_players() -> None:
    always, never = dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, 0.0)
    assert {played(cards, (always, never), seed) for cards in DEALS for seed in range(5)} == {"bp"}
    assert {played(cards, (never, never), seed) for cards in DEALS for seed in range(5)} == {"pp"}
    assert played("JQ", (never, always), 0) == "pbp"


def test_a_deal_is_told_by_no_prompt_and_an_item_has_one_of_its_own() -> None:
    tasks, items = GAME.tasks(1, 50, 3), GAME.held_out(1, 50, 3)
    assert {task.prompt for task in tasks} == {"k"}
    assert len({item.prompt for item in items}) == 50
    assert {json.loads(task.metadata)["deal"] for task in tasks} == set(DEALS)
    assert GAME.tasks(1, 50, 3) == tasks != GAME.tasks(1, 50, 4)


def test_a_policy_is_shown_random_moves_of_a_seat_and_learns_its_own_alone() -> None:
    shown = [GAME.demonstration(task) for task in GAME.tasks(1, 400, 1)]
    for text in shown:
        others = GAME.non_policy_spans(text)
        own = [letter for place, letter in enumerate(text) if not any(a <= place < b for a, b in others)]
        head, _, moves = text.partition(":")
        assert (head[0] in "FS", head[1] in CARDS) == (True, True)
        assert own == list(moves[0::2] if head[0] == "F" else moves[1::2])
        assert text[-1] == own[-1], "what comes after its last move a seat does not read"
    assert {text[2:] for text in shown if text[0] == "F"} == {":b", ":p", ":pbp", ":pbb"}
    assert {text[2:] for text in shown if text[0] == "S"} == {":pp", ":pb", ":bp", ":bb"}
