"""What the filter may be told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.filter.selecting import Selector
from selfloop.filter.selectors.duplicates import Unique
from selfloop.filter.selectors.pairs import FirstError
from selfloop.filter.selectors.room import PerLevel
from selfloop.filter.selectors.verdicts import Correct, Nothing
from selfloop.stages import Params


class FilterParams(Params):
    """Which selectors the rollouts go through, in which order."""

    inherits = frozenset({"round"})

    select: list[Selector] = Field(
        [Correct(), Unique(), PerLevel()],
        min_length=1,
        description="Selectors, applied in this order, such as correct+unique+per-level,limit=4000.",
    )
    weigh: Literal["none", "score"] = Field("none", description="An example's weight: 1, or its verdict's score.")
    when_empty: Literal["continue", "stop"] = Field("continue", description="What a round without examples does.")
    round: int = Field(0, ge=0, description="The round, noted in each example.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        for reason in self._impossible():
            raise UserError(reason)
        return self

    def _impossible(self) -> list[str]:
        kinds = [type(each) for each in self.select]
        pairs = [each.spelling() for each in self.select if each.pairs]
        alone = kinds == [Nothing]
        after_correct = Correct in kinds and FirstError in kinds[kinds.index(Correct) :]
        refused = [
            (
                Nothing in kinds and not alone,
                "'nothing' leaves nothing for another selector: let it stand alone in 'select'.",
            ),
            (
                alone and self.when_empty == "stop",
                "'nothing' leaves every round empty: set 'when_empty' to 'continue'.",
            ),
            (
                len(pairs) > 1,
                f"{' and '.join(map(repr, pairs))} make pairs, and the first leaves one rollout a task: select one.",
            ),
            (
                after_correct,
                "'first-error' pairs correct rollouts with wrong ones, and 'correct' before it leaves no wrong ones: "
                "leave 'correct' out.",
            ),
        ]
        return [reason for applies, reason in refused if applies]
