"""The score of a verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from selfloop.finetune.online.rewards import Asked, Attempts, Reward, RewardContext
from selfloop.verify import Verifier, VerifyParams, judge
from selfloop.verify.verifiers.exact import Exact

if TYPE_CHECKING:
    from selfloop.generate.engines import Score


class Verified(Reward):
    """The score of a verifier, such as the loop's own."""

    name = "verified"
    verifier: Verifier = Field(Exact(), description="The verifier whose score is the reward.")
    judged_by: Literal["start", "policy", "other"] = Field(
        "start", description="Whom a verifier asks that asks a policy: this one as it began or as it is, or another."
    )

    def whom(self) -> Asked:
        """The policy of ``judged_by``, or a reward model, as the verifier wants."""
        asked: dict[str, Asked] = {"": "nobody", "policy": self.judged_by, "reward-model": "reward-model"}
        return asked[self.verifier.wants]

    def asks_in(self) -> str:
        """That of its verifier, where this asks no other policy."""
        return "" if self.judged_by == "other" else self.verifier.asks_in

    def notes(self) -> Score:
        """What its verifier reads."""
        return self.verifier.noted

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The scores of a draw's attempts."""
        draw, tasks, rollouts, context = attempts
        verdicts = judge(rollouts, tasks, self._params(draw, context), context.asked)
        return [verdict.score for verdict in verdicts]

    def _params(self, draw: int, context: RewardContext) -> VerifyParams:
        seed = context.seed("judge", context.round, draw)
        return VerifyParams(environment=context.environment, verifier=self.verifier, seed=seed)
