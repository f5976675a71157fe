"""The score of a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfloop.finetune.online.rewards import Asked, Attempts, Reward, RewardContext
from selfloop.verify import VerifyParams, askers, judge


class Verified(Reward):
    """The score of a verifier, such as the loop's own."""

    name = "verified"
    verifier: str = Field("exact", description="The verifier whose score is the reward.")
    judged_by: Literal["start", "policy"] = Field(
        "start", description="Whom a verifier asks that asks a policy: the one that trains as it began, or as it is."
    )

    def whom(self) -> Asked:
        """The policy of ``judged_by``, where the verifier asks one."""
        return self.judged_by if askers(VerifyParams(verifier=self.verifier)) else "nobody"

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The scores of a draw's attempts."""
        _, tasks, rollouts, context = attempts
        verdicts = judge(rollouts, list(dict.fromkeys(tasks)), self._params(attempts.draw, context), context.asked)
        return [verdict.score for verdict in verdicts]

    def _params(self, draw: int, context: RewardContext) -> VerifyParams:
        seed = context.seed("judge", context.round, draw)
        return VerifyParams(environment=context.environment, verifier=self.verifier, seed=seed)
