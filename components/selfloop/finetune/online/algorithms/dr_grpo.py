"""GRPO done right, without the two divisions that bias it (Liu et al., arXiv:2503.20783)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups, centred

if TYPE_CHECKING:
    from torch import Tensor


class DrGrpo(Algorithm):
    """r - mean of the group; the summed loss of an attempt's tokens, by a constant (``max_tokens``)."""

    name = "dr-grpo"
    mean = "constant"

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """Rewards above the mean of their group."""
        return centred(groups.rewards)
