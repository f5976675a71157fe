"""Finetune methods: how weights change by examples, one file each.

A method says which examples it can use, and trains on them in an order that it is given. One of your own is a function
``(given) -> TrainedOn`` whose keyword-only arguments are its parameters, or a subclass of ``Method``, which may also
remember something from round to round (``keeps``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.memory import Remembering
from selfloop.records import Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from selfloop.finetune.offline.encoding import Encoded
    from selfloop.finetune.running.training import Plan, Trained
    from selfloop.policy import Policy

    Column = np.ndarray[Any, Any]


class GivenExamples(NamedTuple):
    """A policy to train, the examples, the order in which their rows are seen, and how the training goes.

    ``earlier`` gives so many examples of the replay pool and the seed data at most, whether they are trained on or not.
    """

    params: TrainingParams
    policy: Policy
    examples: list[Example]
    order: Column
    plan: Plan
    earlier: Callable[[int], list[Example]] = lambda number: []


class TrainedOn(NamedTuple):
    """What a training came to, and the texts that it was on."""

    trained: Trained
    data: Encoded


class Method(Remembering):
    """How weights change by examples."""

    kind = "method"
    package = __name__
    needs = "good ones with a weight"
    learns_from_wrong: ClassVar[bool] = False
    """Whether it learns from wrong completions too, or from good ones alone."""
    needs_pairs: ClassVar[bool] = False
    """Whether an example must have a worse completion beside its own."""
    weighs: ClassVar[bool] = True
    """Whether an example counts as much as its weight says."""

    def usable(self, examples: pa.RecordBatch) -> pa.Array:
        """Which examples it can use, a bool each; ``examples`` has the columns good, weight, rate and rejected."""
        import pyarrow.compute as pc

        if self.needs_pairs:
            return pc.not_equal(examples["rejected"], "")
        weighted = pc.greater(examples["weight"], 0)
        return weighted if self.learns_from_wrong else pc.and_(examples["good"], weighted)

    def refuse(self, examples: Sequence[Example]) -> None:
        """Refuse weights where there is no place for them."""
        if not self.weighs and any(e.weight != 1 for e in examples):
            raise UserError(
                f"Method '{self.name}' knows no weights, and the examples have some: choose sft or nft, or another "
                "filter."
            )

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train the policy in place, where nothing is remembered."""
        raise NotImplementedError

    def train(self, given: GivenExamples, state: Any) -> tuple[TrainedOn, Any]:
        """Train the policy in place. Returns what it came to, and what is remembered then."""
        return self(given), state
