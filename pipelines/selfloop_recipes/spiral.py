"""Self-play of a zero-sum game: one policy on both seats, with advantages by seat (SPIRAL).

The champion plays Kuhn poker against itself and is reinforced by what each seat won, less what that seat was given
lately, so that the better seat is no merit. Candidate and champion play the same deals against the champion, and what
the best answer would win of each is computed exactly. Liu et al., "SPIRAL" (arXiv:2506.24119), on a game of six deals.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from selfloop.evaluate import PlayersParams, compare_players
from selfloop.finetune import (
    PretrainParams,
    ReinforceParams,
    TrainingStateParams,
    init_training_state,
    reinforce_policy,
)
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.verify import VerifyParams


class Spiral(LoopSettings, rounds=5, environment="kuhn-poker", schedule="fixed,patience=5"):
    base: BaseParams = BaseParams(levels=1, per_level=4000)
    pretrain: PretrainParams = PretrainParams(hidden_size=32, intermediate_size=64, steps=300, decay_steps=100)
    draw: DrawParams = DrawParams(levels=[1], per_level=2000, attempts=1, items_per_level=300)
    reinforce: ReinforceParams = ReinforceParams(
        reward="protocol",
        algorithm="role-baseline",
        protocol="kuhn-poker",
        steps=100,
        batch_size=128,
        group_size=2,
        lr=1e-3,
        max_tokens=2,
    )
    verify: VerifyParams = VerifyParams(verifier="rewarded", truth="unknown")
    players: PlayersParams = PlayersParams()
    gate: GateParams = GateParams(require="no-worse", guards=[])  # no labels, and one game has no old levels


class State(NamedTuple):
    champion: Model
    training: Artifact


def start(s: Spiral, policy: Model) -> State:
    return State(policy, init_training_state(TrainingStateParams()).state)


def improve(s: Spiral, now: Now) -> Improved:
    champion, training = now.state
    played = reinforce_policy(s.reinforce, champion, now.tasks, now.eval_items, training)
    return Improved(State(played.candidate, played.state), verified(s, played.rollouts, now.tasks))


def compare(s: Spiral, candidate: Model, champion: Model, eval_items: Dataset) -> Dataset:
    return compare_players(s.players, candidate, champion, eval_items).results


def figures(s: Spiral, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    games = rounds[-1]["games"]["candidate" if rounds[-1]["decision"]["promoted"] else "champion"]
    return {"exploitability": games["exploitability"], "value": games["value"]}


recipe = Recipe(
    "spiral",
    Spiral,
    State,
    start,
    improve,
    compare=compare,
    paper="arXiv:2506.24119",
    needs=needing("game"),
    figures=figures,
)
