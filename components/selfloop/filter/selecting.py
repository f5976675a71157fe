"""What a selector is, what it is given and what it gives back.

A selector is frozen: it holds parameters, and nothing of what it sees. ``begin`` makes what goes through the rollouts
of one run. For a ``Stateless`` one that is the selector itself, for another an object that remembers; an object that
has ``see`` is shown every batch that reaches it before it is asked for the first.

The rows of a batch are rollouts, those of a task together and never in two batches. Its columns are those of
``Rollout``, the verdict's ``ok`` (null where the verifier has no opinion), ``score`` and ``reason``, the number
``group`` of the row's task within the batch, and ``weight``, ``good``, ``rate``, ``rejected``, ``rejected_segments``
and ``rejected_finished`` as an ``Example`` will carry them: ``rate`` is the share of correct rollouts among all that
the task's group had before anything was selected.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from selfloop.errors import UserError
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Column = np.ndarray[Any, Any]
    Kept = tuple[pa.RecordBatch, Counter[str]]
    """The rows that are kept, and how many of the others were rejected for which reason: both make up the batch."""


@dataclass(frozen=True)
class Context:
    """What a selector may look at beyond its batch. ``before`` counts the examples of earlier rounds by level."""

    before: Counter[int] = field(default_factory=Counter)


class Selecting(Protocol):
    """What goes through the rollouts of one run. An attribute ``says``, if any, is reported beside its counts."""

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """What of a batch is kept, and why the rest is not."""
        ...


@runtime_checkable
class Foreseeing(Selecting, Protocol):
    """One that is shown every batch that reaches it before it is asked for the first."""

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Take note of a batch."""
        ...


class Selector(Strategy):
    """What of the judged rollouts is kept.

    One that ``pairs`` makes an example of two of a task's rollouts.
    """

    kind = "selector"
    package = "selfloop.filter.selectors"
    pairs: ClassVar[bool] = False

    @classmethod
    def base_of_functions(cls) -> type[Strategy]:
        """A function remembers nothing."""
        return Stateless

    @abstractmethod
    def begin(self) -> Selecting:
        """What goes through the rollouts of one run."""


class Stateless(Selector):
    """A selector that remembers nothing of earlier batches."""

    def begin(self) -> Selecting:
        """Itself."""
        return self

    @abstractmethod
    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """What of a batch is kept, and why the rest is not."""


def where(batch: pa.RecordBatch, keep: Column, reason: str) -> Kept:
    """The rows that a mask names; the others are rejected for one reason."""
    import pyarrow as pa

    made = batch.filter(pa.array(keep))
    return made, Counter({reason: batch.num_rows - made.num_rows})


def beyond(rates: pa.Array, lowest: float, greatest: float) -> tuple[pa.Array, pa.Array]:
    """Which rates lie below a band, and which above it; both its ends belong to it."""
    import pyarrow.compute as pc

    return pc.less(rates, lowest), pc.greater(rates, greatest)


def refuse_no_rate(lowest: float, greatest: float) -> None:
    """Raise ``UserError`` for a band that holds no rate."""
    if lowest > greatest:
        raise UserError(
            f"No rate is at least {lowest:g} and at most {greatest:g}: let 'min_rate' be no greater than 'max_rate'."
        )


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
