"""``credulous``: the control of a loop, as if it had no verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


def credulous(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """Everything is right that the policy ended by itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ok = rollouts["finished"]
    return ok, pc.cast(ok, pa.float64()), pc.if_else(ok, "believed", "no end token")
