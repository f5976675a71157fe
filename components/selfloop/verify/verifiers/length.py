"""``length``: a label-free filter of Lee et al. (arXiv:2502.01612)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Length(Verifier):
    """Good is what is about as long as the longest completion of the same level in this round."""

    name = "length"
    slack: int = Field(2, ge=0, description="Characters that a completion may be shorter than the longest.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Hold each length to the longest of its level."""
        import pyarrow as pa
        import pyarrow.compute as pc

        levels = pa.array(list(context.longest), pa.int64())
        longest = pa.array(list(context.longest.values()), pa.int64()).take(pc.index_in(rollouts["level"], levels))
        enough = pc.greater_equal(pc.utf8_length(rollouts["completion"]), pc.subtract(longest, self.slack))
        ok = pc.and_(pc.and_(enough, rollouts["finished"]), pc.not_equal(rollouts["completion"], ""))
        return ok, pc.cast(ok, pa.float64()), pc.if_else(ok, "long enough", "too short or no end token")
