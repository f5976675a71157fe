"""Examples that come again after some rounds of rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.finetune.offline.replays import Pool, Replay

if TYPE_CHECKING:
    from selfloop.finetune.offline.replays import Column


class Rested(Replay):
    """Examples whose age is a multiple of an interval: those between rest until it has passed again.

    After the recall interval of view-batch learning, as remembered: by the spacing effect what is seen again later is
    kept longer than what is seen each time.
    """

    name = "rested"
    interval: int = Field(2, ge=1, description="Rounds between two in which an example is drawn.")

    def __call__(self, pool: Pool, rows: Column) -> Column:
        """The rows that are due in this round."""
        due: Column = rows[(pool.round - pool.rounds(rows)) % self.interval == 0]
        return due
