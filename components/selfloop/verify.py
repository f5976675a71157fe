"""``verify_rollouts``: what counts as good. A verifier takes a batch of rollouts with their tasks and judges each row.

``exact`` asks the environment. ``length`` and ``majority`` are the label-free filters of Lee et al. (arXiv:2502.01612):
what the loop believes without knowing the truth. Where the environment knows it, the truth is noted beside, to audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kfp.dsl import Dataset, Input, Output
from pydantic import Field

from selfloop import progress
from selfloop.environments import Environment, find_environment
from selfloop.names import imported, unknown
from selfloop.records import Rollout, Task, Verdict, count, read, schema, whole_groups, with_tasks, writing
from selfloop.stage import Params, stage

if TYPE_CHECKING:
    import pyarrow as pa

    Judged = tuple[pa.Array, pa.Array, pa.Array]
    """``ok`` (bool), ``score`` (float) and ``reason`` (string), a row each."""


class VerifyParams(Params):
    """Which verifier the loop believes."""

    environment: str = Field("addition", description="The taskset that made the tasks.")
    verifier: str = Field("exact", description="'exact', 'length', 'majority', or a function as module:function.")
    slack: int = Field(2, ge=0, description="length: characters that a completion may be shorter than the longest.")
    agreement: float = Field(0.8, gt=0.5, le=1, description="majority: share of a task's attempts that must agree.")


class Context:
    """What a verifier may look at beyond its batch."""

    def __init__(self, params: VerifyParams, environment: Environment, rollouts: Path) -> None:
        self.params, self.environment, self._rollouts = params, environment, rollouts

    @cached_property
    def longest(self) -> dict[int, int]:
        """The length of the longest completion of each level, over the whole table."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found: dict[int, int] = {}
        for batch in read(self._rollouts, Rollout, ["level", "completion"]):
            lengths = pa.table({"level": batch["level"], "length": pc.utf8_length(batch["completion"])})
            for row in lengths.group_by("level").aggregate([("length", "max")]).to_pylist():
                found[row["level"]] = max(found.get(row["level"], 0), row["length_max"])
        return found


def exact(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """The environment's own check; a completion that the policy did not end is wrong."""
    import pyarrow.compute as pc

    ok, score, reason = context.environment.check_batch(tasks, rollouts["completion"])
    finished = rollouts["finished"]
    return pc.and_(ok, finished), pc.if_else(finished, score, 0.0), pc.if_else(finished, reason, "no end token")


def length(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """Good is what is about as long as the longest completion of the same level in this round."""
    import pyarrow as pa
    import pyarrow.compute as pc

    levels = pa.array(list(context.longest), pa.int64())
    longest = pa.array(list(context.longest.values()), pa.int64()).take(pc.index_in(rollouts["level"], levels))
    enough = pc.greater_equal(pc.utf8_length(rollouts["completion"]), pc.subtract(longest, context.params.slack))
    ok = pc.and_(enough, rollouts["finished"])
    return ok, pc.cast(ok, pa.float64()), pc.if_else(ok, "long enough", "too short or no end token")


def majority(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """Good is what a large enough share of the attempts at the same task say; a lone attempt has no majority."""
    import pyarrow as pa
    import pyarrow.compute as pc

    said = pc.binary_join_element_wise(rollouts["task"], rollouts["completion"], "\n")
    votes, attempts = _frequency(said), _frequency(rollouts["task"])
    share = pc.divide(pc.cast(votes, pa.float64()), attempts)
    ok = pc.and_(
        pc.and_(pc.greater_equal(share, context.params.agreement), rollouts["finished"]), pc.greater(attempts, 1)
    )
    return ok, share, pc.if_else(ok, "majority", "no majority")


def _frequency(values: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    counted = pc.value_counts(values)
    return counted.field("counts").take(pc.index_in(values, counted.field("values")))


VERIFIERS: dict[str, Callable[[pa.RecordBatch, pa.RecordBatch, Context], Judged]] = {
    "exact": exact,
    "length": length,
    "majority": majority,
}


def find_verifier(name: str) -> Callable[[pa.RecordBatch, pa.RecordBatch, Context], Judged]:
    """A verifier by its name, or the user's own as ``module:function``."""
    if ":" in name:
        return imported("verifier", name)  # type: ignore[no-any-return]
    if name not in VERIFIERS:
        raise unknown("verifier", name, VERIFIERS)
    return VERIFIERS[name]


@stage()
def verify_rollouts(
    params: VerifyParams, tasks: Input[Dataset], rollouts: Input[Dataset], verdicts: Output[Dataset]
) -> None:
    """Judge each rollout with the verifier, and note the truth beside where the environment knows it."""
    total = count(rollouts.path)
    with writing(verdicts.path, Verdict) as table:
        for batch in judged(params, Path(tasks.path), Path(rollouts.path)):
            table.write(batch)
            progress.report(table.rows, total, "verdicts")


def judged(params: VerifyParams, tasks: Path, rollouts: Path) -> Iterator[pa.RecordBatch]:
    """Batches of verdicts, in the order of the rollouts."""
    import pyarrow as pa

    verifier = find_verifier(params.verifier)
    context = Context(params, find_environment(params.environment), rollouts)
    groups = whole_groups(read(rollouts, Rollout))
    for attempts, asked in with_tasks(groups, read(tasks, Task)):
        truth = exact(attempts, asked, context)
        ok, score, reason = truth if verifier is exact else verifier(attempts, asked, context)
        columns = [attempts["task"], attempts["level"], attempts["attempt"], ok, score, reason, truth[0]]
        yield pa.RecordBatch.from_arrays(columns, schema=schema(Verdict))
