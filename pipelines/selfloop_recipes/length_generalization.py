"""Length generalization by self-training: solve longer problems, keep the right answers, train on them, repeat.

After Lee et al., "Self-Improving Transformers Overcome Easy-to-Hard and Length Generalization Challenges"
(arXiv:2502.01612), plus an exact verifier. The paper's label-free filters are ``verify.verifier=length`` and
``majority``.
"""

from typing import NamedTuple

from kfp.dsl import Model
from selfloop.finetune import FinetuneParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verify_and_filter
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, ProposeParams
from selfloop.recipe import Recipe

from selfloop_recipes.claims.length_generalization import claims, control, figures


class LengthGeneralization(LoopSettings, rounds=40, schedule="frontier"):
    base: BaseParams = BaseParams(levels=5)  # of bases that saw 4 levels, some never end an answer of the next
    propose: ProposeParams = ProposeParams()
    generate: GenerateParams = GenerateParams()
    finetune: FinetuneParams = FinetuneParams()
    gate: GateParams = GateParams(confirm=2)  # a level is learnt all at once: half as many items show it


class State(NamedTuple):
    champion: Model


def start(s: LengthGeneralization, policy: Model) -> State:
    return State(policy)


def improve(s: LengthGeneralization, now: Now) -> Improved:
    champion = now.state.champion
    rollouts = generate_rollouts(s.generate, policy=champion, tasks=now.tasks).rollouts
    kept = verify_and_filter(s, now, rollouts, champion)
    trained = finetune_policy(s.finetune, champion, kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    return Improved(State(trained.candidate), kept.attempted, kept.replay_pool)


recipe = Recipe(
    "length-generalization",
    LengthGeneralization,
    State,
    start,
    improve,
    paper="arXiv:2502.01612",
    needs=needing("levels"),
    figures=figures,
    control=control,
    claims=claims,
)
