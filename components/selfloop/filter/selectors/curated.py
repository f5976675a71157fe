"""The selector that chooses as people do who prefer what is worth more, and are not sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Stateless, changed, groups, scores, where
from selfloop.seeds import seed_of

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept


class Curated(Stateless):
    """Keep one rollout of each task, drawn by e to the power of its score: what is chosen is good.

    With K attempts from p and a reward r, what is kept has the density p(x) E[K e^r(x) / (e^r(x) + the sum of e^r of
    K - 1 others)], and trained on alone it goes to p e^r as K grows (Ferbach et al., arXiv:2407.09499, theirs is the
    Bradley-Terry model's generalization to K).
    """

    name = "curated"
    sharpness: float = Field(1.0, ge=0, description="What a score is multiplied by: at 0 all are alike.")

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """One row of each group."""
        import numpy as np
        import pyarrow as pa

        worth, keep, tasks = scores(batch), np.zeros(batch.num_rows, bool), batch["task"]
        for rows in groups(batch):
            rng = np.random.default_rng(seed_of("curated", tasks[rows.start].as_py()))
            keep[rng.choice(np.arange(rows.start, rows.stop), p=chances(worth[rows] * self.sharpness))] = True
        made, rejected = where(batch, keep, "another was chosen")
        return changed(made, good=pa.array([True] * made.num_rows)), rejected


def chances(worth: Sequence[float] | Column) -> Column:
    """How likely each of a group is chosen: its e to the power of its worth, as a share of the group's."""
    import numpy as np

    apart = np.exp(np.asarray(worth, dtype=float) - max(worth))
    return apart / apart.sum()  # type: ignore[no-any-return]
