"""A policy that learns from its own attempts that a verifier calls right (STaR, RFT, ReST-EM).

Each round draws tasks of the same levels, has the policy attempt each several times, keeps what is right and trains on
it: a copy of the base (``restart = "base"``, as STaR and ReST-EM do) or of the champion (``"champion"``). What is
learnt from, and how, is ``filter.select`` and ``finetune.method``: ``sft`` on ``correct`` attempts, each as often as it
was drawn; ``nft`` or ``kto`` on ``all``; ``dpo`` on ``best-worst`` pairs. A verifier that asks a policy asks the
champion. STaR (arXiv:2203.14465), RFT (arXiv:2308.01825), ReST-EM (arXiv:2312.06585), NFT (arXiv:2505.18116).
"""

from typing import Literal, NamedTuple, Self

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field, model_validator
from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import PAIRS, FilterParams, filter_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy, pretrain_policy
from selfloop.gate import GateParams, gate_candidate
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.policy import FetchParams, fetch_policy
from selfloop.propose import BaseParams, DrawParams, ProgressParams, check_progress, draw_base, draw_tasks
from selfloop.recipe import Recipe, Settings, structural
from selfloop.report import BeginParams, ReportParams, begin_report, report_round
from selfloop.verify import VerifyParams, askers, judge_rollouts, verify_rollouts

from selfloop_recipes.claims.expert_iteration import claims, control


class ExpertIteration(Settings):
    rounds: int = structural(6, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("countdown", description="The taskset with its protocol and verifier.")
    model: str = Field("expert-iteration", description="Name of the loop in MLflow's registry.")
    restart: Literal["base", "champion"] = structural("champion", description="What each round trains a copy of.")
    base: BaseParams = BaseParams(levels=2, per_level=20_000)
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=1200, decay_steps=300
    )
    draw: DrawParams = DrawParams(levels=[2], per_level=2000, items_per_level=600)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams(select=["correct", "per-level"], per_level=1_000_000)
    finetune: FinetuneParams = FinetuneParams(
        steps=150,
        batch_size=128,
        lr=3e-4,
        decay="linear",
        newest_share=0.8,
        kept_share=0.0,
        base_share=0.2,
        nft_normalizer=10.0,
    )
    evaluate: EvaluateParams = EvaluateParams(samples=4)
    gate: GateParams = GateParams()
    progress: ProgressParams = ProgressParams(patience=6)
    begin: BeginParams = BeginParams(title="Expert iteration")
    report: ReportParams = ReportParams()
    measure: MeasureParams = MeasureParams(levels=[2], per_level=1000, samples=8)

    @model_validator(mode="after")
    def _what_is_kept_can_be_learnt_from(self) -> Self:
        select, method = self.filter.select, self.finetune.method
        if method in ("nft", "kto") and "correct" in select:
            raise ValueError(f"{method} learns from wrong attempts too: put 'all' for 'correct' into filter.select.")
        if method == "dpo" and not set(PAIRS) & set(select):
            raise ValueError("dpo learns from pairs: put 'best-worst' or 'first-error' into filter.select.")
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
    if s.policy == "scratch":
        champion = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        champion = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    begun = begin_report(s.begin, champion=champion)
    return Turn(champion, champion, base.curriculum, base.examples, base.kept, begun.history, goes_on=True)


def round(s: ExpertIteration, last: Turn) -> tuple[Turn, Artifact]:
    drawn = draw_tasks(s.draw)
    rollouts = generate_rollouts(s.generate, policy=last.champion, tasks=drawn.tasks).rollouts
    if askers(s.verify):
        judged = judge_rollouts(s.verify, policy=last.champion, tasks=drawn.tasks, rollouts=rollouts)
    else:
        judged = verify_rollouts(s.verify, tasks=drawn.tasks, rollouts=rollouts)
    new = filter_rollouts(s.filter, rollouts=rollouts, verdicts=judged.verdicts, kept=last.kept)
    candidate = finetune_policy(
        s.finetune,
        policy=last.beginning if s.restart == "base" else last.champion,
        newest=new.examples,
        kept=new.next_kept,
        base=last.base,
        items=drawn.items,
    ).candidate
    results = evaluate_policies(s.evaluate, candidate=candidate, champion=last.champion, items=drawn.items).results
    decision = gate_candidate(
        s.gate,
        rollouts=rollouts,
        verdicts=judged.verdicts,
        audit=judged.audit,
        examples=new.examples,
        candidate=candidate,
        results=results,
        history=last.history,
    ).decision
    progress = check_progress(s.progress, state=last.state, results=results, decision=decision)
    told = report_round(
        s.report,
        history=last.history,
        tasks=drawn.tasks,
        rollouts=rollouts,
        verdicts=judged.verdicts,
        audit=judged.audit,
        examples=new.examples,
        candidate=candidate,
        results=results,
        decision=decision,
        state=progress.next_state,
    )
    next = last._replace(
        champion=candidate,
        state=progress.next_state,
        kept=new.next_kept,
        history=told.next_history,
        goes_on=progress.returned,
    )
    return next, decision


def finish(s: ExpertIteration, last: Turn) -> dict[str, float]:
    results = measure_policy(s.measure, policy=last.champion, curriculum=last.state).results
    accuracy = results.metadata["accuracy"].values()
    return {"accuracy": sum(accuracy) / len(accuracy)}


recipe = Recipe(
    name="expert-iteration",
    settings=ExpertIteration,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2312.06585",
    needs=lambda s: {"alphabet"} if s.policy == "scratch" else set(),
    control=control,
    claims=claims,
)
