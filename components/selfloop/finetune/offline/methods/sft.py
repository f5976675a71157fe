"""Supervised fine-tuning."""

from __future__ import annotations

from pydantic import Field

from selfloop.errors import UserError
from selfloop.finetune.offline.anchors import Anchor, Free
from selfloop.finetune.offline.methods import GivenExamples, Method, TrainedOn


class Sft(Method):
    """Imitate good completions, each as much as its weight says."""

    name = "sft"
    packing: bool = Field(False, description="Several short texts in one row; the loss stays the same.")
    anchor: Anchor = Field(Free(), description="What holds the policy to where it starts.")

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train on the examples as they are. Raises ``UserError`` where packing would mix up positions."""
        from selfloop.finetune.offline.encoding import Encoded
        from selfloop.finetune.offline.supervised import train
        from selfloop.generate.engines.reading import pads

        policy = given.policy
        if self.packing and hasattr(policy.model.config, "position_restarts"):
            raise UserError(
                "packing cannot keep this policy's position scheme, which starts anew in a text: leave it off."
            )
        if self.packing and not pads(policy.model):
            raise UserError(
                f"packing cannot keep texts apart in a policy of the type '{policy.model.config.model_type}', whose "
                "layers do not all attend at positions that they are told: leave it off."
            )
        data = Encoded(policy, given.examples, given.order, given.params.max_length, self.packing)
        return TrainedOn(train(policy, data, given.plan, hold=self.anchor.begin(given)), data)


class SelfDistilled(Method):
    """Train twice from the same start: the first policy, trained on the examples, is the teacher of the second.

    The loss is xi times the cross-entropy to the teacher's distribution and 1 - xi times that to the examples (Das and
    Sanghavi, arXiv:2301.13304). Where many examples are wrong, an xi above 1 should be best: it trains away from them.
    """

    name = "self-distilled"
    xi: float = Field(1.0, ge=0, le=2, description="Weight of the teacher's labels; the examples' own have 1 - xi.")

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train the teacher, then the policy from where the teacher began."""
        from selfloop.finetune.offline.supervised import distilled_by_itself

        return distilled_by_itself(given, self.xi)
