"""Selectors that make pairs: of a task's rollouts one is kept, and carries a worse one as ``rejected``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Stateless, changed, groups, scores

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept

WORSE = "the worse of its pair"


class BestWorst(Stateless):
    """Pair the rollout with the highest score and the one with the lowest, the first of those that are level."""

    name = "best-worst"
    pairs = True
    min_gap: float = Field(0.0, ge=0, description="By how much the best one's score is higher, at least.")

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """A pair of each task that has one."""
        import numpy as np
        import pyarrow.compute as pc

        score, group = scores(batch), batch["group"].to_numpy()
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        sizes = np.diff(begins, append=len(group))
        best, worst = (np.lexsort((by, group))[begins] for by in (-score, score))
        level = score[best] == score[worst]
        near = ~level & (score[best] - score[worst] < self.min_gap - 1e-12)
        said = batch["completion"]
        same = ~level & ~near & pc.equal(said.take(best), said.take(worst)).to_numpy(zero_copy_only=False)
        mute = ~level & ~near & ~same & pc.equal(said.take(worst), "").to_numpy(zero_copy_only=False)
        paired = ~level & ~near & ~same & ~mute
        rejected = Counter(
            {
                "all scores are level": int(sizes[level].sum()),
                "scores too near": int(sizes[near].sum()),
                "best and worst say the same": int(sizes[same].sum()),
                "the worst says nothing": int(sizes[mute].sum()),
                WORSE: int(paired.sum()),
                "neither best nor worst": int((sizes[paired] - 2).sum()),
            }
        )
        return pair(batch, best[paired], worst[paired]), rejected


class HardNegatives(Stateless):
    """Pair the right rollout with the lowest score and the wrong one with the highest, the first of level ones.

    Of a reward model's scores these are what it is most mistaken about: incorrect solutions that rank high go back into
    its training in RewardRanker (Sorokin et al., arXiv:2504.09643). A rollout without an opinion is neither.
    """

    name = "hard-negatives"
    pairs = True

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """A pair of each task that has one."""
        import numpy as np

        score, right = scores(batch), batch["good"].to_numpy(zero_copy_only=False)
        judged = batch["ok"].is_valid().to_numpy(zero_copy_only=False)
        says = np.array([text != "" for text in batch["completion"].to_pylist()], bool)
        better, worse, rejected = list[int](), list[int](), Counter[str]()
        for rows in groups(batch):
            good, bad = (np.flatnonzero(mask[rows]) + rows.start for mask in (right, judged & ~right & says))
            if not len(good) or not len(bad):
                rejected["no wrong one to pair with" if len(good) else "no correct one to pair with"] += (
                    rows.stop - rows.start
                )
                continue
            better.append(int(good[score[good].argmin()]))
            worse.append(int(bad[score[bad].argmax()]))
            rejected.update({WORSE: 1, "not what the scores are most wrong about": rows.stop - rows.start - 2})
        return pair(batch, np.array(better, np.int64), np.array(worse, np.int64)), rejected


class FirstError(Stateless):
    """Pair the correct and the wrong rollout that agree for longest: they part where the wrong one errs, or soon.

    What a wrong completion shares with a correct one of its task can still be completed rightly, so its first error
    lies at the place where they part or after it. Of all pairs of a correct and a wrong completion of a task, the one
    whose texts share the most leading bytes is kept; among equals the first in the order of their texts. A completion
    that the policy did not end has no known first error and is never the wrong one, nor is an empty one, one
    about which the verifier has no opinion, or one that is also held correct.

    After Self-Explore (arXiv:2404.10346), which resamples from every step's prefix and trains on the first step from
    which no sample is right, alone. Here the group's own rollouts take the place of new samples, and both completions
    are whole: in a loss on the difference of log-probabilities (DPO) the shared beginning cancels.
    """

    name = "first-error"
    pairs = True

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """A pair of each task that has one."""
        import numpy as np

        texts = batch["completion"].to_pylist()
        right = batch["good"].to_numpy(zero_copy_only=False)
        judged = batch["ok"].is_valid().to_numpy(zero_copy_only=False)
        says = np.array([text != "" for text in texts], bool)
        wrong = judged & ~right & says & batch["finished"].to_numpy(zero_copy_only=False)
        better, worse, rejected = list[int](), list[int](), Counter[str]()
        for rows in groups(batch):
            size = rows.stop - rows.start
            found = closest(texts[rows], right[rows], wrong[rows])
            if found is None:
                none = "no wrong one to pair with" if right[rows].any() else "no correct one to pair with"
                rejected[none] += size
                continue
            better.append(rows.start + found[0])
            worse.append(rows.start + found[1])
            rejected.update({WORSE: 1, "another pair agrees for longer": size - 2})
        return pair(batch, np.array(better, np.int64), np.array(worse, np.int64)), rejected


def closest(texts: Sequence[str], right: Column, wrong: Column) -> tuple[int, int] | None:
    """Which right and which wrong text share the longest beginning, if there are both.

    In the order of the texts such a pair stands side by side: whatever stands between two texts shares what they share.
    """
    said = [text.encode() for text in texts]
    first: dict[bytes, int] = {}
    for row in [*right.nonzero()[0], *wrong.nonzero()[0]]:
        first.setdefault(said[row], int(row))
    ordered = [first[text] for text in sorted(first)]
    found = [
        (shared(said[a], said[b]), (a, b) if right[a] else (b, a)) for a, b in pairwise(ordered) if right[a] != right[b]
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def shared(a: bytes, b: bytes) -> int:
    """How many leading bytes two texts have in common."""
    import numpy as np

    size = min(len(a), len(b))
    differs = np.frombuffer(a, np.uint8, size) != np.frombuffer(b, np.uint8, size)
    return int(differs.argmax()) if differs.any() else size


def pair(batch: pa.RecordBatch, better: Column, worse: Column) -> pa.RecordBatch:
    """The better rows, each with the worse one's completion and its segments. ``tokens`` are those of both."""
    import pyarrow as pa
    import pyarrow.compute as pc

    made, other = batch.take(pa.array(better)), batch.take(pa.array(worse))
    return changed(
        made,
        rejected=other["completion"],
        rejected_segments=other["segments"],
        rejected_finished=other["finished"],
        tokens=pc.add(made["tokens"], other["tokens"]),
        good=pa.repeat(pa.scalar(True), made.num_rows),
    )
