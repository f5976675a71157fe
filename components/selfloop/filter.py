"""``filter_rollouts``: what is kept to train on, and why the rest is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from kfp.dsl import Dataset, Input, Output
from pydantic import Field

from selfloop import progress
from selfloop.artifacts import manifest_of
from selfloop.errors import UserError
from selfloop.records import Example, Rollout, Verdict, batch_of, beside, count, read, whole_groups, writing
from selfloop.stage import Params, stage

if TYPE_CHECKING:
    import pyarrow as pa


class FilterParams(Params):
    """Good rollouts, once each, up to a number a level."""

    select: Literal["good", "nothing"] = Field(
        "good", description="'good' keeps what the verifier believes; 'nothing' is the control without own data."
    )
    per_level: int = Field(4000, ge=1, description="Examples of one level that are kept over all rounds.")
    round: int = Field(0, ge=0, description="The round, noted in each example.")


@stage()
def filter_rollouts(
    params: FilterParams,
    rollouts: Input[Dataset],
    verdicts: Input[Dataset],
    kept: Input[Dataset],
    examples: Output[Dataset],
    next_kept: Output[Dataset],
) -> None:
    """Keep the good rollouts as examples, count the others by reason, and add what is kept to all kept before."""
    if manifest_of(verdicts.path).inputs.get("rollouts") not in (None, manifest_of(rollouts.path).digest):
        raise UserError(f"The verdicts in {verdicts.path} are of other rollouts: verify these rollouts again.")
    full: Counter[int] = Counter()
    new: Counter[int] = Counter()
    rejected: Counter[str] = Counter()
    with writing(examples.path, Example) as table, writing(next_kept.path, Example) as pool:
        for batch in read(kept.path, Example):
            full.update(batch["level"].to_pylist())
            pool.write(batch)
        for batch in _good(params, rollouts.path, verdicts.path, rejected):
            room = _room(batch["level"], full, params.per_level)
            rejected["level is full"] += batch.num_rows - len(room)
            batch = batch.take(room)
            levels = batch["level"].to_pylist()
            full.update(levels)
            new.update(levels)
            table.write(batch)
            pool.write(batch)
            progress.report(sum(new.values()) + rejected.total(), count(rollouts.path), "rollouts")
    about = {
        "kept": {str(level): number for level, number in sorted(new.items())},
        "rejected": {reason: number for reason, number in sorted(rejected.items()) if number},
    }
    examples.metadata.update(about)


def _good(params: FilterParams, rollouts: str, verdicts: str, rejected: Counter[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in whole_groups(_joined(rollouts, verdicts)):
        if params.select == "nothing":
            rejected["nothing is selected"] += batch.num_rows
            continue
        good = batch.filter(batch["ok"])
        for reason in pc.value_counts(batch.filter(pc.invert(batch["ok"]))["reason"]).to_pylist():
            rejected[reason["values"]] += reason["counts"]
        single = good.take(_first_of_each(good))
        rejected["duplicate"] += good.num_rows - single.num_rows
        columns = {name: single[name] for name in ("task", "level", "prompt", "completion")}
        yield batch_of(Example, columns | {"round": pa.repeat(params.round, single.num_rows)})


def _joined(rollouts: str, verdicts: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for attempt, verdict in beside(read(rollouts, Rollout), read(verdicts, Verdict)):
        if not pc.all(pc.equal(attempt["task"], verdict["task"])).as_py():
            raise UserError(f"The verdicts in {verdicts} are of other rollouts: verify these rollouts again.")
        columns = {name: attempt[name] for name in ("task", "level", "prompt", "completion")}
        yield pa.RecordBatch.from_pydict(columns | {"ok": verdict["ok"], "reason": verdict["reason"]})


def _first_of_each(batch: pa.RecordBatch) -> pa.Array:
    """Indices of the first row of each (task, completion)."""
    import numpy as np
    import pyarrow as pa

    rows = pa.table({"task": batch["task"], "said": batch["completion"], "row": pa.array(np.arange(batch.num_rows))})
    first = rows.group_by(["task", "said"]).aggregate([("row", "min")])["row_min"].combine_chunks()
    return first.sort()


def _room(levels: pa.Array, full: Counter[int], limit: int) -> pa.Array:
    """Indices of the rows for which their level has room."""
    import numpy as np
    import pyarrow as pa

    known = levels.to_numpy()
    fits = [np.flatnonzero(known == level)[: max(limit - full[int(level)], 0)] for level in np.unique(known)]
    return pa.array(np.sort(np.concatenate(fits)) if fits else [], pa.int64())
