"""The selector that shares the room for examples among the levels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Selecting, Selector, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class PerLevel(Selector):
    """Keep the first of each level, up to a limit over all rounds."""

    name = "per-level"
    limit: int = Field(4000, ge=1, description="Examples of a level that are kept over all rounds.")

    def begin(self) -> Selecting:
        """The room that the levels have."""
        return Room(self.limit)


class Room:
    """The room that the levels have left."""

    def __init__(self, limit: int) -> None:
        self._limit, self._new = limit, Counter[int]()

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Fill the room that a level has left."""
        import numpy as np

        levels = batch["level"].to_numpy()
        keep = np.zeros(len(levels), bool)
        for level in map(int, np.unique(levels)):
            room = self._limit - context.before[level] - self._new[level]
            fits = np.flatnonzero(levels == level)[: max(room, 0)]
            keep[fits] = True
            self._new[level] += len(fits)
        return where(batch, keep, "level is full")
