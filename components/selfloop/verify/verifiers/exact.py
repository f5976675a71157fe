"""``exact``: the environment's own check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


def exact(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """What the environment says; a completion that the policy did not end is wrong."""
    import pyarrow.compute as pc

    ok, score, reason = context.environment.check_batch(tasks, rollouts["completion"])
    finished = rollouts["finished"]
    return pc.and_(ok, finished), pc.if_else(finished, score, 0.0), pc.if_else(finished, reason, "no end token")
