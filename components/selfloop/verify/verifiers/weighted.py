"""``weighted``: several verifiers' scores as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier, called

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from selfloop.generate.engines import Score
    from selfloop.verify.contract import Asked, Context, Judged

SCORES: Sequence[Score] = ("nothing", "logprob", "self_certainty")
"""What may be noted of an attempt, each with all before it."""
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Weighted(Verifier):
    """The score is a weighted mean of other verifiers' scores; good is one of at least ``threshold``.

    Where none of them has an opinion of a rollout, there is none.
    """

    name = "weighted"
    weights: dict[Verifier, Weight] = Field(min_length=1, description="Verifiers, and what each one's score weighs.")
    threshold: float = Field(0.5, description="The score from which on a rollout is good.")

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        if any(isinstance(each, Weighted) for each in self.weights):
            raise UserError("The verifier 'weighted' cannot weigh itself: name others in 'weights'.")
        if len({each.wants for each in self.weights} - {""}) > 1:
            raise UserError(
                "The verifier 'weighted' is handed one model, and weighs one that asks a policy and one that asks a "
                "reward model: name the reward model, as reward-model,model=PLACE."
            )
        return self

    @property
    def wants(self) -> Asked:
        """What one of those that it weighs wants."""
        return next((each.wants for each in self.weights if each.wants), "")

    @property
    def asks_in(self) -> str:
        """The role of the first of those that ask in one."""
        return next((each.asks_in for each in self.weights if each.asks_in), "")

    @property
    def noted(self) -> Score:
        """The most that one of those that it weighs reads."""
        return max((each.noted for each in self.weights), key=SCORES.index)

    @property
    def loads(self) -> bool:
        """Whether one of those that it weighs runs a model."""
        return any(each.loads for each in self.weights)

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Ask each of the verifiers, and weigh what it says."""
        import pyarrow as pa
        import pyarrow.compute as pc

        total = pa.repeat(pa.scalar(0.0), rollouts.num_rows)
        decided = pa.repeat(pa.scalar(False), rollouts.num_rows)
        for verifier, weight in self.weights.items():
            ok, score, _ = called(verifier, rollouts, tasks, context)
            total = pc.add(total, pc.multiply(score, weight / sum(self.weights.values())))
            decided = pc.or_(decided, ok.is_valid())
        good = pc.greater_equal(total, self.threshold)
        reasons = pc.if_else(good, "weighed good", "weighed not good")
        return pc.if_else(decided, good, pa.scalar(None, pa.bool_())), total, pc.if_else(decided, reasons, "no opinion")
