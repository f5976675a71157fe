"""Ambiguity-dynamic policy optimization (Agent0, arXiv:2511.16043; its paper gives no formula, so this is the released
code's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups, standardized

if TYPE_CHECKING:
    from torch import Tensor

DOUBTFUL, SURE = 0.3, 0.8
"""Vote rates between which trust rises from its least to all."""
WIDER = 0.1
"""How much further up a ratio may go where the votes are split."""


class Adpo(Algorithm):
    """GRPO's advantages, the smaller the less a pseudo-label's votes agree; unlikely tokens may rise further there."""

    name = "adpo"
    trust: float = Field(0.5, ge=0, le=1, description="What an advantage is multiplied by where votes are split.")

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """GRPO's, times m + (1 - m) clip((rate - 0.3) / 0.5, 0, 1) with m = ``trust``."""
        sure = ((groups.rates - DOUBTFUL) / (SURE - DOUBTFUL)).clamp(0, 1)
        return standardized(groups.rewards) * (self.trust + (1 - self.trust) * sure)[:, None]

    def upper(self, rates: Tensor, clip: float) -> Tensor:
        """clip + 0.1 clip((0.8 - rate) / 0.5, 0, 1): a doubtful group's unlikely tokens rise further."""
        return clip + WIDER * ((SURE - rates) / (SURE - DOUBTFUL)).clamp(0, 1)
