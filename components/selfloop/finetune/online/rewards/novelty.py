"""A reward with something for an attempt that is unlike the others at its task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Asked, Attempts
from selfloop.finetune.online.rewards.primary import PrimaryReward

if TYPE_CHECKING:
    import numpy as np

    Table = np.ndarray[Any, Any]


class Novelty(PrimaryReward):
    """A reward, and ``weight`` times an attempt's elliptical bonus among the attempts at its task.

    Tuyls et al., "Representation-Based Exploration for Language Models" (arXiv:2510.11686), with the numbers of its
    released code: an attempt is the mean of the hidden states that the policy had for it as it began, and of a group in
    which nothing earns, nobody has a bonus, so that nobody learns to be wrong in many ways. That code projects the
    states to 32 random directions, since it inverts a matrix as wide as they are; here none is left out. What wrote the
    attempts need not give their states: the policy that is asked reads them.
    """

    name = "novelty"
    weight: float = Field(0.01, ge=0, description="What the bonus, from 0 to 1, weighs.")
    ridge: float = Field(0.01, gt=0, description="How far apart attempts must be: lambda.")

    @model_validator(mode="after")
    def _refuse_who_asks_another(self) -> Self:
        if self.primary.whom() not in ("nobody", "start"):
            raise UserError(
                f"The reward 'novelty' reads the policy as it began, and '{self.primary}' asks another model: choose "
                "one that asks nobody, or the start."
            )
        return self

    def whom(self) -> Asked:
        """The policy as it began, whose hidden states it reads."""
        return "start"

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The primary reward, and the bonus of each attempt of a group that earns."""
        import numpy as np

        from selfloop.finetune.online.representations import representations
        from selfloop.policy import Policy

        context, groups = attempts.context, len(attempts.tasks)
        assert isinstance(context.asked, Policy)
        states = representations(context.asked, attempts.rollouts, context.batch_size, "all tokens").numpy()
        earned = np.asarray(self.primary(attempts), float).reshape(groups, -1)
        bonus = np.stack([leverage(each, self.ridge) for each in states.reshape(*earned.shape, -1)])
        made: list[float] = (earned + self.weight * bonus * (earned > 0).any(axis=1, keepdims=True)).ravel().tolist()
        return made


def leverage(states: Table, ridge: float) -> Table:
    """x' (S + ridge I)^-1 x of each of some vectors (attempts, width), less their mean, where S is the sum of all their
    x x'. It is from 0 to 1, and k that are alike have a k-th of what one of them would have, nearly.

    By way of the attempts' own products K = X X', whose matrix K (K + ridge I)^-1 has these on its diagonal.
    """
    import numpy as np

    apart = states - states.mean(axis=0)
    size = len(apart)
    inverse = np.linalg.inv(apart @ apart.T + ridge * np.eye(size))
    made: Table = 1 - ridge * np.diag(inverse)
    return made
