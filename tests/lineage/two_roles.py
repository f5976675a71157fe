"""A loop with two policies, as small as it can be: both are trained in a round, and promoted together or not at all."""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.evaluate import EvaluateParams, evaluate_policies
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy, pretrain_policy
from selfloop.gate import GateParams, gate_candidate
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.propose import BaseParams, ProposeParams, draw_base, propose_tasks
from selfloop.recipe import Recipe, Settings
from selfloop.report import BeginParams, ReportParams, RoleParams, begin_report, report_role, report_round
from selfloop.verify import VerifyParams, verify_rollouts


class TwoRoles(Settings):
    """Two roles."""

    model: str = Field("pair", description="Name of the loop in MLflow's registry.")
    base: BaseParams = BaseParams()
    pretrain: PretrainParams = PretrainParams()
    other: PretrainParams = PretrainParams()
    propose: ProposeParams = ProposeParams()
    generate: GenerateParams = GenerateParams()
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams()
    finetune: FinetuneParams = FinetuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams(require="nothing", guards=[])
    begin: BeginParams = BeginParams()
    other_role: RoleParams = RoleParams(role="proposer")
    report: ReportParams = ReportParams(role="solver")


class Turn(NamedTuple):
    """What goes from round to round."""

    solver: Model
    proposer: Model
    curriculum: Artifact
    base: Dataset
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: TwoRoles) -> Turn:
    """Two policies from scratch."""
    base = draw_base(s.base)
    solver, proposer = (
        pretrain_policy(params, examples=base.examples, held_out=base.held_out).policy
        for params in (s.pretrain, s.other)
    )
    begun = begin_report(s.begin, champion=solver)
    return Turn(solver, proposer, base.curriculum, base.examples, base.kept, begun.history, goes_on=True)


def round(s: TwoRoles, last: Turn) -> tuple[Turn, Artifact]:
    """Train both on what the solver got right."""
    proposed = propose_tasks(s.propose, curriculum=last.curriculum)
    rollouts = generate_rollouts(s.generate, policy=last.solver, tasks=proposed.tasks).rollouts
    verified = verify_rollouts(s.verify, tasks=proposed.tasks, rollouts=rollouts)
    new = filter_rollouts(s.filter, rollouts=rollouts, verdicts=verified.verdicts, kept=last.kept)
    data = {"newest": new.examples, "kept": new.kept, "base": last.base, "items": proposed.items}
    solver, proposer = (
        finetune_policy(s.finetune, policy=policy, **data).candidate for policy in (last.solver, last.proposer)
    )
    results = evaluate_policies(s.evaluate, candidate=solver, champion=last.solver, items=proposed.items).results
    decision = gate_candidate(
        s.gate,
        rollouts=rollouts,
        verdicts=verified.verdicts,
        audit=verified.audit,
        examples=new.examples,
        candidate=solver,
        results=results,
        history=last.history,
    ).decision
    noted = report_role(s.other_role, history=last.history, policy=last.proposer, candidate=proposer).history
    told = report_round(
        s.report,
        history=noted,
        tasks=proposed.tasks,
        rollouts=rollouts,
        verdicts=verified.verdicts,
        audit=verified.audit,
        examples=new.examples,
        candidate=solver,
        results=results,
        decision=decision,
        state=last.curriculum,
    )
    return last._replace(solver=solver, proposer=proposer, kept=new.kept, history=told.history), decision


recipe = Recipe("two-roles", TwoRoles, start, round, Turn, roles=("solver", "proposer"))
