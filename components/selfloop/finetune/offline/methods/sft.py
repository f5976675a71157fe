"""Supervised fine-tuning."""

from __future__ import annotations

from pydantic import Field

from selfloop.errors import UserError
from selfloop.finetune.offline.methods import GivenExamples, Method, TrainedOn


class Sft(Method):
    """Imitate good completions, each as much as its weight says."""

    name = "sft"
    packing: bool = Field(False, description="Several short texts in one row; the loss stays the same.")

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train on the examples as they are. Raises ``UserError`` where packing would mix up positions."""
        from selfloop.finetune.offline.encoding import Encoded
        from selfloop.finetune.offline.supervised import train
        from selfloop.generate.engines.reading import pads

        params, policy, examples, order, plan = given
        if self.packing and hasattr(policy.model.config, "position_restarts"):
            raise UserError(
                "packing cannot keep this policy's position scheme, which starts anew in a text: leave it off."
            )
        if self.packing and not pads(policy.model):
            raise UserError(
                f"packing cannot keep texts apart in a policy of the type '{policy.model.config.model_type}', whose "
                "layers do not all attend at positions that they are told: leave it off."
            )
        data = Encoded(policy, examples, order, params.max_length, self.packing)
        return TrainedOn(train(policy, data, plan), data)
