"""What a selector is given, what it gives back, and how it is told apart from one that must see everything first.

The rows of a batch are rollouts, those of a task together and never in two batches. Its columns are those of
``Rollout``, the verdict's ``ok`` (null where the verifier has no opinion), ``score`` and ``reason``, the number
``group`` of the row's task within the batch, and ``weight``, ``good``, ``rate``, ``rejected`` and ``rejected_segments``
as an ``Example`` will carry them: ``rate`` is the share of correct rollouts among all that the task's group had before
anything was selected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from selfloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from selfloop.filter.params import FilterParams

    Column = np.ndarray[Any, Any]
    Kept = tuple[pa.RecordBatch, Counter[str]]
    """The rows that are kept, and how many of the others were rejected for which reason: both make up the batch."""


@dataclass(frozen=True)
class Context:
    """What a selector may look at beyond its batch. ``before`` counts the examples of earlier rounds by level."""

    params: FilterParams
    before: Counter[int] = field(default_factory=Counter)


class Selector(Protocol):
    """A function, or an instance of a class where it must remember what it saw; each use has its own.

    Where it has an attribute ``says``, that is told beside its counts.
    """

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """What of a batch is kept, and why the rest is not."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A selector that is shown every batch that reaches it before it is asked for the first."""

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Take note of a batch."""
        ...

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """What of a batch is kept, and why the rest is not."""
        ...


def where(batch: pa.RecordBatch, keep: Column, reason: str) -> Kept:
    """The rows that a mask names; the others are rejected for one reason."""
    import pyarrow as pa

    made = batch.filter(pa.array(keep))
    return made, Counter({reason: batch.num_rows - made.num_rows})


def beyond(rates: pa.Array, lowest: float, greatest: float) -> tuple[pa.Array, pa.Array]:
    """Which rates lie below a band, and which above it; both its ends belong to it."""
    import pyarrow.compute as pc

    return pc.less(rates, lowest), pc.greater(rates, greatest)


def groups(batch: pa.RecordBatch) -> Iterator[slice]:
    """The rows of each task."""
    import numpy as np

    group = batch["group"].to_numpy()
    ends = [*np.flatnonzero(np.diff(group)) + 1, len(group)]
    return (slice(int(begin), int(end)) for begin, end in zip([0, *ends[:-1]], ends, strict=True))


def place_in_group(batch: pa.RecordBatch) -> Column:
    """How many rows of its task stand before each row."""
    import numpy as np

    group = batch["group"].to_numpy()
    row = np.arange(len(group))
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    return row - np.repeat(begins, np.diff(begins, append=len(group)))


def scores(batch: pa.RecordBatch) -> Column:
    """The verdicts' scores. Raises ``UserError`` where one is not a number."""
    import numpy as np

    found = batch["score"].to_numpy(zero_copy_only=False)  # where there is none, it is not a number either
    if np.isnan(found).any():
        task = batch["task"][int(np.isnan(found).argmax())]
        raise UserError(
            f"The score of a rollout of the task '{task}' is not a number: select without scores, or mend the verifier."
        )
    return found  # type: ignore[no-any-return]


def changed(batch: pa.RecordBatch, **columns: Any) -> pa.RecordBatch:
    """The batch with other values in some of its columns."""
    for name, values in columns.items():
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(place), values)
    return batch
