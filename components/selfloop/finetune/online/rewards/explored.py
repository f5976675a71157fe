"""A reward with something for a use of tools, less and less of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Asked, Attempts, Reward
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.generate.engines import Score
from selfloop.memory import NoState
from selfloop.records import TOOL


class Draws(BaseModel):
    """How many draws were rewarded, of all rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = 0


class Explored(Reward):
    """A reward, and a bonus for an attempt in which a tool answers, which falls to nothing over some draws.

    The curriculum of SPEAR (Qin et al., arXiv:2509.22601): tools are tried first; in the end what they bring counts.
    """

    name = "explored"
    keeps = Draws
    primary: Reward = Field(Verified(), description="The reward that counts.")
    bonus: float = Field(1.0, ge=0, description="What a use of a tool is worth at first.")
    over: int = Field(100, ge=1, description="Draws, of all rounds, over which the bonus falls to 0, as a cosine.")

    @model_validator(mode="after")
    def _refuse_what_remembers(self) -> Self:
        if self.primary.keeps is not NoState:
            raise UserError(f"The reward 'explored' cannot remember what '{self.primary}' does: choose another one.")
        return self

    def whom(self) -> Asked:
        """Whom the primary reward asks."""
        return self.primary.whom()

    def notes(self) -> Score:
        """What the primary reward reads."""
        return self.primary.notes()

    def at_once(self) -> int:
        """The questions of the primary reward."""
        return self.primary.at_once()

    def bonus_at(self, draw: int) -> float:
        """bonus (1 + cos(pi t / over)) / 2, then 0."""
        return self.bonus * (1 + cos(pi * min(draw / self.over, 1.0))) / 2

    def rewards(self, attempts: Attempts, state: Draws) -> tuple[Sequence[float], Draws]:
        """The primary reward, and the bonus of this draw."""
        bonus = self.bonus_at(state.draws)
        used = (any(each.author == TOOL for each in rollout.segments) for rollout in attempts.rollouts)
        given = zip(self.primary(attempts), used, strict=True)
        return [reward + bonus * tool for reward, tool in given], Draws(draws=state.draws + 1)
