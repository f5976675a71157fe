"""The selector that weighs how many correct completions a task keeps against how pure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from selfloop.filter.selecting import Selecting, Selector, scores, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept


class Balance(Selector):
    """Keep the rollouts from the score on at which the mean balance score of the tasks is highest.

    The balance score of a task is min(n'/n*, 1) · n'/n, with n different completions kept and n' correct ones among
    them (B-STaR, arXiv:2412.17256, n* = 8); it is 0 where none is kept. Every score that occurs is tried, the lowest of
    the best is taken. B-STaR scans a grid of thresholds and the temperature on a probe set; here it is the round's own
    rollouts. The temperature is for ``balance_sampling`` to choose.
    """

    name = "balance"
    needs = "to see everything first, which waits on the disk"
    enough: int = Field(8, ge=1, description="Different correct completions of a task that are enough (n*).")

    def begin(self) -> Selecting:
        """The scores that are seen."""
        return Threshold(self.enough)


class Best(NamedTuple):
    """The score from which on the mean balance score is highest, and that mean."""

    least: float
    mean: float


class BalanceScores:
    """The balance scores of the tasks that were seen, at every threshold."""

    def __init__(self) -> None:
        self._scores: list[Column] = []
        self._gains: list[Column] = []
        self._tasks = 0

    def add(self, batch: pa.RecordBatch, enough: int) -> None:
        """Note at which scores a task's balance score changes, and by how much."""
        score, gain = gains(batch, enough)
        self._scores.append(score)
        self._gains.append(gain)
        self._tasks += len(batch["group"].unique())

    @property
    def best(self) -> Best:
        """The lowest of the thresholds at which the mean is highest."""
        import numpy as np

        score, gain = np.concatenate(self._scores), np.concatenate(self._gains)
        order = np.argsort(-score, kind="stable")
        last = np.flatnonzero(np.diff(score[order], append=-np.inf))
        means = np.cumsum(gain[order])[last] / self._tasks
        place = last[np.flatnonzero(np.isclose(means, means.max()))[-1]]
        return Best(float(score[order][place]), float(means.max()))


class Threshold:
    """The score from which on rollouts are kept, by what was seen."""

    def __init__(self, enough: int) -> None:
        self._enough, self._seen = enough, BalanceScores()
        self._best: Best | None = None
        self.says = ""

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Take note of a batch."""
        self._seen.add(batch, self._enough)

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows of a batch that reach the threshold."""
        if self._best is None:
            self._best = self._seen.best
            self.says = f"scores from {self._best.least:.3g} on, balance score {self._best.mean:.3f}"
        return where(batch, scores(batch) >= self._best.least, "score below the threshold")


def gains(batch: pa.RecordBatch, enough: int) -> tuple[Column, Column]:
    """Scores of a batch's different completions, and what taking in those with this score adds to their task's balance.

    A completion that occurs more than once has the highest of its scores, and is correct where one of them is.
    """
    import numpy as np
    import pyarrow as pa

    columns = {"group": batch["group"], "said": batch["completion"], "score": scores(batch), "good": batch["good"]}
    of_each = [("score", "max"), ("good", "any")]
    of_completion = pa.table(columns).group_by(["group", "said"], use_threads=False).aggregate(of_each)
    group, score, good = (of_completion[name].to_numpy() for name in ("group", "score_max", "good_any"))
    order = np.lexsort((-score, group))
    group, score, good = group[order], score[order], good[order].astype(float)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(begins, append=len(group))
    so_far = np.cumsum(good)
    right = so_far - np.repeat(so_far[begins] - good[begins], size)
    kept = np.arange(len(group)) - np.repeat(begins, size) + 1
    balance = np.minimum(right / enough, 1) * right / kept
    whole = (np.diff(score, append=np.inf) != 0) | (np.diff(group, append=-1) != 0)  # all with this score are in
    group, score, balance = group[whole], score[whole], balance[whole]
    first = np.diff(group, prepend=-1) != 0
    return score, balance - np.where(first, 0.0, np.concatenate([[0.0], balance[:-1]]))
