"""A reward with something for a use of tools, less and less of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi

from pydantic import BaseModel, ConfigDict, Field

from selfloop.finetune.online.rewards import Attempts
from selfloop.finetune.online.rewards.primary import PrimaryReward
from selfloop.records import TOOL


class Draws(BaseModel):
    """How many draws were rewarded, of all rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = 0


class Explored(PrimaryReward):
    """A reward, and a bonus for an attempt in which a tool answers, which falls to nothing over some draws.

    The curriculum of SPEAR (Qin et al., arXiv:2509.22601): tools are tried first; in the end what they bring counts.
    """

    name = "explored"
    keeps = Draws
    bonus: float = Field(1.0, ge=0, description="What a use of a tool is worth at first.")
    over: int = Field(100, ge=1, description="Draws, of all rounds, over which the bonus falls to 0, as a cosine.")

    def bonus_at(self, draw: int) -> float:
        """bonus (1 + cos(pi t / over)) / 2, then 0."""
        return self.bonus * (1 + cos(pi * min(draw / self.over, 1.0))) / 2

    def rewards(self, attempts: Attempts, state: Draws) -> tuple[Sequence[float], Draws]:
        """The primary reward, and the bonus of this draw."""
        bonus = self.bonus_at(state.draws)
        used = (any(each.author == TOOL for each in rollout.segments) for rollout in attempts.rollouts)
        given = zip(self.primary(attempts), used, strict=True)
        return [reward + bonus * tool for reward, tool in given], Draws(draws=state.draws + 1)
