"""The selectors by name; ``selfloop.filter.selecting`` says what one is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from selfloop.errors import UserError
from selfloop.filter.selecting import Selector
from selfloop.filter.selectors.balance import Balance
from selfloop.filter.selectors.budget import Budget, BudgetByScore, BudgetByTask
from selfloop.filter.selectors.diversity import DiverseByEmbedding, diverse
from selfloop.filter.selectors.duplicates import MinHashed, unique
from selfloop.filter.selectors.length import length
from selfloop.filter.selectors.pairs import best_worst, first_error
from selfloop.filter.selectors.room import PerLevel
from selfloop.filter.selectors.verdicts import correct, everything, nothing, rate
from selfloop.lookup import imported, unknown

SELECTORS: Mapping[str, Any] = {
    "all": everything,
    "balance": Balance,
    "best-worst": best_worst,
    "budget": Budget,
    "budget-by-score": BudgetByScore,
    "budget-by-task": BudgetByTask,
    "correct": correct,
    "diverse": diverse,
    "diverse-by-embedding": DiverseByEmbedding,
    "first-error": first_error,
    "length": length,
    "minhash": MinHashed,
    "nothing": nothing,
    "per-level": PerLevel,
    "rate": rate,
    "unique": unique,
}
PAIRS = ("best-worst", "first-error")
"""Those that make one example of two rollouts."""


def refuse_unknown(name: str) -> None:
    """Raise ``UserError`` for a name that no selector has; those of the user's own are looked up where they run."""
    if ":" not in name and name not in SELECTORS:
        raise unknown("selector", name, SELECTORS)


def new_selector(name: str) -> Selector:
    """A selector by its name, or the user's own as ``module:function``, that has not seen anything yet."""
    refuse_unknown(name)
    found = imported("selector", name) if ":" in name else SELECTORS[name]
    made = found() if inspect.isclass(found) else found
    if not callable(made):
        raise UserError(f"The selector '{name}' cannot be called: name a function, or a class with '__call__'.")
    return made  # type: ignore[no-any-return]
