"""``filter_rollouts``: what is kept to train on, and why the rest is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.dsl import Dataset

from selfloop import progress
from selfloop.artifacts import manifest_of
from selfloop.errors import UserError
from selfloop.filter.params import FilterParams
from selfloop.filter.selecting import Context, Foreseeing, Selector, scores
from selfloop.records import (
    Example,
    Rollout,
    Verdict,
    batch_of,
    beside,
    count,
    default_of,
    read,
    whole_groups,
    writing,
)
from selfloop.stages import stage

if TYPE_CHECKING:
    import pyarrow as pa


class FilteredRollouts(NamedTuple):
    """The examples that are new, and the replay pool with them."""

    examples: Dataset
    replay_pool: Dataset


@stage()
def filter_rollouts(
    out: FilteredRollouts, params: FilterParams, rollouts: Dataset, verdicts: Dataset, replay_pool: Dataset
) -> None:
    """Keep the good rollouts as examples, count the others by reason, and add what is kept to the replay pool."""
    judged = with_verdicts(rollouts, verdicts)
    context, funnel = Context(), [Step(selector) for selector in params.select]
    progress.report(0, total := count(rollouts.path), "rollouts")
    new: Counter[int] = Counter()
    with writing(out.examples.path, Example) as table, writing(out.replay_pool.path, Example) as pool:
        for batch in pool.extend(replay_pool.path):
            context.before.update(_counted(batch["level"]))
        with TemporaryDirectory(dir=out.examples.path) as folder:
            for batch in selected(judged, funnel, context, Path(folder)):
                made = as_examples(batch, params)
                new.update(_counted(made["level"]))
                table.write(made)
                pool.write(made)
                progress.report(funnel[0].rows, total, "rollouts")
    about = summary(new, [step.report() for step in funnel])
    if not new:
        about["empty"] = why_empty(funnel)
        if params.when_empty == "stop":
            raise UserError(f"{about['empty']}: let other rollouts pass, or set 'when_empty' to 'continue'.")
    out.examples.metadata.update(about)


def summary(kept: Counter[int], funnel: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What examples tell of how they were kept: how many of each level, and what each step rejected for what."""
    rejected = sum((Counter(step["rejected"]) for step in funnel), Counter[str]())
    return {
        "kept": {str(level): number for level, number in sorted(kept.items())},
        "rejected": dict(sorted(rejected.items())),
        "funnel": list(funnel),
    }


class Step:
    """A selector at its place in the funnel, and what it counted."""

    def __init__(self, selector: Selector) -> None:
        self.name, self._selecting = selector.spelling(), selector.begin()
        self.rows = self.kept = 0
        self.rejected = Counter[str]()

    def through(self, batches: Iterator[pa.RecordBatch], context: Context, file: Path) -> Iterator[pa.RecordBatch]:
        """What of a stream is kept. A selector that foresees is shown all of it first, which waits in the file."""
        if isinstance(self._selecting, Foreseeing):
            batches = self._seen(batches, context, self._selecting, file)
        return (self._select(batch, context) for batch in batches if batch.num_rows)

    def _select(self, batch: pa.RecordBatch, context: Context) -> pa.RecordBatch:
        made, rejected = self._selecting(batch, context)
        if made.schema != batch.schema or made.num_rows + sum(rejected.values()) != batch.num_rows:
            raise UserError(
                f"The selector '{self.name}' took {batch.num_rows} rows, kept {made.num_rows} and rejected "
                f"{sum(rejected.values())}: let it return a batch with the columns that it took, and count every row."
            )
        self.rows += batch.num_rows
        self.kept += made.num_rows
        self.rejected += Counter(rejected)
        return made

    def _seen(
        self, batches: Iterator[pa.RecordBatch], context: Context, selecting: Foreseeing, file: Path
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        writer = None
        for batch in batches:
            if batch.num_rows:
                writer = writer or pa.ipc.new_stream(
                    file, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
                )
                selecting.see(batch, context)
                writer.write_batch(batch)
        if writer is not None:
            writer.close()
            with pa.OSFile(str(file)) as source:
                yield from pa.ipc.open_stream(source)
            file.unlink()

    def report(self) -> dict[str, Any]:
        """The step as the examples' metadata and the report have it."""
        return {
            "selector": self.name,
            "in": self.rows,
            "kept": self.kept,
            "rejected": dict(sorted(self.rejected.items())),
            "says": getattr(self._selecting, "says", ""),
        }


def selected(
    batches: Iterator[pa.RecordBatch], funnel: Sequence[Step], context: Context, folder: Path
) -> Iterator[pa.RecordBatch]:
    """What of a stream of judged rollouts passes all steps, in their order."""
    for place, step in enumerate(funnel):
        batches = step.through(batches, context, folder / f"{place}.arrow")
    return batches


def with_verdicts(rollouts: Dataset, verdicts: Dataset) -> Iterator[pa.RecordBatch]:
    """Whole groups of rollouts beside their verdicts, with the columns that selectors take.

    Raises ``UserError``, at once where a manifest tells it, for verdicts on other rollouts.
    """
    if manifest_of(verdicts.path).inputs.get("rollouts") not in (None, manifest_of(rollouts.path).digest):
        raise _of_others(verdicts.path)
    return (grouped(batch) for batch in whole_groups(_joined(rollouts.path, verdicts.path)))


def _of_others(verdicts: str) -> UserError:
    return UserError(f"The verdicts in {verdicts} are of other rollouts: verify these rollouts again.")


def _joined(rollouts: str, verdicts: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for attempt, verdict in beside(read(rollouts, Rollout), read(verdicts, Verdict)):
        if not pc.all(pc.equal(attempt["task"], verdict["task"])).as_py():
            raise _of_others(verdicts)
        columns = {name: attempt[name] for name in attempt.schema.names}
        yield pa.RecordBatch.from_pydict(columns | {name: verdict[name] for name in ("ok", "score", "reason")})


def grouped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of whole groups, joined with their verdicts, with the columns that selectors and examples want."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    size = batch.num_rows
    task, good = batch["task"], pc.fill_null(batch["ok"], False)
    group = np.zeros(size, np.int64)
    np.cumsum(pc.not_equal(task.slice(1), task.slice(0, size - 1)), out=group[1:])
    rates = np.bincount(group, weights=good.to_numpy(zero_copy_only=False)) / np.bincount(group)
    columns = {
        "group": pa.array(group),
        "weight": pa.repeat(1.0, size),
        "good": good,
        "rate": pa.array(rates[group]),
        **{name: default_of(Example, name, size) for name in ("rejected", "rejected_segments", "rejected_finished")},
    }
    return pa.RecordBatch.from_arrays([*batch.columns, *columns.values()], names=[*batch.schema.names, *columns])


def as_examples(batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
    """Selected rollouts as examples of this round."""
    import pyarrow as pa

    columns = {name: batch[name] for name in Example._fields if name in batch.schema.names}
    if params.weigh == "score":
        weight = scores(batch)
        if (weight < 0).any():
            task = batch["task"][int((weight < 0).argmax())]
            raise UserError(
                f"The score of a rollout of the task '{task}' is below 0, and no weight can be: set 'weigh' to 'none'."
            )
        columns["weight"] = pa.array(weight)
    return batch_of(Example, columns | {"round": pa.repeat(params.round, batch.num_rows)})


def why_empty(funnel: Sequence[Step]) -> str:
    """Why nothing is kept: what the most were rejected for."""
    if not funnel[0].rows:
        return "Nothing kept: there were no rollouts"
    number, reason, name = max(
        (number, reason, step.name) for step in funnel for reason, number in step.rejected.items()
    )
    return f"Nothing kept: of {funnel[0].rows:,} rollouts {number:,} were rejected by '{name}' ({reason})"


def _counted(levels: pa.Array) -> dict[int, int]:
    import pyarrow.compute as pc

    return {each["values"]: each["counts"] for each in pc.value_counts(levels).to_pylist()}
