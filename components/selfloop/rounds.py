"""What the rounds of most loops share: how a policy begins, what is thought of attempts, how a candidate is judged.

Each is a few stage calls that a recipe would else write out; a loop that does otherwise calls the stages itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp.dsl import Artifact, Dataset, Model

from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import BandParams, FilterParams, band_tasks, filter_rollouts
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.gate import GateParams, gate_candidate
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.policy import FetchParams, fetch_policy
from selfloop.propose import BaseData, BaseParams, KnownParams, LearnedParams, ProgressParams, propose_by_policy
from selfloop.recipe import Settings
from selfloop.report import BeginParams, ReportParams, RoleParams, begin_report, report_round
from selfloop.verify import VerifiedRollouts, VerifyParams, verify_rollouts


class LoopSettings(Settings):
    """The settings of a loop that begins with a policy and judges a candidate in each round."""

    base: BaseParams = BaseParams()
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams()
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams()
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    begin: BeginParams = BeginParams()
    report: ReportParams = ReportParams()
    measure: MeasureParams = MeasureParams()


class FrontierSettings(LoopSettings):
    """The settings of a loop whose tasks a policy proposes: those are kept on which the solver is of two minds."""

    known: KnownParams = KnownParams()
    learn: LearnedParams = LearnedParams(protocol="single", max_tokens=32)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=9, greedy_first=False)
    vote: VerifyParams = VerifyParams(verifier="majority")
    band: BandParams = BandParams()
    verify: VerifyParams = VerifyParams(verifier="label")
    filter: FilterParams = FilterParams(select=["correct"], when_empty="go on")
    report: ReportParams = ReportParams(role="executor")
    role: RoleParams = RoleParams(role="proposer")
    progress: ProgressParams = ProgressParams()


class Opened(NamedTuple):
    """The policy that a loop begins with, and the run's history."""

    policy: Model
    history: Artifact


class Attempted(NamedTuple):
    """What a round tried, what is thought of it, and what of it is kept."""

    tasks: Dataset
    rollouts: Dataset
    verdicts: Dataset
    audit: Dataset
    examples: Dataset


class Sifted(NamedTuple):
    """A round's attempts, and all that is kept with what is kept of them."""

    attempted: Attempted
    kept: Dataset


class Judged(NamedTuple):
    """How candidate and champion did, and what the gate decided."""

    candidate: Model
    results: Dataset
    decision: Artifact


def needing(*features: str) -> Callable[[Any], set[str]]:
    """What a loop asks of an environment: these features, and an alphabet where its policy is made from scratch."""
    return lambda s: {*features, "alphabet"} if s.policy == "scratch" else set(features)


def opened(s: LoopSettings, base: BaseData) -> Opened:
    """A policy that is trained from scratch on the base data, or fetched; nothing is told of it yet."""
    if s.policy == "scratch":
        policy = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        policy = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    return Opened(policy, begin_report(s.begin, champion=policy).history)


def frontier(
    s: FrontierSettings,
    learn: LearnedParams,
    band: BandParams,
    proposer: Model,
    solver: Model,
    known: Dataset,
    items: Dataset,
) -> tuple[Dataset, Dataset]:
    """The tasks of a proposer on which the solver's votes lie in a band, labelled; and all that was proposed so far."""
    proposed = propose_by_policy(learn, policy=proposer, known=known, items=items)
    votes = generate_rollouts(s.generate, policy=solver, tasks=proposed.tasks).rollouts
    verdicts = verify_rollouts(s.vote, tasks=proposed.tasks, rollouts=votes).verdicts
    return band_tasks(band, tasks=proposed.tasks, rollouts=votes, verdicts=verdicts).band, proposed.known


def sifted(s: LoopSettings, tasks: Dataset, rollouts: Dataset, verified: VerifiedRollouts, kept: Dataset) -> Sifted:
    """Attempts, what a verifier thinks of them, and what of them is kept."""
    new = filter_rollouts(s.filter, rollouts=rollouts, verdicts=verified.verdicts, kept=kept)
    return Sifted(Attempted(tasks, rollouts, verified.verdicts, verified.audit, new.examples), new.kept)


def practised(s: LoopSettings, tasks: Dataset, rollouts: Dataset, kept: Dataset) -> Attempted:
    """Attempts that a policy was trained on as it made them, verified and sifted."""
    return sifted(s, tasks, rollouts, verify_rollouts(s.verify, tasks=tasks, rollouts=rollouts), kept).attempted


def judged(
    s: LoopSettings, attempted: Attempted, candidate: Model, champion: Model, items: Dataset, history: Artifact
) -> Judged:
    """Candidate and champion on the same items, and the gate's decision."""
    results = evaluate_policies(s.evaluate, candidate=candidate, champion=champion, items=items).results
    seen = {name: made for name, made in attempted._asdict().items() if name != "tasks"}
    decision = gate_candidate(s.gate, **seen, candidate=candidate, results=results, history=history).decision
    return Judged(candidate, results, decision)


def told(s: LoopSettings, attempted: Attempted, judged: Judged, history: Artifact, state: Artifact) -> Artifact:
    """The history with this round in it; the report is told anew."""
    made = report_round(s.report, **attempted._asdict(), **judged._asdict(), history=history, state=state)
    return made.history


def accuracy(s: LoopSettings, policy: Model, state: Artifact) -> dict[str, float]:
    """The accuracy of a policy by level, on items that no decision was made on."""
    measured: dict[str, float] = measure_policy(s.measure, policy=policy, curriculum=state).results.metadata["accuracy"]
    return measured
