"""Selectors that keep as much as a number of tokens allows. Of a pair, the tokens of both sides count."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.filter.selecting import Selecting, Selector, place_in_group, scores, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept

BEYOND = "beyond the token budget"


class Budget(Selector):
    """Keep rollouts in their order, until the next one does not fit any more."""

    name = "budget"
    tokens: int = Field(1_000_000, ge=1, description="Tokens that are kept, at most.")

    def begin(self) -> Selecting:
        """The budget, of which nothing is spent."""
        return Purse(self.tokens)


class Purse:
    """What is left of a budget that is spent in the order of the rollouts."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._asked = self._spent = 0
        self.says = ""

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Spend on a batch what is left."""
        import numpy as np

        tokens = batch["tokens"].to_numpy()
        reached = self._asked + np.cumsum(tokens)
        keep = reached <= self._tokens
        self._asked = int(reached[-1])
        self._spent += int(tokens[keep].sum())
        self.says = spent(self._spent, self._tokens)
        return where(batch, keep, BEYOND)


class BudgetByScore(Budget):
    """Keep the rollouts with the highest scores, over all tasks, until the next one does not fit any more."""

    name = "budget-by-score"
    needs = "to see everything first, which waits on the disk"

    def begin(self) -> Selecting:
        """The rollouts in the order of their ranks."""
        return Ranked(self.tokens, self.rank)

    @staticmethod
    def rank(batch: pa.RecordBatch) -> Column:
        """A number a row; those with the lowest come first, and of equals the first row."""
        return -scores(batch)


class BudgetByTask(BudgetByScore):
    """Keep one rollout of every task, then a second one of every task, and so on, until the next one does not fit."""

    name = "budget-by-task"

    @staticmethod
    def rank(batch: pa.RecordBatch) -> Column:
        """How many rollouts of the task stand before."""
        return place_in_group(batch)


class Ranked:
    """A budget that is spent in the order of the rollouts' ranks."""

    def __init__(self, tokens: int, rank: Callable[[pa.RecordBatch], Column]) -> None:
        self._budget, self._rank = tokens, rank
        self._tokens: list[Column] = []
        self._ranks: list[Column] = []
        self._keep: Column | None = None
        self._done = 0
        self.says = ""

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Note what each row costs, and when its turn comes."""
        self._tokens.append(batch["tokens"].to_numpy())
        self._ranks.append(self._rank(batch))

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows of a batch whose turn comes before the budget is spent."""
        if self._keep is None:
            self._keep = self._affordable()
        keep = self._keep[self._done : self._done + batch.num_rows]
        self._done += batch.num_rows
        return where(batch, keep, BEYOND)

    def _affordable(self) -> Column:
        import numpy as np

        tokens, ranks = np.concatenate(self._tokens), np.concatenate(self._ranks)
        order = np.argsort(ranks, kind="stable")
        reached = np.cumsum(tokens[order])
        keep = np.zeros(len(tokens), bool)
        keep[order[reached <= self._budget]] = True
        self.says = spent(int(tokens[keep].sum()), self._budget)
        return keep


def spent(tokens: int, budget: int) -> str:
    """How much of the budget was used."""
    return f"{tokens:,} of {budget:,} tokens"
