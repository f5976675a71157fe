"""n-grams of texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfloop.filter.selecting import Selector


class OfGrams(Selector):
    """A selector that compares the n-grams of texts."""

    ngram: int = Field(5, ge=1, description="Words or characters in a row that are compared.")
    ngram_of: Literal["words", "characters"] = Field("words", description="What n-grams are made of.")

    def grams(self, text: str) -> set[str]:
        """The n-grams of a text; of one that is shorter, or has only one, the whole."""
        units, glue = (text.split(), " ") if self.ngram_of == "words" else (text, "")
        n = self.ngram
        return {glue.join(units[at : at + n]) for at in range(max(len(units) - n + 1, 1))}
