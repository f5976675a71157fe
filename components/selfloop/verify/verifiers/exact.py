"""``exact``: the environment's own check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.roles import graded_batch
from selfloop.verify.contract import Verifier, ended

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Exact(Verifier):
    """Good is what the environment's own check says of a completion that the policy ended."""

    name = "exact"

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """What the environment says; a completion that the policy did not end is wrong."""
        return ended(rollouts, *graded_batch(context.environment, tasks, rollouts["completion"]))
