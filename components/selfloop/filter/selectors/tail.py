"""Selectors that keep easy tasks from crowding out hard ones (after Guo et al., arXiv:2510.26474).

Easy tasks have most of the right rollouts, so that what is learnt from round to round holds less and less of the hard
ones, the tail. Two of the paper's rules against that; its other two try hard tasks more often.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Stateless, changed, place_in_group, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class ClipPerTask(Stateless):
    """Keep the first rollouts of each task, up to a limit."""

    name = "clip-per-task"
    limit: int = Field(4, ge=1, description="Rollouts of a task that are kept at most.")

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows within their task's limit."""
        return where(batch, place_in_group(batch) < self.limit, "enough of its task")


class RepeatTail(Stateless):
    """Let the rollouts of a task of which few are left count as often as if they were repeated: by their weight."""

    name = "repeat-tail"
    to: int = Field(4, ge=1, description="Rollouts of a task that its few count for, together.")

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """All rows; those of a task with fewer than ``to`` weigh more."""
        import numpy as np
        import pyarrow as pa

        _, group = np.unique(batch["group"].to_numpy(), return_inverse=True)
        weight = batch["weight"].to_numpy() * np.maximum(self.to / np.bincount(group), 1.0)[group]
        return changed(batch, weight=pa.array(weight)), Counter()
