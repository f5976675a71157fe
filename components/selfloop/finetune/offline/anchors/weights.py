"""Anchors on weights: the further they go from where they started, the more it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.errors import UserError
from selfloop.finetune.offline.anchors import Anchor

if TYPE_CHECKING:
    from selfloop.finetune.offline.holding import Hold
    from selfloop.finetune.offline.methods import GivenExamples


class L2(Anchor):
    """All weights stay near their start alike (Smith et al., arXiv:2203.17269).

    There it keeps more than EWC does, where the start is a pretrained policy.
    """

    name = "l2"
    weight: float = Field(0.1, gt=0, description="What the squared distance from the start costs, halved.")

    def begin(self, given: GivenExamples) -> Hold:
        """Remember where the weights are."""
        from selfloop.finetune.offline.holding import Penalty

        return Penalty(given.policy.model, self.weight)


class Ewc(Anchor):
    """Weights that earlier examples depend on stay near their start (Kirkpatrick et al., arXiv:1612.00796, eq. 3).

    The importance of a weight is the diagonal of the empirical Fisher information on examples of the replay pool and
    the seed data: all earlier skills are one. These examples are looked at, and not trained on.
    """

    name = "ewc"
    needs = "a replay pool or seed data"
    weight: float = Field(100.0, gt=0, description="What the squared distance from the start costs, halved.")
    texts: int = Field(200, ge=1, description="Earlier examples that say which weights matter.")

    def begin(self, given: GivenExamples) -> Hold:
        """Measure what each weight matters to earlier examples. Raises ``UserError`` where there are none."""
        from selfloop.finetune.offline.holding import Penalty, fisher

        earlier = given.earlier(self.texts)
        if not earlier:
            raise UserError(
                "The anchor 'ewc' asks earlier examples which weights matter, and there are none: give a replay pool "
                "or seed data, or choose 'l2'."
            )
        importance = fisher(given.policy, earlier, given.params.max_length)
        return Penalty(given.policy.model, self.weight, importance)
