"""A policy that learns from its own attempts that a verifier calls right (STaR, RFT, ReST-EM).

Each round draws tasks of the same levels, has the policy attempt each several times, keeps what is right and trains on
it: a copy of the base (``restart = "base"``, as STaR and ReST-EM do) or of the champion (``"champion"``). What is
learnt from, and how, is ``filter.select`` and ``finetune.method``: ``sft`` on ``correct`` attempts, each as often as it
was drawn; ``nft,normalizer=10`` or ``kto`` on ``all``; ``dpo`` on ``best-worst`` pairs. A verifier that asks a policy
asks the champion. STaR (arXiv:2203.14465), RFT (arXiv:2308.01825), ReST-EM (arXiv:2312.06585), NFT (arXiv:2505.18116).
"""

from statistics import fmean
from typing import Literal, NamedTuple, Self

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field, model_validator
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import PAIRS, FilterParams
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.propose import BaseParams, DrawParams, ProgressParams, check_progress, draw_base, draw_tasks
from selfloop.recipe import Recipe, structural
from selfloop.report import BeginParams
from selfloop.rounds import LoopSettings, accuracy, judged, needing, opened, sifted, told
from selfloop.verify import askers, judge_rollouts, verify_rollouts

from selfloop_recipes.claims.expert_iteration import claims, control


class ExpertIteration(LoopSettings):
    rounds: int = structural(6, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("countdown", description="The taskset with its protocol and verifier.")
    model: str = Field("expert-iteration", description="Name of the loop in MLflow's registry.")
    restart: Literal["base", "champion"] = structural("champion", description="What each round trains a copy of.")
    base: BaseParams = BaseParams(levels=2, per_level=20_000)
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=1200, decay_steps=300
    )
    draw: DrawParams = DrawParams(levels=[2], per_level=2000, items_per_level=600)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    filter: FilterParams = FilterParams(select=["correct", "per-level"], per_level=1_000_000)
    finetune: FinetuneParams = FinetuneParams(
        steps=150,
        batch_size=128,
        lr=3e-4,
        decay="linear",
        newest_share=0.8,
        kept_share=0.0,
        base_share=0.2,
    )
    evaluate: EvaluateParams = EvaluateParams(samples=4)
    progress: ProgressParams = ProgressParams(patience=6)
    begin: BeginParams = BeginParams(title="Expert iteration")
    measure: MeasureParams = MeasureParams(levels=[2], per_level=1000, samples=8)

    @model_validator(mode="after")
    def _what_is_kept_can_be_learnt_from(self) -> Self:
        select, method = self.filter.select, self.finetune.method
        if method.learns_from_wrong and "correct" in select:
            raise ValueError(f"{method} learns from wrong attempts too: put 'all' for 'correct' into filter.select.")
        if method.needs_pairs and not set(PAIRS) & set(select):
            raise ValueError(f"{method} learns from pairs: put 'best-worst' or 'first-error' into filter.select.")
        return self


class Turn(NamedTuple):
    champion: Model
    beginning: Model
    state: Artifact
    base: Dataset
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: ExpertIteration) -> Turn:
    base = draw_base(s.base)
    champion, history = opened(s, base)
    return Turn(champion, champion, base.curriculum, base.examples, base.kept, history, goes_on=True)


def round(s: ExpertIteration, last: Turn) -> tuple[Turn, Artifact]:
    tasks, items = draw_tasks(s.draw)
    rollouts = generate_rollouts(s.generate, policy=last.champion, tasks=tasks).rollouts
    if askers(s.verify):
        verified = judge_rollouts(s.verify, policy=last.champion, tasks=tasks, rollouts=rollouts)
    else:
        verified = verify_rollouts(s.verify, tasks=tasks, rollouts=rollouts)
    attempted, kept = sifted(s, tasks, rollouts, verified, last.kept)
    trained_from = last.beginning if s.restart == "base" else last.champion
    candidate = finetune_policy(
        s.finetune, policy=trained_from, newest=attempted.examples, kept=kept, base=last.base, items=items
    ).candidate
    made = judged(s, attempted, candidate, last.champion, items, last.history)
    progress = check_progress(s.progress, state=last.state, results=made.results, decision=made.decision)
    history = told(s, attempted, made, last.history, progress.state)
    next = last._replace(champion=candidate, state=progress.state, kept=kept, history=history, goes_on=progress.proceed)
    return next, made.decision


def finish(s: ExpertIteration, last: Turn) -> dict[str, float]:
    return {"accuracy": fmean(accuracy(s, last.champion, last.state).values())}


recipe = Recipe(
    name="expert-iteration",
    settings=ExpertIteration,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2312.06585",
    needs=needing(),
    control=control,
    claims=claims,
)
