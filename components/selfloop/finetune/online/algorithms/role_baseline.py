"""Role-conditioned advantage estimation (SPIRAL, Liu et al., arXiv:2506.24119)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups

if TYPE_CHECKING:
    from torch import Tensor


class RoleBaselines(BaseModel):
    """What each role was given lately, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baselines: dict[str, float] = {}


class RoleBaseline(Algorithm):
    """r - what its role was given lately: no group is needed, and a better seat is no merit (SPIRAL's RAE)."""

    name = "role-baseline"
    mean = "constant"
    compares = False
    keeps = RoleBaselines
    decay: float = Field(0.95, ge=0, lt=1, description="What a role's baseline keeps of itself with each attempt.")

    def advantages(self, groups: RewardedGroups, state: RoleBaselines) -> tuple[Tensor, RoleBaselines]:
        """A = r - b(role), attempt by attempt; then b = decay b + (1 - decay) r. A new role's baseline is 0."""
        baselines, made = dict(state.baselines), list[float]()
        for rollout, reward in zip(groups.rollouts, groups.rewards.flatten().tolist(), strict=True):
            before = baselines.get(rollout.role, 0.0)
            made.append(reward - before)
            baselines[rollout.role] = self.decay * before + (1 - self.decay) * reward
        return groups.rewards.new_tensor(made).view_as(groups.rewards), RoleBaselines(baselines=baselines)
