"""From the values of runs to one word: paired by seed, Student's t, Bonferroni over the comparisons of a statement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from selfloop.claims.declared import Statement

Word = Literal["holds", "does not hold", "inconclusive"]
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean, and the interval of the true one at some confidence."""

    mean: float
    low: float
    high: float


class Value(NamedTuple):
    """A statement's metric in one run; ``censored`` where the run never came to one and ``missing`` stands for it."""

    seed: int
    value: float
    censored: bool = False


class Arm(NamedTuple):
    """What a statement's metric was in the runs of one arm in one setup, with the interval of their mean at 95 %."""

    setup: str
    arm: str
    interval: Interval
    values: Sequence[Value]


class Difference(NamedTuple):
    """Treatment less baseline in one setup, paired by seed, with its interval at the corrected confidence."""

    setup: str
    baseline: str
    interval: Interval


class Judgement(NamedTuple):
    """What is said of a statement: the word, why it is no other, and the numbers."""

    word: Word
    note: str
    arms: Sequence[Arm]
    differences: Sequence[Difference]


Values = Mapping[tuple[str, str], Sequence[Value]]
"""The values of a statement by setup and arm, one a seed, the seeds in the same order everywhere."""


def judge(statement: Statement, setups: Sequence[str], values: Values) -> Judgement:
    """The word for a statement at 95 % for all its comparisons together.

    It *holds* where every corrected interval lies on the good side, *does not hold* where one lies wholly on the other.
    """
    arms = [
        Arm(setup, arm, interval([each.value for each in values[setup, arm]]), values[setup, arm])
        for setup in setups
        for arm in statement.arms
    ]
    if statement.within:
        confidence = corrected(len(setups))
        low, high = statement.within
        means = [interval([each.value for each in values[setup, statement.treatment]], confidence) for setup in setups]
        good = [low <= mean.low and mean.high <= high for mean in means]
        bad = [mean.high < low or mean.low > high for mean in means]
        return Judgement(_word(good, bad), "", arms, [])
    confidence = corrected(len(setups) * len(statement.baselines))
    differences = [
        Difference(setup, baseline, paired(values[setup, statement.treatment], values[setup, baseline], confidence))
        for setup in setups
        for baseline in statement.baselines
    ]
    sign = 1 if statement.better == "higher" else -1
    sides = [sorted((sign * each.interval.low, sign * each.interval.high)) for each in differences]
    word = _word([low > 0 for low, _ in sides], [high < 0 for _, high in sides])
    return Judgement(word, "", arms, differences)


def corrected(comparisons: int) -> float:
    """The confidence of each of several intervals that gives 95 % to all of them together (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / comparisons


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of values with its interval (Student's t); a point where they are all the same, all numbers for one."""
    from scipy import stats

    mean = fmean(values)
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    if len(set(values)) == 1:
        return Interval(values[0], values[0], values[0])
    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Interval(mean, float(low), float(high))


def paired(treatment: Sequence[Value], baseline: Sequence[Value], confidence: float = CONFIDENCE) -> Interval:
    """The mean of the differences by seed with its interval. Raises ``ValueError`` where the seeds are not the same."""
    both = list(zip(treatment, baseline, strict=True))
    if any(one.seed != other.seed for one, other in both):
        raise ValueError("Values of different seeds are no pairs.")
    return interval([one.value - other.value for one, other in both], confidence)


def _word(good: Sequence[bool], bad: Sequence[bool]) -> Word:
    if any(bad):
        return "does not hold"
    return "holds" if all(good) else "inconclusive"
