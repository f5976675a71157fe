"""``label``: the pseudo-label that a task carries, as ``band_tasks`` put it there (Agent0, arXiv:2511.16043)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier, ended

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Label(Verifier):
    """Good is what gives the label of its task, in the form of the environment's answers, and was ended.

    The score is 1 or 0; a readable answer alone earns ``format_weight`` of it (0.1 in R-Zero's solver reward).
    """

    name = "label"
    needs = "tasks that band_tasks labelled"
    format_weight: float = Field(
        0.0, ge=0, lt=1, description="The share of the score that any answer that can be read earns."
    )

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Compare each answer with the label of its task."""
        import pyarrow as pa
        import pyarrow.compute as pc

        said, weight = context.answers(rollouts), self.format_weight
        pairs = list(zip(labels(tasks).to_pylist(), said.to_pylist(), strict=True))
        different = [(label, answer) for label, answer in dict.fromkeys(pairs) if answer]
        same = dict(zip(different, context.environment.agree(different), strict=True))
        ok = pa.array([same.get(pair, False) for pair in pairs], pa.bool_())
        readable = pc.cast(pc.not_equal(said, ""), pa.float64())
        score = pc.add(pc.multiply(pc.cast(ok, pa.float64()), 1 - weight), pc.multiply(readable, weight))
        return ended(rollouts, ok, score, pc.if_else(ok, "the label", "another answer"))


def labels(tasks: pa.RecordBatch) -> pa.Array:
    """The label of each task, a row each. Raises ``UserError`` for a task without one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = tasks["metadata"].dictionary_encode()
    known = [label_of(metadata) for metadata in encoded.dictionary.to_pylist()]
    found = pa.array(known, pa.string()).take(encoded.indices)
    if found.null_count:
        task = tasks["id"].filter(pc.is_null(found))[0]
        raise UserError(
            f"The task '{task}' carries no label in its metadata: have band_tasks keep the tasks, or choose another "
            "verifier than 'label'."
        )
    return found


def label_of(metadata: str) -> str | None:
    """The label in a task's metadata, if it has one."""
    try:
        found = json.loads(metadata)
    except ValueError:
        return None
    held = found.get("label") if isinstance(found, dict) else None
    return held if isinstance(held, str) else None
