"""Advantages that are whitened by role (MAE's Task-Relative REINFORCE++, Chen et al., arXiv:2510.23595)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.finetune.online.algorithms import TINY, Algorithm, RewardedGroups

if TYPE_CHECKING:
    from torch import Tensor

    from selfloop.records import Rollout


class RoleWhitened(Algorithm):
    """(r - mean) / std of the draw's rewards of the same role: ``solver-1`` and ``solver-2`` are of one.

    Where the protocol rewards, what it gave no reward counts in no mean and has no advantage. The code that comes with
    the paper whitens by token, here it is by attempt.
    """

    name = "role-whitened"
    mean = "constant"
    compares = False

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """Rewards by the spread of their role."""
        rewards, made = groups.rewards.flatten(), groups.rewards.new_zeros(groups.rewards.numel())
        roles = [rollout.role.partition("-")[0] for rollout in groups.rollouts] or [""] * len(rewards)
        given = [_is_rewarded(rollout) for rollout in groups.rollouts]
        rows_of: dict[str, list[int]] = {}
        for row, role in enumerate(roles):
            if not any(given) or given[row]:
                rows_of.setdefault(role, []).append(row)
        for rows in rows_of.values():
            apart = rewards[rows] - rewards[rows[0]]  # of equal rewards exactly 0
            apart = apart - apart.mean()
            made[rows] = apart / (apart.square().mean().sqrt() + TINY)
        return made.view_as(groups.rewards)


def _is_rewarded(rollout: Rollout) -> bool:
    return any(segment.reward is not None for segment in rollout.segments)
