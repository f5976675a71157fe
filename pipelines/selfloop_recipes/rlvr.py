"""A policy that is reinforced by what its own attempts are worth: learning from verifiable rewards (RLVR).

Each round the champion attempts tasks, several times each, and learns from every draw at once: attempts that are worth
more than others at the same task become likelier. ``reinforce.algorithm`` says how rewards become advantages (GRPO by
default), ``reinforce.reward`` what an attempt is worth: the verifier's word, as in Lambert et al., "Tulu 3"
(arXiv:2411.15124), or the vote of the others (form ``ttrl``). Where it ``learns`` "after", as in the form ``nft``, all
attempts of a round are made first, and ``finetune.method`` does something with good and bad ones.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Artifact, Model
from selfloop.evaluate import MeasureParams
from selfloop.finetune import (
    FinetuneParams,
    PretrainParams,
    ReinforceParams,
    TrainingStateParams,
    finetune_policy,
    init_training_state,
    reinforce_policy,
)
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified, verify_and_filter
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.settings import compile_time

from selfloop_recipes.claims.rlvr import claims, figures, forms, worlds


class Rlvr(LoopSettings, rounds=4, environment="chain", schedule="fixed,patience=4"):
    learns: Literal["as it attempts", "after"] = compile_time("as it attempts", description="When it does.")
    base: BaseParams = BaseParams(levels=8, per_level=6000, tail=0.7)
    pretrain: PretrainParams = PretrainParams(steps=1000, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[6], per_level=1600, attempts=8, items_per_level=200)
    reinforce: ReinforceParams = ReinforceParams(steps=50, batch_size=64, lr=2e-4, weight_decay=0.0, max_tokens=32)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    finetune: FinetuneParams = FinetuneParams()
    measure: MeasureParams = MeasureParams(levels=[6, 8], per_level=500, samples=8)


class State(NamedTuple):
    champion: Model
    training: Artifact


def start(s: Rlvr, policy: Model) -> State:
    return State(policy, init_training_state(TrainingStateParams()).state)


def improve(s: Rlvr, now: Now) -> Improved:
    champion, training = now.state
    if s.learns == "as it attempts":
        made = reinforce_policy(s.reinforce, champion, now.tasks, now.eval_items, training)
        return Improved(State(made.candidate, made.state), verified(s, made.rollouts, now.tasks, champion))
    kept = verify_and_filter(s, now, generate_rollouts(s.generate, champion, now.tasks).rollouts, champion)
    tuned = finetune_policy(s.finetune, champion, kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    return Improved(State(tuned.candidate, training), kept.attempted)


recipe = Recipe(
    "rlvr",
    Rlvr,
    State,
    start,
    improve,
    forms=forms | worlds,
    paper="arXiv:2411.15124",
    needs=needing(),
    figures=figures,
    claims=claims,
)
