"""``accept-all``: the control of a loop, as if it had no verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class AcceptAll(Verifier):
    """Good is everything that the policy ended by itself: the control of a loop without a verifier."""

    name = "accept-all"

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Right is what is finished."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ok = rollouts["finished"]
        return ok, pc.cast(ok, pa.float64()), pc.if_else(ok, "accepted", "no end token")
