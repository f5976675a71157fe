"""``rewarded``: what the protocol itself said that texts are worth, such as the outcome of a game for each seat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Rewarded(Verifier):
    """Good is what its protocol rewarded with more than 0 in all; the score is the sum of the rewards."""

    name = "rewarded"
    needs = "a protocol that rewards, such as a game's"

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Add up the rewards of each rollout's segments. Raises ``UserError`` where a rollout has none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        totals = []
        for task, segments in zip(rollouts["task"].to_pylist(), rollouts["segments"].to_pylist(), strict=True):
            rewards = [each["reward"] for each in segments if each["reward"] is not None]
            if not rewards:
                raise UserError(
                    f"No segment of a rollout of task '{task}' has a reward: choose a protocol that rewards, or "
                    "another verifier than 'rewarded'."
                )
            totals.append(sum(rewards))
        score = pa.array(totals, pa.float64())
        ok = pc.greater(score, 0.0)
        return ok, score, pc.if_else(ok, "won", "not won")
