"""Weights by which something is drawn: what a strategy gave, checked, as shares of their sum."""

import math
from collections.abc import Sequence
from typing import Any

from selfloop.errors import UserError


def checked_weights(given: Any, places: Sequence[str], giver: str) -> list[float]:
    """A weight for each place, as ``giver`` gave them. Raises ``UserError`` for what is none."""
    try:
        weights = [float(weight) for weight in given]
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{giver} gave {given!r}: return a weight for each, as a number.") from None
    if len(weights) != len(places):
        raise UserError(f"{giver} gave {len(weights)} weights to {len(places)}: return one each.")
    for place, weight in zip(places, weights, strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"{giver} gave {place} the weight {weight}: return finite ones, from 0.")
    if not any(weights):
        raise UserError(f"{giver} gave all of them the weight 0: return one above 0 at least.")
    return weights


def shares(weights: Sequence[float]) -> list[float]:
    """Weights as shares of their sum, which may be greater than any number."""
    scaled = [weight / max(weights) for weight in weights]
    whole = math.fsum(scaled)
    return [weight / whole for weight in scaled]
