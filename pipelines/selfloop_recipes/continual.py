"""Skills that are taught one after another: what a policy forgets of the first while it learns the last.

Each round has a cell of the environment of its own, writes down what is right for its tasks, and the champion is
trained on that: alone (the default), beside what was taught before (form ``replayed``), or held to where the round
begins (``anchored``, ``ewc``, ``swap``). Nothing is self-made here: it is the floor that a loop over many domains
stands on. With ``gated`` what loses an old skill is not promoted; in ``trunk`` one optimizer goes through all rounds.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Model
from selfloop.evaluate import MeasureParams
from selfloop.finetune import (
    FinetuneParams,
    PretrainParams,
    TrainingStateParams,
    finetune_policy,
    init_training_state,
)
from selfloop.loop import Improved, LoopSettings, Now, needing
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams, WriteParams, write_examples
from selfloop.recipe import Recipe

from selfloop_recipes.claims.continual import claims, figures, forms


class Continual(
    LoopSettings,
    rounds=3,
    environment="mixture:reverse@5+countdown@3+chain@2+addition@3",
    schedule="successive",
):
    base: BaseParams = BaseParams(levels=1, per_level=5000)
    pretrain: PretrainParams = PretrainParams(steps=600, decay_steps=150)
    draw: DrawParams = DrawParams(levels=[2, 3, 4], old_levels=[1], per_level=2000, items_per_level=150)
    write: WriteParams = WriteParams()
    finetune: FinetuneParams = FinetuneParams(steps=300, newest_share=1.0, replay_share=0.0, seed_share=0.0)
    gate: GateParams = GateParams(require="nothing", confirm=2, guards=[])
    measure: MeasureParams = MeasureParams(levels=[1, 2, 3, 4], per_level=250)


class State(NamedTuple):
    champion: Model
    training: Artifact


def start(s: Continual, policy: Model) -> State:
    return State(policy, init_training_state(TrainingStateParams()).state)


def improve(s: Continual, now: Now) -> Improved:
    champion, training = now.state
    taught = write_examples(s.write, now.tasks, now.replay_pool)
    given = (taught.examples, now.replay_pool, now.seed_data, now.eval_items)
    trained = finetune_policy(s.finetune, champion, *given, training)
    return Improved(State(trained.candidate, trained.state), replay_pool=taught.replay_pool)


recipe = Recipe(
    "continual",
    Continual,
    State,
    start,
    improve,
    forms=forms,
    needs=needing("levels"),
    figures=figures,
    claims=claims,
)
