"""``shaped``: a reward model's score among what is right, and among what is wrong, and all of the latter below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.verify.contract import called
from selfloop.verify.verifiers.exact import Exact
from selfloop.verify.verifiers.reward_model import RewardModel

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Shaped(RewardModel):
    """Good is what the environment's check calls right; a reward model ranks what is right, and what is wrong below it.

    The score is sigmoid(``alpha`` r) + (v - 1), of the verdict v, 1 or 0, and the reward model's reward r.
    After Qwen2.5-Math (Yang et al., arXiv:2409.12122).
    """

    name = "shaped"
    alpha: float = Field(0.5, gt=0, description="How much the reward model's reward is stretched.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Check each rollout, and reward it."""
        import pyarrow as pa

        right, _, reasons = called(Exact(), rollouts, tasks, context)
        _, rewards, _ = super().__call__(rollouts, tasks, context)
        verdicts = zip(right.to_pylist(), rewards.to_pylist(), strict=True)
        scores = [shaped(reward, ok, self.alpha) for ok, reward in verdicts]
        return right, pa.array(scores, pa.float64()), reasons


def shaped(reward: float, ok: bool, alpha: float) -> float:
    """sigmoid(alpha r) + (v - 1), of sigmoid(r): from -1 to 0 where it is wrong, from 0 to 1 where it is right."""
    good, bad = math.pow(reward, alpha), math.pow(1 - reward, alpha)
    return good / (good + bad) + ok - 1
