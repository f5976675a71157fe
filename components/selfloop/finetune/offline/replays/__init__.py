"""Replays: which examples of the replay pool a training draws from, one file each.

A replay is given the rows of the pool that can be trained on, and says from which of them is drawn, a row as often as
it counts. One of your own is a function ``(pool, rows) -> rows`` whose keyword-only arguments are its parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfloop.records import Example, read, take
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np

    from selfloop.policy import Policy

    Column = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pool:
    """The replay pool as a training begins: its table, the round, the policy that is trained, and a seed."""

    path: str
    round: int
    policy: Callable[[], Policy]
    seed: int

    def rounds(self, rows: Column) -> Column:
        """The rounds in which the examples of these rows were made."""
        import numpy as np

        made = [batch["round"].to_numpy() for batch in read(self.path, Example, ["round"])]
        return np.concatenate([np.empty(0, np.int64), *made])[rows]

    def examples(self, rows: Column) -> list[Example]:
        """The examples of these rows, in their order."""
        return take(self.path, Example, rows)


class Replay(Strategy):
    """Which examples of the replay pool are drawn from."""

    kind = "replay"
    package = __name__

    @abstractmethod
    def __call__(self, pool: Pool, rows: Column) -> Column:
        """Those of some rows of the pool, in order, that are drawn from, a row as often as it counts."""


class Even(Replay):
    """All of them alike."""

    name = "even"

    def __call__(self, pool: Pool, rows: Column) -> Column:
        """The rows as they are."""
        return rows
