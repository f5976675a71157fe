"""Selectors that go by what the verifier said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from selfloop.filter.selecting import Stateless, beyond, refuse_no_rate

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class All(Stateless):
    """Keep right and wrong ones: their examples say which they are (``good``), for losses that learn from both."""

    name = "all"

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Everything."""
        return batch, Counter()


class Nothing(Stateless):
    """Keep none: the control without own data."""

    name = "nothing"

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Nothing."""
        return batch.slice(0, 0), Counter({"nothing is selected": batch.num_rows})


class Correct(Stateless):
    """Keep what the verifier holds correct; the others are counted by its reasons."""

    name = "correct"

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows that are good."""
        import pyarrow.compute as pc

        wrong = batch["reason"].filter(pc.invert(batch["good"]))
        rejected = Counter({said["values"]: said["counts"] for said in pc.value_counts(wrong).to_pylist()})
        return batch.filter(batch["good"]), rejected


class Rate(Stateless):
    """Keep the tasks whose share of correct rollouts lies between the bounds, both included: the frontier."""

    name = "rate"
    min_rate: float = Field(0.3, ge=0, le=1, description="Least share of correct rollouts in a group.")
    max_rate: float = Field(0.8, ge=0, le=1, description="Greatest share of correct rollouts in a group.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        refuse_no_rate(self.min_rate, self.max_rate)
        return self

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows of tasks within the band."""
        import pyarrow.compute as pc

        low, high = beyond(batch["rate"], self.min_rate, self.max_rate)
        rejected = Counter({"solved too rarely": pc.sum(low).as_py(), "solved too often": pc.sum(high).as_py()})
        return batch.filter(pc.invert(pc.or_(low, high))), rejected
