"""What a protocol itself says that texts are worth."""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Attempts, Reward


class OfProtocol(Reward):
    """What the protocol said that a role's texts are worth, such as the outcome of a game for each seat."""

    name = "protocol"
    needs = "a protocol that rewards"

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The sum of each rollout's segments. Raises ``UserError`` for a protocol that rewards nothing."""
        given = [[s.reward for s in rollout.segments if s.reward is not None] for rollout in attempts.rollouts]
        if not any(given):
            raise UserError(
                "The protocol rewarded nothing in a whole draw: choose one that does, such as a game's, or another "
                "reward than 'protocol'."
            )
        return [sum(each) for each in given]
