"""What a gate decides about a round's candidate, and what it measured for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

TARGET = "target"
"""The suite on which a candidate must be better: the first look."""
CONFIRM = "confirm"
"""More items as the target's are, which are answered where the first look passed: the second look."""
CHAMPION, CANDIDATE, ANCHOR = "champion", "candidate", "anchor"
"""The policies that answer items: the anchor is the one that old skills are held against, of all policies so far."""
Outcome = Literal["promoted", "rejected", "pending", "halted"]


def deciding_look(decision: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The look at the target that decided, of a decision as JSON: the second where it was made; none without any."""
    suites: Mapping[str, Mapping[str, Any]] = decision.get("suites", {})
    return suites.get(CONFIRM) or suites.get(TARGET)


class OfLevel(NamedTuple):
    """A guard suite's items of one level, as ``Comparison`` has the whole suite."""

    items: int
    gain: float
    lower: float
    upper: float
    passed: bool


class Comparison(NamedTuple):
    """Champion, or on a guard suite the anchor, and candidate on one suite. All accuracies, gains and bounds are shares
    of the items, in [-1, 1].
    """

    items: int
    units: int
    """What is independent: the items, where all items of a cluster are one."""
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
    """One-sided, where the candidate had to be better."""
    level: float | None
    """What the p-value had to come to at most."""
    test: Literal["mcnemar", "bootstrap"]
    bar: float
    """What the lower bound must come to: the margin, or what may be lost, as a negative number."""
    passed: bool
    by_seed: dict[str, float]
    """The gain on the items of each evaluation seed."""
    against: str
    """Which policy stands in the place of the champion."""
    by_level: dict[str, OfLevel]
    """Of a guard suite with several levels."""


class Budget(NamedTuple):
    """What the loop's error budget came to in a round: whether the first look passed and the second confirmed, the
    level of that look where there was one, what is spent and what is left of ``alpha``, and the level of the next look.
    """

    screened: bool
    confirmed: bool
    level: float | None
    alpha: float
    spent: float
    left: float
    next: float
    ledger: dict[str, Any]

    @property
    def says(self) -> str:
        """The same in words."""
        about = f"of the error budget {self.alpha:g}, {self.spent:.2g} is spent and {self.left:.2g} left"
        if self.screened and self.level is None:
            return f"{about}: no look can confirm any more, so nothing is promoted"
        return about


class Decision(NamedTuple):
    """What the gate decided, why in words, and its numbers by suite; and what became of the loop's error budget, where
    it has one.
    """

    promoted: bool
    reason: str
    suites: dict[str, Comparison]
    budget: Budget | None = None
