"""n-grams of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfloop.filter.params import FilterParams


def grams(text: str, params: FilterParams) -> set[str]:
    """The n-grams of a text; of one that is shorter, or has only one, the whole."""
    units, glue = (text.split(), " ") if params.ngram_of == "words" else (text, "")
    n = params.ngram
    return {glue.join(units[at : at + n]) for at in range(max(len(units) - n + 1, 1))}
