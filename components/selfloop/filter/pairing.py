"""``pair_rollouts``: pairs of a better and a worse attempt out of two tables of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from kfp.dsl import Dataset
from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.filter.filter import FilteredRollouts, as_examples, summary, with_verdicts
from selfloop.filter.params import FilterParams
from selfloop.filter.selecting import changed, scores
from selfloop.filter.selectors.pairs import pair
from selfloop.records import Example, to_batch, writing
from selfloop.roles import source
from selfloop.stages import Params, stage

if TYPE_CHECKING:
    import pyarrow as pa


class PairParams(Params):
    """Which of the two tables' attempts at a task make a pair."""

    inherits = frozenset({"round"})

    min_gap: float = Field(0.01, description="By how much the better one's score is higher, at least.")
    max_gap: float = Field(1e9, description="By how much it is higher, at most.")
    prompt: Literal["better", "worse"] = Field(
        "better", description="Whose prompt a pair has, where the two were asked differently."
    )
    round: int = Field(0, ge=0, description="The round, noted in each example.")

    @model_validator(mode="after")
    def _some_gap_fits(self) -> Self:
        if self.min_gap > self.max_gap:
            raise ValueError(f"no gap is at least {self.min_gap:g} and at most {self.max_gap:g}: lower min_gap")
        return self


@stage()
def pair_rollouts(
    out: FilteredRollouts,
    params: PairParams,
    better: Dataset,
    better_verdicts: Dataset,
    worse: Dataset,
    worse_verdicts: Dataset,
    replay_pool: Dataset,
) -> None:
    """Pair the best attempt of one table and the worst of another at each task, and add the pairs to the replay pool.

    Best over worst, now over then, mended over first: what was asked about a task counts as an attempt at it. A task of
    one table alone has no pair; raises ``UserError`` where the tables have no task in common.
    """
    best, worst = (
        picked(with_verdicts(rollouts, verdicts), sign)
        for rollouts, verdicts, sign in ((better, better_verdicts, -1), (worse, worse_verdicts, 1))
    )
    made, rejected = paired(best, worst, params)
    examples = as_examples(made, FilterParams(round=params.round)) if made.num_rows else to_batch(Example, [])
    with writing(out.examples.path, Example) as table, writing(out.replay_pool.path, Example) as pool:
        deque(pool.extend(replay_pool.path), maxlen=0)
        for each in (table, pool):
            each.write(examples)
    step = {"selector": "pairs", "in": best.num_rows, "kept": examples.num_rows, "says": ""}
    step |= {"rejected": {reason: number for reason, number in sorted(rejected.items()) if number}}
    out.examples.metadata.update(summary(Counter(examples["level"].to_pylist()), [step]))


def picked(batches: Iterator[pa.RecordBatch], sign: int) -> pa.RecordBatch:
    """Of each task, and all that was asked about it, the attempt whose score times the sign is least: a row each, with
    the task in a column ``source``; the first of those that are level.
    """
    import pyarrow as pa

    kept = []
    for batch in batches:
        names = [source(id) for id in batch["task"].to_pylist()]
        kept.append(_first(batch.append_column("source", pa.array(names, pa.string())), sign))
    if not kept:
        return pa.RecordBatch.from_pylist([], pa.schema([("source", pa.string())]))
    return _first(pa.concat_batches(kept), sign)


def _first(batch: pa.RecordBatch, sign: int) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    numbers = batch["source"].dictionary_encode().indices.to_numpy()
    order = np.lexsort((sign * scores(batch), numbers))
    return batch.take(pa.array(order[np.flatnonzero(np.diff(numbers[order], prepend=-1))]))


def paired(best: pa.RecordBatch, worst: pa.RecordBatch, params: PairParams) -> tuple[pa.RecordBatch, Counter[str]]:
    """The pairs, and how many of the tasks have none for which reason."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(best["source"], value_set=worst["source"])
    there = places.is_valid().to_numpy(zero_copy_only=False)
    if best.num_rows and worst.num_rows and not there.any():
        raise UserError(
            f"The two tables have no task in common ('{best['source'][0]}' is in one, '{worst['source'][0]}' in the "
            "other), and pairs are of one task: give two tables of attempts at the same tasks."
        )
    left, right = best.filter(pa.array(there)), worst.take(places.drop_null())
    if not left.num_rows:
        return left.drop_columns(["source"]), Counter({"in one table alone": best.num_rows})
    gap = scores(left) - scores(right)
    said = right["completion"]
    near, far = gap < params.min_gap - 1e-12, gap > params.max_gap + 1e-12
    same = pc.equal(left["completion"], said).to_numpy(zero_copy_only=False) & ~near & ~far
    mute = pc.equal(said, "").to_numpy(zero_copy_only=False) & ~near & ~far & ~same
    rows = np.flatnonzero(~(near | far | same | mute))
    both = pa.concat_batches([left, right]).drop_columns(["source"])
    made = pair(both, rows, rows + left.num_rows)
    if params.prompt == "worse":
        asked = right.take(pa.array(rows))
        made = changed(made, **{name: asked[name] for name in ("task", "level", "prompt")})
    reasons = {
        "in one table alone": best.num_rows - left.num_rows,
        "scores too near": int(near.sum()),
        "scores too far apart": int(far.sum()),
        "both say the same": int(same.sum()),
        "the worse says nothing": int(mute.sum()),
    }
    return made, Counter(reasons)
