"""A curriculum that evolves with the policy: a bandit over levels inside on-policy training (SEC).

Levels are arms, drawn with p ~ exp(Q / tau); an arm's reward is the mean absolute advantage of its rollouts, which is
greatest where the policy is right half of the time. ``strategy`` puts another curriculum in its place: ``uniform``,
``ordered``, ``reverse``, ``reestimated``. The arms follow each draw (``reinforce.grain = "step"``, as in the paper) or
each round, and are carried on with the champion. After Chen et al., "Self-Evolving Curriculum for LLM Reasoning"
(arXiv:2505.14970), plus a gate.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.artifacts import read_json
from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.finetune import PretrainParams, ReinforceArmsParams, pretrain_policy, reinforce_arms
from selfloop.gate import GateParams, gate_candidate
from selfloop.policy import FetchParams, fetch_policy
from selfloop.propose import BaseParams, DrawParams, ProgressParams, check_progress, draw_base, draw_tasks
from selfloop.propose.arms import ArmsParams, begin_arms
from selfloop.recipe import Recipe, Settings, structural
from selfloop.report import BeginParams, ReportParams, begin_report, report_round
from selfloop.verify import VerifyParams, verify_rollouts

from selfloop_recipes.claims.sec import claims, measured


class Sec(Settings):
    rounds: int = structural(8, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("countdown", description="The taskset, whose levels are the arms.")
    model: str = Field("sec", description="Name of the loop in MLflow's registry.")
    strategy: str = Field("bandit", description="What weighs the arms: a name, or a function as module:function.")
    levels: list[int] = Field([1, 2, 3], min_length=1, description="Levels that are arms.")
    reached: float = Field(0.5, gt=0, le=1, description="Accuracy on the hardest arm that is waited for.")
    base: BaseParams = BaseParams(levels=2, per_level=2000)
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=600, decay_steps=150
    )
    begin_arms: ArmsParams = ArmsParams(tau=0.2)
    draw: DrawParams = DrawParams(per_level=2000, attempts=1, items_per_level=200)
    reinforce: ReinforceArmsParams = ReinforceArmsParams(
        tau=0.2, steps=60, batch_size=128, lr=3e-4, weight_decay=0.0, max_tokens=32
    )
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams(select=["correct"])
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    progress: ProgressParams = ProgressParams(patience=6)
    begin: BeginParams = BeginParams(title="Self-evolving curriculum")
    report: ReportParams = ReportParams()
    measure: MeasureParams = MeasureParams(levels=[3, 4], per_level=500)


class Turn(NamedTuple):
    champion: Model
    arms: Artifact
    state: Artifact
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: Sec) -> Turn:
    arms, base = begin_arms(s.begin_arms).arms, draw_base(s.base)
    if s.policy == "scratch":
        champion = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        champion = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    begun = begin_report(s.begin, champion=champion)
    return Turn(champion, arms, base.curriculum, base.kept, begun.history, goes_on=True)


def round(s: Sec, last: Turn) -> tuple[Turn, Artifact]:
    drawn = draw_tasks(s.draw)
    trained = reinforce_arms(s.reinforce, policy=last.champion, tasks=drawn.tasks, items=drawn.items, arms=last.arms)
    judged = verify_rollouts(s.verify, tasks=drawn.tasks, rollouts=trained.rollouts)
    learnt = filter_rollouts(s.filter, rollouts=trained.rollouts, verdicts=judged.verdicts, kept=last.kept).examples
    candidate = trained.candidate
    results = evaluate_policies(s.evaluate, candidate=candidate, champion=last.champion, items=drawn.items).results
    seen = {
        "rollouts": trained.rollouts,
        "verdicts": judged.verdicts,
        "audit": judged.audit,
        "examples": learnt,
        "candidate": candidate,
        "results": results,
        "history": last.history,
    }
    decision = gate_candidate(s.gate, **seen).decision
    told = report_round(s.report, **seen, tasks=drawn.tasks, decision=decision, state=trained.next_arms)
    progress = check_progress(s.progress, state=last.state, results=results, decision=decision)
    next = Turn(candidate, trained.next_arms, progress.next_state, last.kept, told.next_history, progress.returned)
    return next, decision


def finish(s: Sec, last: Turn) -> dict[str, float]:
    accuracy = measure_policy(s.measure, policy=last.champion, curriculum=last.state).results.metadata["accuracy"]
    return measured(read_json(last.history.path)["rounds"], accuracy, s.levels, s.reached, s.reinforce.steps)


recipe = Recipe(
    name="sec",
    settings=Sec,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2505.14970",
    needs=lambda s: {"levels", "alphabet"} if s.policy == "scratch" else {"levels"},
    control={"strategy": "uniform"},
    claims=claims,
)
