"""From the values of runs to one word: one-sided tests at 5 %, paired by seed.

A statement *holds* where each of its comparisons does by a test of its own: of an intersection none is corrected
(Berger, 1982). *Equivalent* is two such tests against the margin (Schuirmann, 1987). It *does not hold* where one
comparison's interval lies wholly outside of what it says; that may be any of them, so this is at 95 % for all together
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Literal, NamedTuple

from selfloop.claims.declared import Room, Statement
from selfloop.claims.intervals import ALPHA, Interval, interval

Word = Literal["holds", "equivalent", "does not hold", "inconclusive"]


class Value(NamedTuple):
    """A statement's metric in one run; ``censored`` where the run never came to one and ``missing`` stands for it."""

    seed: int
    value: float
    censored: bool = False


class Arm(NamedTuple):
    """What a statement's metric was in the runs of one arm in one setup, with the bounds of their mean."""

    setup: str
    arm: str
    interval: Interval
    values: Sequence[Value]


class Comparison(NamedTuple):
    """What a statement is judged by in one setup: treatment less ``baseline``, paired by seed, or the treatment alone
    where that is empty; with the seed that bears the statement out least.
    """

    setup: str
    baseline: str
    interval: Interval
    worst: Value


class Judgement(NamedTuple):
    """What is said of a statement: the word, why it is no other, and the numbers."""

    word: Word
    note: str
    arms: Sequence[Arm]
    comparisons: Sequence[Comparison]


Values = Mapping[tuple[str, str], Sequence[Value]]
"""The values of a statement by setup and arm, one a seed, the seeds in the same order everywhere."""


def judge(statement: Statement, setups: Sequence[str], values: Values) -> Judgement:
    """The word for a statement from the values of all its runs."""
    arms = [
        Arm(setup, arm, interval(numbers(values[setup, arm]), statement.bounds), values[setup, arm])
        for setup in setups
        for arm in statement.arms
    ]
    compared = compared_values(statement, setups, values)
    bounds = compared_bounds(statement)
    comparisons = [
        Comparison(*where, interval(numbers(each), bounds), worst(each, statement.room))
        for where, each in compared.items()
    ]
    strict = ALPHA / (len(compared) * statement.room.ends)
    together = {where: interval(numbers(each), bounds, strict) for where, each in compared.items()}
    excluding = [_named(*where, of) for where, of in together.items() if is_outside(of, statement.room)]
    found = [each.interval for each in comparisons]
    return Judgement(*_word(statement, found, excluding), arms, comparisons)


def _word(statement: Statement, found: Sequence[Interval], excluding: Sequence[str]) -> tuple[Word, str]:
    """The word and its note, from the intervals and from what excludes the statement."""
    small = all(is_inside(each, statement.negligible) for each in found)
    less = [f"by less than the margin of {statement.margin:g}"] if small else []
    if excluding:
        return "does not hold", "; ".join([*excluding, *less])
    if statement.better != "same" and all(is_inside(each, statement.room) for each in found):
        return "holds", "".join(less)
    if small:
        return "equivalent", ""
    unknown = any(isinf(each.low) and isinf(each.high) for each in found)
    return "inconclusive", "the seeds do not differ, and without bounds of the metric that says nothing" * unknown


def numbers(values: Sequence[Value]) -> list[float]:
    """The values without their seeds."""
    return [each.value for each in values]


def compared_values(
    statement: Statement, setups: Sequence[str], values: Values
) -> dict[tuple[str, str], Sequence[Value]]:
    """What a statement is judged by, by setup and baseline: differences by seed, or the treatment alone in a range."""
    return {
        (setup, baseline): differences(values[setup, statement.treatment], values[setup, baseline])
        if baseline
        else values[setup, statement.treatment]
        for setup in setups
        for baseline in statement.baselines or ("",)
    }


def differences(treatment: Sequence[Value], baseline: Sequence[Value]) -> list[Value]:
    """Treatment less baseline by seed. Raises ``ValueError`` where the seeds are not the same."""
    both = list(zip(treatment, baseline, strict=True))
    if any(one.seed != other.seed for one, other in both):
        raise ValueError("Values of different seeds are no pairs.")
    # beyond the twelfth decimal stands the noise of binary fractions, which would pass for a spread
    return [Value(one.seed, round(one.value - other.value, 12), one.censored or other.censored) for one, other in both]


def compared_bounds(statement: Statement) -> tuple[float, float] | None:
    """The least and the highest value that a comparison can have."""
    if statement.bounds is None or not statement.baselines:
        return statement.bounds
    width = statement.bounds[1] - statement.bounds[0]
    return -width, width


def worst(values: Sequence[Value], room: Room) -> Value:
    """The value that lies least within a room, or farthest outside."""
    return min(values, key=lambda each: min(each.value - room.low, room.high - each.value))


def is_inside(found: Interval, room: Room) -> bool:
    """Whether both bounds lie in a room."""
    return room.low <= found.low and found.high <= room.high


def is_outside(found: Interval, room: Room) -> bool:
    """Whether an interval has nothing in common with a room."""
    return found.high < room.low or found.low > room.high


def _named(setup: str, baseline: str, found: Interval) -> str:
    """What excludes a statement, in words."""
    what = f"less {baseline}" if baseline else "the mean"
    return f"{what} in {setup} is in [{found.low:.3g}, {found.high:.3g}] where all comparisons are bounded together"
