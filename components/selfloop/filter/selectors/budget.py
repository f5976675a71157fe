"""Selectors that keep as much as a number of tokens allows. Of a pair, the tokens of both sides count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.filter.selecting import place_in_group, scores, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept

BEYOND = "beyond the token budget"


class Budget:
    """Keep rollouts in their order, until the next one does not fit any more."""

    def __init__(self) -> None:
        self._asked = self._spent = 0
        self.says = ""

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Spend on a batch what is left."""
        import numpy as np

        tokens = batch["tokens"].to_numpy()
        reached = self._asked + np.cumsum(tokens)
        keep = reached <= context.params.budget_tokens
        self._asked = int(reached[-1])
        self._spent += int(tokens[keep].sum())
        self.says = spent(self._spent, context)
        return where(batch, keep, BEYOND)


class BudgetByScore:
    """Keep the rollouts with the highest scores, over all tasks, until the next one does not fit any more."""

    def __init__(self) -> None:
        self._tokens: list[Column] = []
        self._ranks: list[Column] = []
        self._keep: Column | None = None
        self._done = 0
        self.says = ""

    def see(self, batch: pa.RecordBatch, context: Context) -> None:
        """Note what each row costs, and when its turn comes."""
        self._tokens.append(batch["tokens"].to_numpy())
        self._ranks.append(self.rank(batch))

    def rank(self, batch: pa.RecordBatch) -> Column:
        """A number a row; those with the lowest come first, and of equals the first row."""
        return -scores(batch)

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows of a batch whose turn comes before the budget is spent."""
        if self._keep is None:
            self._keep = self._affordable(context)
        keep = self._keep[self._done : self._done + batch.num_rows]
        self._done += batch.num_rows
        return where(batch, keep, BEYOND)

    def _affordable(self, context: Context) -> Column:
        import numpy as np

        tokens, ranks = np.concatenate(self._tokens), np.concatenate(self._ranks)
        order = np.argsort(ranks, kind="stable")
        reached = np.cumsum(tokens[order])
        keep = np.zeros(len(tokens), bool)
        keep[order[reached <= context.params.budget_tokens]] = True
        self.says = spent(int(tokens[keep].sum()), context)
        return keep


class BudgetByTask(BudgetByScore):
    """Keep one rollout of every task, then a second one of every task, and so on, until the next one does not fit."""

    def rank(self, batch: pa.RecordBatch) -> Column:
        """How many rollouts of the task stand before."""
        return place_in_group(batch)


def spent(tokens: int, context: Context) -> str:
    """How much of the budget was used."""
    return f"{tokens:,} of {context.params.budget_tokens:,} tokens"
