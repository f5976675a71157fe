"""The selector that has attempts learnt under the mark that fits them (Quark, MaRio)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from selfloop.environments.marked import MARKS, unmarked
from selfloop.errors import UserError
from selfloop.filter.selecting import Selector, changed, scores

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept


class Quantiles(Selector):
    """Keep every rollout, behind the mark of the fifth of the round's scores that its own lies in.

    After Ramnath et al., "MaRio" (arXiv:2311.02805), and Quark (arXiv:2205.13636). Equal scores have one mark, that of
    the best among them: the highest score always has the best mark. There all that was ever drawn is ranked anew each
    time, here a round's rollouts among themselves; and MaRio has marks for each of several rewards, or for their
    product, where here one score stands, the verifier's.
    """

    name = "quantiles"
    needs = "to see everything first, which waits on the disk"

    def begin(self) -> Marking:
        """Scores come first, then marks."""
        return Marking()


class Marking:
    """Shown all scores, it marks each rollout."""

    says = ""

    def __init__(self) -> None:
        self._scores = list[float]()
        self._ranked: Column | None = None

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Take note of the scores."""
        self._scores += scores(batch).tolist()

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """All rows, each behind its mark. Raises ``UserError`` for prompts that have none."""
        import numpy as np
        import pyarrow as pa

        prompts = batch["prompt"].to_pylist()
        if odd := next((prompt for prompt in prompts if not prompt.startswith(MARKS)), None):
            raise UserError(
                f"The selector 'quantiles' changes marks, and the prompt {odd[:40]!r} has none: choose an environment "
                "such as marked:lookup."
            )
        if self._ranked is None:
            self._ranked = np.sort(self._scores)
        marks = [MARKS[place] for place in places(self._ranked, scores(batch))]
        marked = [mark + unmarked(prompt) for mark, prompt in zip(marks, prompts, strict=True)]
        learnt = pa.repeat(True, batch.num_rows)  # a bad one is a good example of what its mark asks for
        return changed(batch, prompt=pa.array(marked), good=learnt), Counter()


def places(ranked: Column, of: Column) -> Column:
    """For each score which fifth it is in, from 0 to 4, of all scores in rising order."""
    import numpy as np

    no_better = np.searchsorted(ranked, of, side="right")
    return -(-no_better * len(MARKS) // len(ranked)) - 1
