"""The selector that shares the room for examples among the levels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from selfloop.filter.selecting import where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class PerLevel:
    """Keep the first ``per_level`` of each level, those of earlier rounds counted."""

    def __init__(self) -> None:
        self._new = Counter[int]()

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Fill the room that a level has left."""
        import numpy as np

        levels = batch["level"].to_numpy()
        keep = np.zeros(len(levels), bool)
        for level in map(int, np.unique(levels)):
            room = context.params.per_level - context.before[level] - self._new[level]
            fits = np.flatnonzero(levels == level)[: max(room, 0)]
            keep[fits] = True
            self._new[level] += len(fits)
        return where(batch, keep, "level is full")
