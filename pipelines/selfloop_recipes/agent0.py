"""A curriculum agent and an executor that raise each other, with tools and without a label (Agent0, R-Zero).

The curriculum agent is trained to propose tasks on which the frozen executor is of two minds; the executor is trained
on those whose vote lies in a band, on the majority's answer, with tools. Both go on from their last selves and are
promoted together, by the executor's accuracy on held-out items (the paper chose on its test sets). ``variant`` is what
the paper says, the default because its reward needs no claimed answer, or what the released code does: its reward, its
band from 0.3 to 0.8, its gate by the claimed answer (``environment`` must show claims, as ``arithmetic:claims``), its
100 steps instead of 40. ``r-zero`` is the same loop without tools. Xia et al., "Agent0" (arXiv:2511.16043); Huang et
al., "R-Zero" (arXiv:2508.05004).
"""

from typing import Any, Literal, NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.artifacts import read_json
from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.filter.band import BandParams, band_tasks
from selfloop.finetune import (
    PretrainParams,
    ReinforceParams,
    ReinforceProposerParams,
    pretrain_policy,
    reinforce_policy,
    reinforce_proposer,
)
from selfloop.gate import GateParams, gate_candidate
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.policy import FetchParams, fetch_policy
from selfloop.propose import (
    BaseParams,
    DrawParams,
    KnownParams,
    LearnedParams,
    ProgressParams,
    begin_known,
    check_progress,
    draw_base,
    draw_tasks,
    propose_by_policy,
)
from selfloop.recipe import Recipe, Settings, structural
from selfloop.report import BeginParams, ReportParams, RoleParams, begin_report, report_role, report_round
from selfloop.verify import VerifyParams, verify_rollouts

from selfloop_recipes.claims.agent0 import claims, measured


class Agent0(Settings):
    rounds: int = structural(3, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("arithmetic", description="The taskset, which takes proposals.")
    model: str = Field("agent0", description="Name of the loop in MLflow's registry.")
    variant: Literal["paper", "code", "r-zero"] = structural("paper", description="Whose rewards, band and steps.")
    proposer: Literal["trained", "frozen"] = structural("trained", description="Whether the curriculum agent learns.")
    when_empty: Literal["stop", "go on"] = Field("stop", description="What a round does that comes to no tasks.")
    protocol: str = Field("tools", description="How the executor attempts a task: tools, single, or module:function.")
    tools: list[str] = Field(["op"], description="tools: those that the executor may call.")
    turns: int = Field(8, ge=1, description="Turns of an attempt at most.")
    base: BaseParams = BaseParams(levels=2, per_level=2000, proposals=2000)
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=600, decay_steps=150
    )
    known: KnownParams = KnownParams()
    draw: DrawParams = DrawParams(levels=[3, 4], old_levels=[1, 2], per_level=1, items_per_level=100)
    challenge: ReinforceProposerParams = ReinforceProposerParams(
        steps=5, batch_size=64, group_size=4, lr=3e-4, weight_decay=0.0, max_tokens=32
    )
    learn: LearnedParams = LearnedParams(protocol="single", number=512, max_tokens=32)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=9, greedy_first=False)
    vote: VerifyParams = VerifyParams(verifier="majority")
    band: BandParams = BandParams()
    reinforce: ReinforceParams = ReinforceParams(
        algorithm="adpo", steps=40, batch_size=64, group_size=16, lr=3e-4, weight_decay=0.0, verifier="label"
    )
    verify: VerifyParams = VerifyParams(verifier="label")
    filter: FilterParams = FilterParams(select=["correct"], when_empty="go on")
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    progress: ProgressParams = ProgressParams()
    begin: BeginParams = BeginParams(title="Curriculum agent and executor")
    report: ReportParams = ReportParams(role="executor")
    role: RoleParams = RoleParams(role="proposer")
    measure: MeasureParams = MeasureParams(levels=[5, 6], per_level=250)

    def of_variant(self, stage: str) -> Any:
        """A stage's parameters, with what the variant says of those that were not set."""
        params = getattr(self, stage)
        said = VARIANTS[self.variant].get(stage, {})
        return params.model_copy(update={k: v for k, v in said.items() if k not in params.model_fields_set})


VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"challenge": {"reward": "paper"}, "band": {"min_rate": 0.25, "max_rate": 0.75}},
    "code": {"challenge": {"reward": "code"}, "reinforce": {"trust": 0.6}},
    "r-zero": {"challenge": {"reward": "r-zero"}},
}


class Turn(NamedTuple):
    executor: Model
    proposer: Model
    known: Dataset
    state: Artifact
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: Agent0) -> Turn:
    base = draw_base(s.base)
    if s.policy == "scratch":
        policy = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        policy = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    known, begun = begin_known(s.known).known, begin_report(s.begin, champion=policy)
    return Turn(policy, policy, known, base.curriculum, base.kept, begun.history, goes_on=True)


def round(s: Agent0, last: Turn) -> tuple[Turn, Artifact]:
    drawn, proposer = draw_tasks(s.draw), last.proposer
    if s.proposer == "trained":
        proposer = reinforce_proposer(s.of_variant("challenge"), policy=proposer, solver=last.executor).candidate
    proposed = propose_by_policy(s.learn, policy=proposer, known=last.known, items=drawn.items)
    votes = generate_rollouts(s.generate, policy=last.executor, tasks=proposed.tasks).rollouts
    voted = verify_rollouts(s.vote, tasks=proposed.tasks, rollouts=votes).verdicts
    band = band_tasks(s.of_variant("band"), tasks=proposed.tasks, rollouts=votes, verdicts=voted).band
    trained = reinforce_policy(s.of_variant("reinforce"), policy=last.executor, tasks=band, items=drawn.items)
    judged = verify_rollouts(s.verify, tasks=band, rollouts=trained.rollouts)
    learnt = filter_rollouts(s.filter, rollouts=trained.rollouts, verdicts=judged.verdicts, kept=last.kept).examples
    executor = trained.candidate
    results = evaluate_policies(s.evaluate, candidate=executor, champion=last.executor, items=drawn.items).results
    seen = {
        "rollouts": trained.rollouts,
        "verdicts": judged.verdicts,
        "audit": judged.audit,
        "examples": learnt,
        "candidate": executor,
        "results": results,
    }
    decision = gate_candidate(s.gate, **seen, history=last.history).decision
    progress = check_progress(s.progress, state=last.state, results=results, decision=decision)
    roles = report_role(s.role, history=last.history, policy=last.proposer, candidate=proposer).next_history
    told = report_round(s.report, **seen, history=roles, tasks=band, decision=decision, state=progress.next_state)
    next = Turn(
        executor=executor,
        proposer=proposer,
        known=proposed.next_known,
        state=progress.next_state,
        kept=last.kept,
        history=told.next_history,
        goes_on=progress.returned,
    )
    return next, decision


def finish(s: Agent0, last: Turn) -> dict[str, float]:
    accuracy = measure_policy(s.measure, policy=last.executor, curriculum=last.state).results.metadata["accuracy"]
    return measured(read_json(last.history.path)["rounds"], accuracy)


def needs(s: Agent0) -> set[str]:
    """What the environment must offer: to a policy from scratch also how a claim looks, where claims are rewarded."""
    if s.policy != "scratch":
        return {"proposals"}
    return {"proposals", "alphabet", "claims"} if s.variant == "code" else {"proposals", "alphabet"}


recipe = Recipe(
    name="agent0",
    settings=Agent0,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    roles=("executor", "proposer"),
    paper="arXiv:2511.16043",
    needs=needs,
    control={"proposer": "frozen"},
    claims=claims,
)
