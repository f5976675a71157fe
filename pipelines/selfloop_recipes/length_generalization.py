"""Length generalization by self-training: solve longer problems, keep the right answers, train on them, go on.

After Lee et al., "Self-Improving Transformers Overcome Easy-to-Hard and Length Generalization Challenges"
(arXiv:2502.01612), plus an exact verifier. The paper's label-free filters are ``verify.verifier=length`` and
``majority``.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy, pretrain_policy
from selfloop.gate import GateParams, gate_candidate
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.policy import FetchParams, fetch_policy
from selfloop.propose import AdvanceParams, BaseParams, ProposeParams, advance_curriculum, draw_base, propose_tasks
from selfloop.recipe import Recipe, Settings, structural
from selfloop.report import BeginParams, ReportParams, begin_report, report_round
from selfloop.verify import VerifyParams, verify_rollouts

from selfloop_recipes.claims.length_generalization import claims, control


class LengthGeneralization(Settings):
    rounds: int = structural(40, ge=1, le=1000, description="Rounds at most.")
    target: int = Field(30, ge=1, description="The loop ends when the champion has mastered this level.")
    model: str = Field("length-generalization", description="Name of the loop in MLflow's registry.")
    base: BaseParams = BaseParams()
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams()
    propose: ProposeParams = ProposeParams()
    generate: GenerateParams = GenerateParams()
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams()
    finetune: FinetuneParams = FinetuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    advance: AdvanceParams = AdvanceParams()
    begin: BeginParams = BeginParams(title="Length generalization by self-training")
    report: ReportParams = ReportParams()
    measure: MeasureParams = MeasureParams()


class Turn(NamedTuple):
    champion: Model
    curriculum: Artifact
    base: Dataset
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: LengthGeneralization) -> Turn:
    base = draw_base(s.base)
    if s.policy == "scratch":
        champion = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        champion = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    begun = begin_report(s.begin, champion=champion)
    return Turn(champion, base.curriculum, base.examples, base.kept, begun.history, goes_on=True)


def round(s: LengthGeneralization, last: Turn) -> tuple[Turn, Artifact]:
    proposed = propose_tasks(s.propose, curriculum=last.curriculum)
    rollouts = generate_rollouts(s.generate, policy=last.champion, tasks=proposed.tasks).rollouts
    verified = verify_rollouts(s.verify, tasks=proposed.tasks, rollouts=rollouts)
    new = filter_rollouts(s.filter, rollouts=rollouts, verdicts=verified.verdicts, kept=last.kept)
    candidate = finetune_policy(
        s.finetune,
        policy=last.champion,
        newest=new.examples,
        kept=new.next_kept,
        base=last.base,
        items=proposed.items,
    ).candidate
    results = evaluate_policies(s.evaluate, candidate=candidate, champion=last.champion, items=proposed.items).results
    decision = gate_candidate(
        s.gate,
        rollouts=rollouts,
        verdicts=verified.verdicts,
        audit=verified.audit,
        examples=new.examples,
        candidate=candidate,
        results=results,
        history=last.history,
    ).decision
    state = advance_curriculum(s.advance, curriculum=last.curriculum, results=results, decision=decision)
    told = report_round(
        s.report,
        history=last.history,
        tasks=proposed.tasks,
        rollouts=rollouts,
        verdicts=verified.verdicts,
        audit=verified.audit,
        examples=new.examples,
        candidate=candidate,
        results=results,
        decision=decision,
        state=state.next_curriculum,
    )
    next = Turn(
        champion=candidate,
        curriculum=state.next_curriculum,
        base=last.base,
        kept=new.next_kept,
        history=told.next_history,
        goes_on=state.returned,
    )
    return next, decision


def finish(s: LengthGeneralization, last: Turn) -> dict[str, int]:
    results = measure_policy(s.measure, policy=last.champion, curriculum=last.curriculum).results
    return {"solved": results.metadata["solved"]}


recipe = Recipe(
    name="length-generalization",
    settings=LengthGeneralization,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2502.01612",
    needs=lambda s: {"levels", "alphabet"} if s.policy == "scratch" else {"levels"},
    control=control,
    claims=claims,
)
