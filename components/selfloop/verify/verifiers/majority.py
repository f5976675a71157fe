"""``majority``: a vote among the attempts at a task, a label-free filter of Lee et al. (arXiv:2502.01612)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Majority(Verifier):
    """Good is what a large enough share of the attempts at the same task say; a lone attempt has no majority.

    Votes are counted on the answers where the environment tells an answer from the rest of a completion; what gives no
    answer has no vote. The score is the share of the attempts that agree.
    """

    name = "majority"
    agreement: float = Field(0.8, gt=0.5, le=1, description="Share of a task's attempts that must agree.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Count the votes of each task."""
        import pyarrow as pa
        import pyarrow.compute as pc

        said = context.votes(rollouts)
        votes = frequency(pc.binary_join_element_wise(rollouts["task"], said, "\n"))
        votes, attempts = pc.if_else(pc.equal(said, ""), 0, votes), frequency(rollouts["task"])
        share = pc.divide(pc.cast(votes, pa.float64()), attempts)
        ok = pc.and_(pc.and_(pc.greater_equal(share, self.agreement), rollouts["finished"]), pc.greater(attempts, 1))
        return ok, share, pc.if_else(ok, "majority", "no majority")


def frequency(values: pa.Array) -> pa.Array:
    """How often each value occurs, row by row."""
    import pyarrow.compute as pc

    counted = pc.value_counts(values)
    return counted.field("counts").take(pc.index_in(values, counted.field("values")))
