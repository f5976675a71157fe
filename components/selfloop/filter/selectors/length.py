"""The selector that goes by length."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


def length(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep completions of a length within the bounds, both included."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    params = context.params
    measured = batch["tokens"] if params.measure == "tokens" else pc.utf8_length(batch["completion"])
    lengths = measured.to_numpy()
    short = (lengths < params.shortest) & (params.bounds != "at most")
    long = (lengths > params.longest) & (params.bounds != "at least")
    rejected = Counter({"too short": int(np.sum(short)), "too long": int(np.sum(long))})
    return batch.filter(pa.array(~short & ~long)), rejected
