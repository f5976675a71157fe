"""``compare_players``: candidate and champion in the same deals of a game, and how far each can be exploited."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop.environments import kuhn_poker
from selfloop.environments.kuhn_poker import MOVES, OPEN, SEATS, Strategy, deal, exploited, information_sets, view
from selfloop.policy import Policy, encode, load
from selfloop.records import ItemResult, Task, rows, writing
from selfloop.resources import Resources
from selfloop.seeds import seed_of
from selfloop.stages import Params, stage


class PlayersParams(Params):
    """How players are compared."""

    prompt: str = Field("k", description="What every game begins with.")


class ComparedPlayers(NamedTuple):
    """Whether candidate and champion won each deal against the champion, on each seat."""

    results: Dataset


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def compare_players(
    out: ComparedPlayers, params: PlayersParams, candidate: Model, champion: Model, eval_items: Dataset
) -> None:
    """Play the same deals, with the same luck, as candidate and as champion against the champion.

    Moves are drawn from the exact chances that the policies give them. The results' metadata hold what each policy can
    be exploited for, in chips a game, and what self-play is worth to the first seat.
    """
    players = {
        name: strategy_of(load(model.path, model.metadata["digest"]), params.prompt)
        for name, model in (("champion", champion), ("candidate", candidate))
    }
    with writing(out.results.path, ItemResult) as table:
        for item in rows(eval_items.path, Task):
            for name, seat in ((name, seat) for name in players for seat in range(2)):
                pair = (players[name], players["champion"])
                moves = played(deal(item), pair if seat == 0 else pair[::-1], seed_of(item.id, seat))
                won = kuhn_poker.payoff(deal(item), moves) * (1 if seat == 0 else -1) > 0
                about = (item.suite, item.level, f"{item.id}-{SEATS[seat]}", 0)
                table.write([ItemResult(name, *about, won, moves, item.seed, item.cluster)])
    out.results.metadata["games"] = {
        name: exploited(player)._asdict() | {"value": kuhn_poker.value(player, player)}
        for name, player in players.items()
    }


def strategy_of(policy: Policy, prompt: str) -> Strategy:
    """The chance of a bet at each information set, among the legal moves."""
    import torch

    strategy = {}
    for name in (name for seat in range(2) for name in information_sets(seat)):
        prefix, *moves = encode(policy.tokenizer, [prompt + name, *(prompt + name + move for move in MOVES)])
        with torch.inference_mode():
            logits = policy.model(input_ids=torch.tensor([prefix])).logits[0, -1, [move[len(prefix)] for move in moves]]
        strategy[name] = float(logits.double().softmax(0)[MOVES.index("b")])
    return strategy


def played(cards: str, players: Sequence[Strategy], seed: int) -> str:
    """The moves of one game, drawn from the players' chances."""
    luck, history = random.Random(seed), ""
    while history in OPEN:
        seat = OPEN[history]
        history += "b" if luck.random() < players[seat][view(seat, cards[seat], history)] else "p"
    return history
