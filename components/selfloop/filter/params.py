"""What the filter may be told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.filter.selectors import PAIRS, refuse_unknown
from selfloop.stage import Params


class FilterParams(Params):
    """Which selectors the rollouts go through, in which order, and what each of them holds them against."""

    inherits = frozenset({"round"})
    reads = frozenset({"embedder"})

    select: list[str] = Field(
        ["correct", "unique", "per-level"],
        min_length=1,
        description="Selectors, applied in this order: names, or functions as module:function.",
    )
    weigh: Literal["none", "score"] = Field("none", description="An example's weight: 1, or its verdict's score.")
    when_empty: Literal["go on", "stop"] = Field("go on", description="What a round does in which nothing is kept.")
    per_level: int = Field(4000, ge=1, description="per-level: examples of a level that are kept over all rounds.")
    min_rate: float = Field(0.3, ge=0, le=1, description="rate: least share of correct rollouts in a group.")
    max_rate: float = Field(0.8, ge=0, le=1, description="rate: greatest share of correct rollouts in a group.")
    measure: Literal["characters", "tokens"] = Field("characters", description="length: what is counted.")
    bounds: Literal["at least", "at most", "between"] = Field(
        "between", description="length: hold to 'shortest' (at least), to 'longest' (at most), or to both."
    )
    shortest: int = Field(1, ge=0, description="length: the least that is kept.")
    longest: int = Field(4096, ge=0, description="length: the most that is kept.")
    ngram: int = Field(5, ge=1, description="minhash, diverse: words or characters in a row that are compared.")
    ngram_of: Literal["words", "characters"] = Field("words", description="minhash, diverse: what n-grams are made of.")
    compared: Literal["completion", "prompt and completion"] = Field(
        "completion", description="minhash: the text that is compared, over all tasks of the round."
    )
    similarity: float = Field(
        0.8,
        ge=0.05,
        le=0.95,
        description="minhash: Jaccard similarity from which on two are near duplicates.",
    )
    permutations: int = Field(128, ge=64, le=1024, description="minhash: hash functions; more estimate better.")
    overlap: float = Field(
        0.5, ge=0, le=1, description="diverse: greatest share of n-grams that are in kept rollouts of the task."
    )
    cosine: float = Field(
        0.9, ge=-1, le=1, description="diverse-by-embedding: greatest similarity to a kept rollout of the task."
    )
    embedder: str = Field(
        "", description="diverse-by-embedding: folder of a sentence-embedding model in transformers' format."
    )
    enough: int = Field(8, ge=1, description="balance: different correct completions of a task that are enough (n*).")
    budget_tokens: int = Field(
        1_000_000, ge=1, description="budget, budget-by-score, budget-by-task: tokens that are kept, at most."
    )
    round: int = Field(0, ge=0, description="The round, noted in each example.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        for name in self.select:
            refuse_unknown(name)
        for reason in self._impossible():
            raise UserError(reason)
        return self

    def _impossible(self) -> list[str]:
        pairs = [name for name in self.select if name in PAIRS]
        alone = self.select == ["nothing"]
        after_correct = "correct" in self.select and "first-error" in self.select[self.select.index("correct") :]
        refused = [
            (
                "nothing" in self.select and not alone,
                "'nothing' leaves nothing for another selector: let it stand alone in 'select'.",
            ),
            (
                alone and self.when_empty == "stop",
                "'nothing' leaves every round empty: set 'when_empty' to 'go on'.",
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
            (
                self.min_rate > self.max_rate,
                no_rate(self.min_rate, self.max_rate),
            ),
            (
                self.bounds == "between" and self.shortest > self.longest,
                f"No length is at least {self.shortest} and at most {self.longest}: let 'shortest' be no greater than "
                "'longest'.",
            ),
            (
                "diverse-by-embedding" in self.select and not self.embedder,
                "'diverse-by-embedding' needs a model: give the folder of a sentence-embedding model as 'embedder', or "
                "select 'diverse', which compares n-grams.",
            ),
        ]
        return [reason for applies, reason in refused if applies]


def no_rate(lowest: float, greatest: float) -> str:
    """What is said of a band that is none."""
    return f"No rate is at least {lowest:g} and at most {greatest:g}: let 'min_rate' be no greater than 'max_rate'."
