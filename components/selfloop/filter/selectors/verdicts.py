"""Selectors that go by what the verifier said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from selfloop.filter.selecting import beyond

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


def everything(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep right and wrong ones: their examples say which they are (``good``), for losses that learn from both."""
    return batch, Counter()


def nothing(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep none: the control without own data."""
    return batch.slice(0, 0), Counter({"nothing is selected": batch.num_rows})


def correct(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep what the verifier holds correct; the others are counted by its reasons."""
    import pyarrow.compute as pc

    wrong = batch["reason"].filter(pc.invert(batch["good"]))
    rejected = Counter({said["values"]: said["counts"] for said in pc.value_counts(wrong).to_pylist()})
    return batch.filter(batch["good"]), rejected


def rate(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep the tasks whose share of correct rollouts lies between the bounds, both included: the frontier."""
    import pyarrow.compute as pc

    low, high = beyond(batch["rate"], context.params.min_rate, context.params.max_rate)
    rejected = Counter({"solved too rarely": pc.sum(low).as_py(), "solved too often": pc.sum(high).as_py()})
    return batch.filter(pc.invert(pc.or_(low, high))), rejected
