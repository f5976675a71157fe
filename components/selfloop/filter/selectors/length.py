"""The selector that goes by length."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.filter.selecting import Stateless

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class Length(Stateless):
    """Keep completions of a length within the bounds, both included."""

    name = "length"
    measure: Literal["characters", "tokens"] = Field("characters", description="What is counted.")
    bounds: Literal["at-least", "at-most", "between"] = Field(
        "between", description="Hold to 'shortest' (at-least), to 'longest' (at-most), or to both."
    )
    shortest: int = Field(1, ge=0, description="The least that is kept.")
    longest: int = Field(4096, ge=0, description="The most that is kept.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        if self.bounds == "between" and self.shortest > self.longest:
            raise UserError(
                f"No length is at least {self.shortest} and at most {self.longest}: let 'shortest' be no greater than "
                "'longest'."
            )
        return self

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows that are neither too short nor too long."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        measured = batch["tokens"] if self.measure == "tokens" else pc.utf8_length(batch["completion"])
        lengths = measured.to_numpy()
        short = (lengths < self.shortest) & (self.bounds != "at-most")
        long = (lengths > self.longest) & (self.bounds != "at-least")
        rejected = Counter({"too short": int(np.sum(short)), "too long": int(np.sum(long))})
        return batch.filter(pa.array(~short & ~long)), rejected
