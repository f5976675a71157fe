"""A policy that learns from its own attempts that a verifier calls right (STaR, RFT, ReST-EM).

Each round draws tasks of the same levels, has the policy attempt each several times, keeps what is right and trains on
it: a copy of the base (``restart = "base"``, as STaR and ReST-EM do) or of the champion (``"champion"``). What is
learnt from, and how, is ``filter.select`` and ``finetune.method``: ``sft`` on ``correct`` attempts, each as often as it
was drawn; ``nft,normalizer=10`` or ``kto`` on ``all``; ``dpo`` on ``best-worst`` pairs. A verifier that asks a policy
asks the champion. STaR (arXiv:2203.14465), RFT (arXiv:2308.01825), ReST-EM (arXiv:2312.06585), NFT (arXiv:2505.18116).
"""

from typing import Literal, NamedTuple, Self

from kfp.dsl import Model
from pydantic import model_validator
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import Correct, FilterParams
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verify_and_filter
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.settings import compile_time

from selfloop_recipes.claims.expert_iteration import claims, control, forms


class ExpertIteration(LoopSettings, rounds=6, environment="countdown", schedule="fixed,patience=6"):
    restart: Literal["base", "champion"] = compile_time("champion", description="What each round trains a copy of.")
    base: BaseParams = BaseParams(levels=2, per_level=20_000)
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=1200, decay_steps=300
    )
    draw: DrawParams = DrawParams(levels=[2], per_level=2000, items_per_level=120)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    filter: FilterParams = FilterParams(select="correct+per-level,limit=1000000")
    finetune: FinetuneParams = FinetuneParams(
        steps=150, batch_size=128, lr=3e-4, decay="linear", newest_share=0.8, replay_share=0.0, seed_share=0.2
    )
    evaluate: EvaluateParams = EvaluateParams(samples=4)
    gate: GateParams = GateParams(confirm=3)  # level 2 has some 170 problems for first looks and 370 for second ones
    measure: MeasureParams = MeasureParams(levels=[2], per_level=1000, samples=8)

    @model_validator(mode="after")
    def _what_is_kept_can_be_learnt_from(self) -> Self:
        select, method = self.filter.select, self.finetune.method
        if method.learns_from_wrong and any(isinstance(each, Correct) for each in select):
            raise ValueError(f"{method} learns from wrong attempts too: put 'all' for 'correct' into filter.select.")
        if method.needs_pairs and not any(each.pairs for each in select):
            raise ValueError(f"{method} learns from pairs: put 'best-worst' or 'first-error' into filter.select.")
        return self


class State(NamedTuple):
    champion: Model
    origin: Model


def start(s: ExpertIteration, policy: Model) -> State:
    return State(policy, policy)


def improve(s: ExpertIteration, now: Now) -> Improved:
    champion, origin = now.state
    rollouts = generate_rollouts(s.generate, policy=champion, tasks=now.tasks).rollouts
    kept = verify_and_filter(s, now, rollouts, champion)
    trained_from = origin if s.restart == "base" else champion
    trained = finetune_policy(s.finetune, trained_from, kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    return Improved(State(trained.candidate, origin), kept.attempted, kept.replay_pool)


recipe = Recipe(
    "expert-iteration",
    ExpertIteration,
    State,
    start,
    improve,
    frozen=("origin",),
    forms=forms,
    paper="arXiv:2312.06585",
    needs=needing(),
    control=control,
    claims=claims,
)
