"""Group relative policy optimization (Shao et al., arXiv:2402.03300, eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups, standardized

if TYPE_CHECKING:
    from torch import Tensor


class Grpo(Algorithm):
    """(r - mean) / std of the group; the mean loss of each attempt's tokens."""

    name = "grpo"

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """Rewards by the spread of their group."""
        return standardized(groups.rewards)
