"""Examples of all skills, as the policy's own gradients tell them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.finetune.offline.replays import Pool, Replay

if TYPE_CHECKING:
    from selfloop.finetune.offline.replays import Column


class Clusters(Replay):
    """As many of each cluster of the policy's gradients, those first that it gets most wrong (after Adapt-infinity).

    There gradients are clustered into pseudo-skills, a score is chosen for each, and the pool is pruned for good. Here
    a score of two (the loss, and the error's norm as in EL2N) is chosen by how far apart it puts a cluster's examples,
    and the pool stays: what is left out of one round may be drawn in another.
    """

    name = "clusters"
    number: int = Field(8, ge=1, description="Clusters.")
    budget: int = Field(1000, ge=1, description="Examples that are drawn from, of all clusters together.")
    looked_at: int = Field(4000, ge=1, description="Examples whose gradient is taken, at most.")

    def __call__(self, pool: Pool, rows: Column) -> Column:
        """An even share of the budget for each cluster; what one cannot fill, others do."""
        import numpy as np

        from selfloop.finetune.offline.gradients import clustered, errors, shared, telling

        rng = np.random.default_rng(pool.seed)
        rows = rows[np.sort(rng.permutation(len(rows))[: self.looked_at])]
        if not len(rows):
            return rows
        found = errors(pool.policy(), pool.examples(rows), pool.seed)
        cluster = clustered(found.gradients, self.number, pool.seed)
        members = [np.flatnonzero(cluster == each) for each in np.unique(cluster)]
        share = shared([len(each) for each in members], self.budget)
        kept = [
            each[np.argsort(-telling(found.losses[each], found.norms[each]), kind="stable")[:part]]
            for each, part in zip(members, share, strict=True)
        ]
        return rows[np.sort(np.concatenate(kept))]
