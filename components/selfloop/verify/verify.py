"""``verify_rollouts`` and ``judge_rollouts``: each rollout is judged, and audited where truth is known.

The truth is what the environment's own check says. It goes into a table of its own, which no filter is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from kfp.dsl import Dataset, Model
from pydantic import Field, model_validator

from selfloop import progress
from selfloop.artifacts import SIDECAR, write_json
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.generate.engines import EngineName, open_engine
from selfloop.generate.protocols import counted
from selfloop.records import (
    Audit,
    Rollout,
    Task,
    Verdict,
    count,
    read,
    schema,
    to_batch,
    whole_groups,
    with_tasks,
    writing,
)
from selfloop.resources import Resources
from selfloop.seeds import STREAM
from selfloop.stage import Params, stage
from selfloop.verify.audit import Auditor
from selfloop.verify.contract import Context, called
from selfloop.verify.verifiers import askers, check_weights, find_verifier
from selfloop.verify.verifiers.asking import decoding
from selfloop.verify.verifiers.exact import exact

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Engine
    from selfloop.policy import Policy

BATCH_ROWS = 8_192
ASKED_ROWS = 512
"""Rollouts judged at once, where a policy is asked about each."""


class VerifyParams(Params):
    """Which verifier the loop believes, and what the one or other of them needs to know."""

    inherits = frozenset({"environment", "engine", "seed", "round"})
    reads = frozenset({"reward_model"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    verifier: str = Field(
        "exact", description="Which verifier, by name, or a function of one's own as module:function."
    )
    truth: Literal["environment", "unknown"] = Field(
        "environment", description="What the audit holds verdicts against: the environment's check, or nothing."
    )
    slack: int = Field(2, ge=0, description="length: characters that a completion may be shorter than the longest.")
    agreement: float = Field(0.8, gt=0.5, le=1, description="majority: share of a task's attempts that must agree.")
    format_weight: float = Field(
        0.0, ge=0, lt=1, description="label: the share of the score that any answer that can be read earns."
    )
    borda_power: float = Field(0.5, ge=0, description="borda: the votes of rank r of N are (N - r + 1) to this power.")
    threshold: float = Field(
        0.5, description="fobar, judge, reward-model, weighted: the score from which on a rollout is good."
    )
    weights: dict[str, float] = Field({}, description="weighted: verifiers by name, and what each one's score weighs.")
    reward_model: str = Field(
        "", description="reward-model: its directory, a model id of the Hub, s3://..., or models:/NAME@ALIAS."
    )
    rubric: str = Field(
        "Is the answer correct and complete?", description="judge, judge-pairwise: what the judge shall look at."
    )
    samples: int = Field(4, ge=1, description="judge, judge-pairwise, fobar: answers asked for; one alone is greedy.")
    opponents: int = Field(4, ge=1, description="judge-pairwise: later attempts that each is compared with, at most.")
    temperature: float = Field(1.0, gt=0, description="judge, judge-pairwise, fobar: temperature of several answers.")
    max_tokens: int = Field(512, ge=1, description="judge, judge-pairwise, fobar: tokens of an answer at most.")
    batch_size: int = Field(64, ge=1, description="Answers decoded, or rollouts scored by a reward model, at once.")
    engine: EngineName = Field(
        "auto", description="What decodes answers; auto is vllm where it is installed and a GPU is there."
    )
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one copy of the policy.")
    context: int = Field(4096, ge=1, description="vllm: tokens of a question and its answer at most.")
    workers: int = Field(2, ge=1, description="math-verify: processes that check answers.")
    time_limit: float = Field(5.0, gt=0, description="math-verify: seconds for one answer, then its process is killed.")
    memory_limit: int = Field(1024, ge=256, description="math-verify: MiB of address space of each process.")
    seed: int = Field(0, ge=0, description="Seed of what a policy is asked.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        if ":" not in self.verifier:
            find_verifier(self.verifier)
        if self.verifier == "weighted":
            check_weights(self.weights)
        if self.verifier == "reward-model" and not self.reward_model:
            raise UserError("The verifier 'reward-model' needs the parameter 'reward_model': name a reward model.")
        return self


class VerifiedRollouts(NamedTuple):
    """The verdicts, and those of them whose truth is known."""

    verdicts: Dataset
    audit: Dataset


@stage(image="sandbox")
def verify_rollouts(out: VerifiedRollouts, params: VerifyParams, tasks: Dataset, rollouts: Dataset) -> None:
    """Judge each rollout with the verifier, and hold the verdicts against the truth where the environment knows it."""
    if names := askers(params):
        raise UserError(f"The verifier '{names[0]}' asks a policy, which verify_rollouts has not: use judge_rollouts.")
    _write(params, tasks, rollouts, None, out.verdicts, out.audit)


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def judge_rollouts(
    out: VerifiedRollouts, params: VerifyParams, policy: Model, tasks: Dataset, rollouts: Dataset
) -> None:
    """Judge each rollout with a verifier that asks a policy, which may be the champion itself, and audit as well."""
    engine = open_engine(decoding(params), policy.path, policy.metadata["digest"])
    _write(params, tasks, rollouts, engine, out.verdicts, out.audit)


def judged(
    params: VerifyParams, tasks: Path, rollouts: Path, policy: Policy | Engine | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of verdicts, in the order of the rollouts."""
    context = Context(params, find_environment(params.environment), rollouts, policy)
    for attempts, asked in _groups(params, tasks, rollouts):
        yield _verdicts(attempts, called(params.verifier, find_verifier(params.verifier), attempts, asked, context))
    context.check_answers()


def judge(
    rollouts: Sequence[Rollout], tasks: Sequence[Task], params: VerifyParams, policy: Policy | Engine | None = None
) -> list[Verdict]:
    """Verdicts on rollouts in memory, in their order; ``tasks`` are those that they name, in any order.

    The rollouts of a task belong into one call, for the verifiers that compare them.
    """
    known = {task.id: task for task in tasks}
    missing = next((rollout.task for rollout in rollouts if rollout.task not in known), None)
    if missing is not None:
        raise UserError(f"A rollout names the task '{missing}', which is not among its tasks.")
    if not rollouts:
        return []
    attempts = counted(to_batch(Rollout, rollouts))
    asked = to_batch(Task, [known[rollout.task] for rollout in rollouts])
    context = Context(params, find_environment(params.environment), [attempts], policy)
    given = called(params.verifier, find_verifier(params.verifier), attempts, asked, context)
    context.check_answers()
    return [Verdict(*row) for row in zip(*_verdicts(attempts, given).to_pydict().values(), strict=True)]


def _write(
    params: VerifyParams,
    tasks: Dataset,
    rollouts: Dataset,
    policy: Policy | Engine | None,
    verdicts: Dataset,
    audit: Dataset,
) -> None:
    total, environment = count(rollouts.path), find_environment(params.environment)
    context = Context(params, environment, Path(rollouts.path), policy)
    auditor = Auditor(by_level=environment.levels is not None)
    progress.report(0, total, "verdicts")
    verifier = find_verifier(params.verifier)
    with writing(verdicts.path, Verdict) as table, writing(audit.path, Audit) as beside:
        for attempts, asked in _groups(params, Path(tasks.path), Path(rollouts.path)):
            given = called(params.verifier, verifier, attempts, asked, context)
            table.write(_verdicts(attempts, given))
            compared = _audited(attempts, asked, given, context)
            beside.write(compared)
            auditor.add(compared)
            progress.report(table.rows, total, "verdicts")
    context.check_answers()
    audit.metadata["audit"] = {**auditor.summary(), "notes": dict(context.notes)}
    write_json(verdicts.path, {"judging": vars(context.timings)}, SIDECAR)


def _groups(params: VerifyParams, tasks: Path, rollouts: Path) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    size = ASKED_ROWS if askers(params) else BATCH_ROWS
    counting = (counted(batch) for batch in read(rollouts, Rollout, batch_rows=size))
    return with_tasks(whole_groups(counting), read(tasks, Task))


def _verdicts(attempts: pa.RecordBatch, given: tuple[pa.Array, pa.Array, pa.Array]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [*(attempts[name] for name in ("task", "level", "attempt")), *given]
    return pa.RecordBatch.from_arrays(columns, schema=schema(Verdict))


def _audited(
    attempts: pa.RecordBatch, asked: pa.RecordBatch, given: tuple[pa.Array, pa.Array, pa.Array], context: Context
) -> pa.RecordBatch:
    import pyarrow as pa

    ok, score, _ = given
    if context.params.truth == "unknown":
        truth = pa.nulls(attempts.num_rows, pa.bool_())
    elif context.params.verifier == "exact":
        truth = ok
    else:
        unbilled = Context(context.params, context.environment, [attempts])
        truth, _, _ = called("exact", exact, attempts, asked, unbilled)
    columns = [*(attempts[name] for name in ("task", "level", "attempt")), ok, score, truth]
    return pa.RecordBatch.from_arrays(columns, schema=schema(Audit))
