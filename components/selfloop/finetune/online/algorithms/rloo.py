"""REINFORCE leave-one-out (Ahmadian et al., arXiv:2402.14740, eq. 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups, centred

if TYPE_CHECKING:
    from torch import Tensor


class Rloo(Algorithm):
    """r - mean of the group's other attempts; the ratio of a whole attempt."""

    name = "rloo"
    ratio = "sequence"

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """Rewards above the mean of the others."""
        attempts = groups.rewards.shape[1]
        return centred(groups.rewards) * attempts / (attempts - 1)
