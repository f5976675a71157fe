"""RL algorithms: what an attempt's advantage is, and how its tokens' ratios are clipped, one file each.

An algorithm is a function of a draw's rewards; what it reads beside them stands in ``RewardedGroups``. One of your own
is a function ``(groups) -> advantages``, or a subclass of ``Algorithm``, which may also remember something from draw to
draw and from round to round (``keeps``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from selfloop.memory import Remembering
from selfloop.records import Rollout

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-4
"""What keeps the division by a group's standard deviation finite, as in TRL."""


class RewardedGroups(NamedTuple):
    """A draw: rewards (groups, attempts), vote rates (groups), and the attempts themselves, one group after another."""

    rewards: Tensor
    rates: Tensor
    rollouts: Sequence[Rollout] = ()


class Algorithm(Remembering):
    """How advantages are made of a draw's rewards.

    ``ratio`` is a token's or a whole sequence's; ``mean`` is what a loss is averaged over: each attempt's own tokens,
    or a constant.
    """

    kind = "algorithm"
    package = __name__
    ratio: ClassVar[Literal["token", "sequence"]] = "token"
    mean: ClassVar[Literal["sequences", "constant"]] = "sequences"
    compares: ClassVar[bool] = True
    """Whether an advantage comes of comparing attempts at the same task."""

    def __call__(self, groups: RewardedGroups) -> Tensor:
        """Advantages (groups, attempts), where nothing is remembered."""
        raise NotImplementedError

    def advantages(self, groups: RewardedGroups, state: Any) -> tuple[Tensor, Any]:
        """Advantages (groups, attempts) of a draw, and what is remembered after it."""
        return self(groups), state

    def upper(self, rates: Tensor, clip: float) -> Tensor:
        """How far up a ratio of each group may go (groups), of its vote rate (groups): all alike."""
        return rates.new_full(rates.shape, clip)

    @classmethod
    def clips_by_group(cls) -> bool:
        """Whether groups have upper clips of their own."""
        return cls.upper is not Algorithm.upper


def centred(rewards: Tensor) -> Tensor:
    """r - mean of the group."""
    apart = rewards - rewards[:, :1]  # of equal rewards exactly 0, which less their rounded mean they are not
    return apart - apart.mean(dim=1, keepdim=True)


def standardized(rewards: Tensor) -> Tensor:
    """(r - mean) / std of the group."""
    return centred(rewards) / (rewards.std(dim=1, keepdim=True) + TINY)
