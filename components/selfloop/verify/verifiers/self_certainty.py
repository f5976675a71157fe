"""``self-certainty``: how far from uniform the policy's choices were (Kang et al., arXiv:2502.18581)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Score
    from selfloop.verify.contract import Context, Judged


class SelfCertainty(Verifier):
    """The score is the rollout's self-certainty, in nats; what is right, it does not say."""

    name = "self-certainty"
    notes: ClassVar[Score] = "self_certainty"
    needs = "generate.score=self_certainty"

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Hand the self-certainty on as the score."""
        import pyarrow as pa

        rows = rollouts.num_rows
        return pa.nulls(rows, pa.bool_()), certainty_of(rollouts), pa.repeat(pa.scalar("self-certainty"), rows)


def certainty_of(rollouts: pa.RecordBatch) -> pa.Array:
    """The self-certainty of each rollout. Raises ``UserError`` where the rollouts do not carry it."""
    certainty = rollouts["self_certainty"]
    if certainty.null_count:
        task = rollouts["task"][certainty.is_null().to_pylist().index(True)]
        raise UserError(f"A rollout of task '{task}' carries no self-certainty: set generate.score=self_certainty.")
    return certainty
