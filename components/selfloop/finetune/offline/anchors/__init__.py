"""Anchors: what holds a supervised training to the policy that it starts from, so that less is forgotten.

One file each. An anchor adds to the loss, or changes the labels; it needs no old data beside what it says. One of your
own is a subclass of ``Anchor``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from selfloop.strategies import Strategy

if TYPE_CHECKING:
    from selfloop.finetune.offline.holding import Hold
    from selfloop.finetune.offline.methods import GivenExamples


class Anchor(Strategy):
    """What holds a training to its start."""

    kind = "anchor"
    package = __name__

    @abstractmethod
    def begin(self, given: GivenExamples) -> Hold:
        """What holds this training; the policy is still as it starts."""


class Free(Anchor):
    """Nothing holds the training: the examples alone say where it goes."""

    name = "free"

    def begin(self, given: GivenExamples) -> Hold:
        """A hold that changes nothing."""
        from selfloop.finetune.offline.holding import Hold

        return Hold()
