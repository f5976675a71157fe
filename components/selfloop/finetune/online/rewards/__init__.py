"""Rewards: what the attempts of an on-policy draw are worth, one file each.

One of your own is a function ``(attempts) -> rewards`` whose keyword-only arguments are its parameters, or a subclass
of ``Reward``, which may ask a policy (``asks``) and remember something from draw to draw (``keeps``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from selfloop.memory import Remembering
from selfloop.records import Rollout, Task
from selfloop.seeds import Drawing, seed_for

if TYPE_CHECKING:
    from selfloop.generate.engines import Engine, Score
    from selfloop.policy import Policy

Asked = Literal["nobody", "policy", "start", "other", "reward-model"]
"""Whom a reward asks: the policy as it is, the policy that the training starts from, another one that the stage is
given as ``asked`` (the start where it is given none), or a reward model that it is given.
"""


@dataclass(frozen=True)
class RewardContext:
    """What a reward may know beside the attempts; ``asked`` is whom it asks, if anybody: a policy, or the directory of
    a reward model.
    """

    environment: str
    params: Drawing
    round: int
    batch_size: int
    asked: Policy | Path | None = None

    @cached_property
    def engine(self) -> Engine:
        """What lets the policy that is asked write."""
        from selfloop.generate.engines.transformers import Transformers

        assert self.asked is not None
        assert not isinstance(self.asked, Path)
        return Transformers(self.asked, self.batch_size)

    def seed(self, *purpose: Any) -> int:
        """The seed of this training for a purpose."""
        return seed_for(self.params, *purpose)


class Attempts(NamedTuple):
    """The attempts of a draw, by its number; a group's stand together, in the order of the tasks."""

    draw: int
    tasks: Sequence[Task]
    rollouts: Sequence[Rollout]
    context: RewardContext


class Reward(Remembering):
    """What attempts are worth."""

    kind = "reward"
    package = __name__
    asks: ClassVar[Asked] = "nobody"

    def whom(self) -> Asked:
        """Whom it asks under its parameters."""
        return self.asks

    def asks_in(self) -> str:
        """The role that it asks the policy in that trains, if it does."""
        return ""

    def notes(self) -> Score:
        """What is noted of each attempt for it."""
        return "nothing"

    def at_once(self) -> int:
        """Questions that it asks of each attempt."""
        return 1

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """A reward for each attempt, in their order, where nothing is remembered."""
        raise NotImplementedError

    def rewards(self, attempts: Attempts, state: Any) -> tuple[Sequence[float], Any]:
        """A reward for each attempt, and what is remembered after the draw."""
        return self(attempts), state

    def summary_of(self, state: Any) -> dict[str, Any]:
        """What a training's candidate tells of its rewards."""
        return {}
