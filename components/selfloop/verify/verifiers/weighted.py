"""``weighted``: several verifiers' scores as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.verify.contract import called

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


def weighted(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """The score is the mean of the scores of the verifiers in ``weights``, by their weights; good is one of at least
    ``threshold``. Where none of them has an opinion of a rollout, there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from selfloop.verify.verifiers import find_verifier

    weights = context.params.weights
    total = pa.repeat(pa.scalar(0.0), rollouts.num_rows)
    decided = pa.repeat(pa.scalar(False), rollouts.num_rows)
    for name, weight in weights.items():
        ok, score, _ = called(name, find_verifier(name), rollouts, tasks, context)
        total = pc.add(total, pc.multiply(score, weight / sum(weights.values())))
        decided = pc.or_(decided, ok.is_valid())
    good = pc.greater_equal(total, context.params.threshold)
    reasons = pc.if_else(good, "weighed good", "weighed not good")
    return pc.if_else(decided, good, pa.scalar(None, pa.bool_())), total, pc.if_else(decided, reasons, "no opinion")
