"""What rewards share that add something to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Asked, Reward
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.memory import NoState

if TYPE_CHECKING:
    from selfloop.generate.engines import Score


class PrimaryReward(Reward):
    """A reward that counts, and something beside it; whom it asks, and what is noted for it, are the former's."""

    primary: Reward = Field(Verified(), description="The reward that counts.")

    @model_validator(mode="after")
    def _refuse_what_remembers(self) -> Self:
        if self.primary.keeps is not NoState:
            raise UserError(f"The reward '{self.name}' cannot remember what '{self.primary}' does: choose another one.")
        return self

    def whom(self) -> Asked:
        """Whom the primary reward asks."""
        return self.primary.whom()

    def asks_in(self) -> str:
        """The role that the primary reward asks in."""
        return self.primary.asks_in()

    def notes(self) -> Score:
        """What the primary reward reads."""
        return self.primary.notes()

    def at_once(self) -> int:
        """The questions of the primary reward."""
        return self.primary.at_once()
