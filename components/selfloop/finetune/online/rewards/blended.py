"""A reward that is helped by another, and learns how much to heed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Asked, Attempts, Reward
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.finetune.online.rewards.vote import Vote
from selfloop.memory import NoState

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]


class Blend(BaseModel):
    """What the auxiliary reward weighs now; none before the first draw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float | None = None


class Blended(Reward):
    """A reward, and an auxiliary one times a weight that moves to where following it raises the first.

    After BARFI (Gupta et al., arXiv:2310.19007), which blends the two by an implicit gradient of the first reward
    through the trained policy. Here that gradient is of the first order: of one step of a policy whose attempts at a
    task are alike in chance and have a logit each, it is the covariance of both rewards within a task's attempts.
    """

    name = "blended"
    keeps = Blend
    primary: Reward = Field(Verified(), description="The reward that counts.")
    auxiliary: Reward = Field(Vote(), description="The one that may help.")
    weight: float = Field(0.5, ge=0, description="What the auxiliary one weighs at first.")
    rate: float = Field(0.5, ge=0, description="How far its weight moves by a covariance of 1; 0 leaves it.")
    most: float = Field(2.0, gt=0, description="What it weighs at most; at least it weighs nothing.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        parts = (self.primary, self.auxiliary)
        if any(each.keeps is not NoState for each in parts):
            odd = next(each for each in parts if each.keeps is not NoState)
            raise UserError(f"The reward 'blended' cannot remember what '{odd}' does: blend one that keeps nothing.")
        if len({each.whom() for each in parts} - {"nobody"}) > 1:
            raise UserError("The reward 'blended' may ask one model alone: blend rewards that ask the same.")
        if self.weight > self.most:
            raise UserError(f"A weight of {self.weight:g} is more than 'most', {self.most:g}: raise 'most'.")
        return self

    def whom(self) -> Asked:
        """Whom one of the two asks."""
        asked: list[Asked] = [each.whom() for each in (self.primary, self.auxiliary)]
        return next((whom for whom in asked if whom != "nobody"), "nobody")

    def asks_in(self) -> str:
        """The role of the first of the two that asks in one."""
        return self.primary.asks_in() or self.auxiliary.asks_in()

    def at_once(self) -> int:
        """The most questions of the two."""
        return max(self.primary.at_once(), self.auxiliary.at_once())

    def rewards(self, attempts: Attempts, state: Blend) -> tuple[Sequence[float], Blend]:
        """Both rewards as the weight is now, and the weight after the draw."""
        import numpy as np

        first, other = (np.asarray(each(attempts), float) for each in (self.primary, self.auxiliary))
        weight = self.weight if state.weight is None else state.weight
        groups = len(attempts.tasks)
        moved = weight + self.rate * covariance(first.reshape(groups, -1), other.reshape(groups, -1))
        made: list[float] = (first + weight * other).tolist()
        return made, Blend(weight=min(max(moved, 0.0), self.most))

    def summary_of(self, state: Blend) -> dict[str, Any]:
        """What the auxiliary reward came to weigh."""
        return {"auxiliary_weight": state.weight}


def covariance(first: Table, other: Table) -> float:
    """The mean over groups of the covariance within a group, of tables (groups, attempts)."""
    apart, other_apart = (each - each.mean(axis=1, keepdims=True) for each in (first, other))
    return float((apart * other_apart).mean())
