"""The selector after which a policy must know what it could read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Stateless, changed

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept


class ClosedBook(Stateless):
    """Keep what was written with passages in sight, and take these out of its prompt: they were there to write it.

    After Kang et al., "Self-Specialization" (arXiv:2310.00160), where passages are retrieved for the answers that a
    policy is to learn, and learnt from without them.
    """

    name = "closed-book"
    question: str = Field("?", min_length=1, description="The last such text begins the question, behind the passages.")

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows whose prompts have something before the question, which is left."""
        import pyarrow as pa

        parts = [prompt.rpartition(self.question) for prompt in batch["prompt"].to_pylist()]
        opened = [bool(before and mark) for before, mark, _ in parts]
        made = changed(batch, prompt=pa.array([mark + after for _, mark, after in parts]))
        made = made.filter(pa.array(opened))
        return made, Counter({"no passages": len(opened) - made.num_rows})
