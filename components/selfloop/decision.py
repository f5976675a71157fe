"""What a gate decides about a round's candidate, and what it measured for that."""

from __future__ import annotations

from typing import Literal, NamedTuple

TARGET = "target"
"""The suite on which a candidate must be better; on every other it must be no worse."""
Outcome = Literal["promoted", "rejected", "pending", "halted"]


class Comparison(NamedTuple):
    """Champion and candidate on one suite. All accuracies, gains and bounds are shares of the items, in [-1, 1]."""

    items: int
    samples: int
    champion: dict[str, float]
    """``pass@k`` for the powers of two up to the samples, and ``maj@k`` of all of them where there are several."""
    candidate: dict[str, float]
    gain: float
    """The candidate's pass@1 less the champion's."""
    lower: float
    """The gain is at least this, at the confidence asked for; ``upper``: at most that. Each bound is one-sided."""
    upper: float
    p_value: float | None
    """McNemar's, where it was the test."""
    test: Literal["mcnemar", "bootstrap"]
    bar: float
    """What the lower bound must come to: the margin, or what may be lost, as a negative number."""
    passed: bool
    by_seed: dict[str, float]
    """The gain on the items of each evaluation seed."""


class Decision(NamedTuple):
    """What the gate decided, why in words, and its numbers by suite."""

    promoted: bool
    reason: str
    suites: dict[str, Comparison]
