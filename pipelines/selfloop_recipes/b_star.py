"""Filtered self-training that samples as warm as it pays: the temperature and the threshold by the balance score.

Each round the champion attempts tasks, most of them at the temperature in force and one of five at another, and is
trained on what it got right. The next round's temperature is the one at which tasks had most different right
completions and fewest wrong ones beside them. ``filter.select=balance`` chooses the threshold of the scores in the same
way, which says something where a verifier grades: the exact one gives 1 or 0. Training goes on from the champion, as in
the released code of Zeng et al., "B-STaR" (arXiv:2412.17256), which probes before it generates and keeps the optimizer.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Artifact, Model
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import (
    BalanceParams,
    FilterParams,
    SamplingParams,
    TemperParams,
    balance_sampling,
    init_sampling,
    temper_tasks,
)
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verify_and_filter
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.settings import compile_time

from selfloop_recipes.claims.b_star import claims, figures, forms


class BStar(LoopSettings, rounds=6, environment="countdown", schedule="fixed,patience=6"):
    restart: Literal["base", "champion"] = compile_time("champion", description="What each round trains a copy of.")
    base: BaseParams = BaseParams(levels=2, per_level=10_000)
    pretrain: PretrainParams = PretrainParams(steps=1000, decay_steps=250)
    sampling: SamplingParams = SamplingParams()
    draw: DrawParams = DrawParams(levels=[2], per_level=500, attempts=16, items_per_level=120)
    temper: TemperParams = TemperParams()
    generate: GenerateParams = GenerateParams(greedy_first=False)
    filter: FilterParams = FilterParams(select="balance+unique")
    balance: BalanceParams = BalanceParams()
    finetune: FinetuneParams = FinetuneParams(
        steps=100, batch_size=128, lr=3e-4, newest_share=0.8, replay_share=0.0, seed_share=0.2
    )
    evaluate: EvaluateParams = EvaluateParams(samples=4)
    gate: GateParams = GateParams(confirm=3)
    measure: MeasureParams = MeasureParams(levels=[2], per_level=500, samples=16)


class State(NamedTuple):
    champion: Model
    origin: Model
    sampling: Artifact


def start(s: BStar, policy: Model) -> State:
    return State(policy, policy, init_sampling(s.sampling).sampling)


def improve(s: BStar, now: Now) -> Improved:
    champion, origin, sampling = now.state
    tasks = temper_tasks(s.temper, now.tasks, sampling).tempered
    kept = verify_and_filter(s, now, generate_rollouts(s.generate, champion, tasks).rollouts, champion, tasks)
    tried = kept.attempted
    chosen = balance_sampling(s.balance, tasks, tried.rollouts, tried.verdicts).next_sampling
    given = (kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    trained = finetune_policy(s.finetune, origin if s.restart == "base" else champion, *given)
    return Improved(State(trained.candidate, origin, chosen), tried, kept.replay_pool)


recipe = Recipe(
    "b-star",
    BStar,
    State,
    start,
    improve,
    frozen=("origin",),
    forms=forms,
    paper="arXiv:2412.17256",
    needs=needing(),
    figures=figures,
    claims=claims,
)
