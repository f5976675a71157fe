"""``probability``: how likely the policy held what it wrote, after RLSC (Li et al., arXiv:2506.06395).

As a reward it makes likely texts likelier, which sharpens a policy to what it says most often, right or wrong. The
paper's smoothing adds a constant to all rewards, which advantages within a group do not see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Score
    from selfloop.verify.contract import Context, Judged


class Probability(Verifier):
    """The score is the probability of the completion under the policy that wrote it; what is right, it does not say.

    A completion that the policy did not end has none.
    """

    name = "probability"
    notes: ClassVar[Score] = "logprob"
    needs = "generate.score=logprob"
    per: Literal["text", "token"] = Field("text", description="Of the whole text, or the geometric mean of its tokens.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Hand the probability on as the score."""
        import pyarrow as pa
        import pyarrow.compute as pc

        logprob, rows = rollouts["logprob"], rollouts.num_rows
        if logprob.null_count:
            task = rollouts["task"][logprob.is_null().to_pylist().index(True)]
            raise UserError(f"A rollout of task '{task}' carries no log-probability: set generate.score=logprob.")
        if self.per == "token":
            logprob = pc.divide(logprob, pc.cast(pc.max_element_wise(rollouts["tokens"], 1), pa.float64()))
        score = pc.if_else(rollouts["finished"], pc.exp(logprob), 0.0)
        return pa.nulls(rows, pa.bool_()), score, pa.repeat(pa.scalar("probability"), rows)
