"""An anchor on labels: the start says what else it would have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.finetune.offline.anchors import Anchor

if TYPE_CHECKING:
    from selfloop.finetune.offline.holding import Hold
    from selfloop.finetune.offline.methods import GivenExamples


class Swap(Anchor):
    """Labels are the start's own distribution, in which the right token and the likeliest have changed places.

    After the logit-swap self-distillation of Jiang et al., "Mix-CPT" (arXiv:2407.10804); how much of the loss it is, is
    from memory.
    """

    name = "swap"
    share: float = Field(0.5, ge=0, le=1, description="Share of these labels; the rest is the examples' own.")

    def begin(self, given: GivenExamples) -> Hold:
        """Keep a copy of the policy as it starts."""
        from selfloop.finetune.offline.holding import Taught, frozen, swapped

        return Taught(frozen(given.policy), self.share, swapped)
