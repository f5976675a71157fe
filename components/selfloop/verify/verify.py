"""``verify_rollouts`` and ``judge_rollouts``: each rollout is judged, and audited where truth is known.

The truth is what the environment's own check says. It goes into a table of its own, which no filter is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop import progress
from selfloop.artifacts import SIDECAR, write_json
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.generate.engines import EngineName, open_engine
from selfloop.records import (
    Audit,
    Rollout,
    Task,
    Verdict,
    as_rows,
    count,
    read,
    schema,
    to_batch,
    whole_groups,
    with_final_text,
    with_tasks,
    writing,
)
from selfloop.resources import Resources
from selfloop.seeds import STREAM
from selfloop.stages import Params, stage
from selfloop.verify.audit import Auditor
from selfloop.verify.contract import Context, Verifier, called, said
from selfloop.verify.verifiers.asking import decoding
from selfloop.verify.verifiers.exact import Exact

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Engine
    from selfloop.policy import Policy

BATCH_ROWS = 8_192
ASKED_ROWS = 512
"""Rollouts judged at once, where a model is asked about each."""


class VerifyParams(Params):
    """Which verifier the loop believes; the rest is how a model is asked, whichever verifier asks it."""

    inherits = frozenset({"environment", "engine", "seed", "round"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    verifier: Verifier = Field(Exact(), description="The verifier: NAME,key=value, or one of your own.")
    truth: Literal["environment", "unknown"] = Field(
        "environment", description="What the audit holds verdicts against: the environment's check, or nothing."
    )
    batch_size: int = Field(64, ge=1, description="Answers decoded, or rollouts scored by a reward model, at once.")
    engine: EngineName = Field(
        "auto", description="What decodes answers; auto is vllm where it is installed and a GPU is there."
    )
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one copy of the policy.")
    context: int = Field(4096, ge=1, description="vllm: tokens of a question and its answer at most.")
    seed: int = Field(0, ge=0, description="Seed of what a policy is asked.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")

    @property
    def asks_in(self) -> str:
        """The role that its verifier asks a policy in."""
        return self.verifier.asks_in


class VerifiedRollouts(NamedTuple):
    """The verdicts, and those of them whose truth is known."""

    verdicts: Dataset
    audit: Dataset


@stage(image="sandbox")
def verify_rollouts(out: VerifiedRollouts, params: VerifyParams, tasks: Dataset, rollouts: Dataset) -> None:
    """Judge each rollout with the verifier, and hold the verdicts against the truth where the environment knows it."""
    if params.verifier.wants:
        raise UserError(f"{params.verifier.asking}, which verify_rollouts has not: use judge_rollouts.")
    _write(params, tasks, rollouts, None, out.verdicts, out.audit)


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def judge_rollouts(
    out: VerifiedRollouts, params: VerifyParams, model: Model, tasks: Dataset, rollouts: Dataset
) -> None:
    """Judge each rollout with a verifier that asks a model: a policy, such as the champion, or a reward model."""
    _write(params, tasks, rollouts, _opened(params, model), out.verdicts, out.audit)


def verified_by(
    params: VerifyParams,
    *,
    tasks: Dataset,
    rollouts: Dataset,
    policy: Model | None = None,
    reward_model: Model | None = None,
) -> VerifiedRollouts:
    """The outputs of the stage that the verifier belongs into, handed the model that it asks, if it asks any.

    Raises ``UserError`` where that model is not there.
    """
    kind = params.verifier.wants
    model = reward_model if kind == "reward-model" else policy
    if not params.verifier.loads or (model is None and not kind):
        return verify_rollouts(params, tasks=tasks, rollouts=rollouts)
    if model is None:
        raise UserError(f"{params.verifier.asking}, and this loop has none to hand it: choose another verifier.")
    return judge_rollouts(params, model=model, tasks=tasks, rollouts=rollouts)


def _opened(params: VerifyParams, model: Model) -> Engine | Path | None:
    """The model as the verifier asks it."""
    if params.verifier.wants == "policy":
        return open_engine(decoding(params), model.path, model.metadata["digest"])
    return Path(model.path) if params.verifier.wants else None


def verdict_batches(
    params: VerifyParams, tasks: Path, rollouts: Path, model: Policy | Engine | Path | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of verdicts, in the order of the rollouts."""
    context = Context(params, find_environment(params.environment), rollouts, model)
    for attempts, asked in _groups(params, tasks, rollouts):
        yield _verdicts(attempts, called(params.verifier, attempts, asked, context))
    context.check_answers()


def judge(
    rollouts: Sequence[Rollout],
    tasks: Sequence[Task],
    params: VerifyParams,
    model: Policy | Engine | Path | None = None,
) -> list[Verdict]:
    """Verdicts on rollouts in memory, in their order; ``tasks`` are those that they name, in any order.

    ``model`` is what the verifier asks, if it asks any: a policy, or the directory of a reward model.
    The rollouts of a task belong into one call, for the verifiers that compare them.
    """
    known = {task.id: task for task in tasks}
    missing = next((rollout.task for rollout in rollouts if rollout.task not in known), None)
    if missing is not None:
        raise UserError(f"A rollout names the task '{missing}', which is not among its tasks.")
    if not rollouts:
        return []
    attempts = with_final_text(to_batch(Rollout, rollouts))
    asked = to_batch(Task, [known[rollout.task] for rollout in rollouts])
    context = Context(params, find_environment(params.environment), [attempts], model)
    given = called(params.verifier, attempts, asked, context)
    context.check_answers()
    return list(as_rows(_verdicts(attempts, given), Verdict))


def _write(
    params: VerifyParams,
    tasks: Dataset,
    rollouts: Dataset,
    model: Engine | Path | None,
    verdicts: Dataset,
    audit: Dataset,
) -> None:
    total, environment = count(rollouts.path), find_environment(params.environment)
    context = Context(params, environment, Path(rollouts.path), model)
    auditor = Auditor(by_level=environment.levels is not None)
    progress.report(0, total, "verdicts")
    with writing(verdicts.path, Verdict) as table, writing(audit.path, Audit) as beside:
        for attempts, asked in _groups(params, Path(tasks.path), Path(rollouts.path)):
            given = called(params.verifier, attempts, asked, context)
            table.write(_verdicts(attempts, given))
            compared = _audited(attempts, asked, given, context)
            beside.write(compared)
            auditor.add(compared)
            progress.report(table.rows, total, "verdicts")
    context.check_answers()
    audit.metadata["audit"] = {**auditor.summary(), "notes": dict(context.notes)}
    write_json(verdicts.path, {"judging": vars(context.timings)}, SIDECAR)


def _groups(params: VerifyParams, tasks: Path, rollouts: Path) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    size = ASKED_ROWS if params.verifier.wants else BATCH_ROWS
    counting = (with_final_text(batch) for batch in read(rollouts, Rollout, batch_rows=size))
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
    elif isinstance(context.params.verifier, Exact):
        truth = ok
    else:
        unbilled = Context(context.params, context.environment, [attempts])
        truth, _, _ = called(Exact(), attempts, asked, unbilled)
    answers = said(attempts, context.environment)
    columns = [*(attempts[name] for name in ("task", "level", "attempt")), ok, score, truth, answers]
    return pa.RecordBatch.from_arrays(columns, schema=schema(Audit))
