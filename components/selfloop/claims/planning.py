"""What the test seeds of a claim could see, from the spread of its tuning seeds, and what their runs would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import stdev
from typing import NamedTuple

from selfloop.claims.declared import Claims, Statement
from selfloop.claims.intervals import ALPHA, has_spread
from selfloop.claims.judging import Value, compared_bounds, compared_values, numbers
from selfloop.claims.measuring import Outcome, Run
from selfloop.claims.results import mean_seconds, values_of

POWER = 0.8
"""How often all comparisons of a statement together should show what is there."""
UNLUCKY = 0.2
"""How often the true spread may be larger than what the cautious plan assumes."""


class Prospect(NamedTuple):
    """What some number of seeds could see in one comparison of a statement.

    ``spread`` is the standard deviation between the tuning seeds, none where Student's t does not bound them. ``least``
    is the distance from the end of what the statement says that they show as often as ``POWER`` asks for; ``cautious``
    the same at the largest spread that the tuning seeds leave possible.
    """

    setup: str
    baseline: str
    seeds: int
    spread: float | None
    least: float | None = None
    cautious: float | None = None


def least_difference(deviation: float, seeds: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """The true mean that Student's one-sided test finds above 0 with this power, where seeds have this deviation."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    critical = t.ppf(1 - alpha, seeds - 1)
    far = 1.0
    while nct.cdf(critical, seeds - 1, far) > 1 - power:  # much farther than the root scipy's is no number
        far *= 2
    shift = brentq(lambda shift: nct.cdf(critical, seeds - 1, shift) - (1 - power), 0, far)
    return float(shift) * deviation / sqrt(seeds)


def largest_deviation(deviation: float, seeds: int) -> float:
    """The upper bound of a standard deviation that so many seeds showed; wrong as often as ``UNLUCKY``."""
    from scipy.stats import chi2

    return deviation * sqrt((seeds - 1) / float(chi2.ppf(UNLUCKY, seeds - 1)))


def prospects(claims: Claims, statement: Statement, outcomes: Mapping[Run, Outcome], seeds: int) -> list[Prospect]:
    """What so many test seeds could see in each comparison of a statement, from outcomes of the tuning seeds.

    All comparisons must show it, and what each may miss is shared between them.
    """
    setups = claims.setups_of(statement)
    values = {
        (setup, arm): values_of(statement, [Run(setup, arm, seed) for seed in claims.tuning], outcomes)
        for setup in setups
        for arm in statement.arms
    }
    known = set[int].intersection(*({each.seed for each in some} for some in values.values()))
    whole = {where: [each for each in some if each.seed in known] for where, some in values.items()}
    compared = compared_values(statement, setups, whole)
    power = 1 - (1 - POWER) / (len(compared) * statement.room.ends)
    return [_prospect(*where, some, compared_bounds(statement), seeds, power) for where, some in compared.items()]


def _prospect(
    setup: str, baseline: str, values: Sequence[Value], bounds: tuple[float, float] | None, seeds: int, power: float
) -> Prospect:
    if not has_spread(numbers(values), bounds):
        return Prospect(setup, baseline, len(values), None)
    deviation = stdev(numbers(values))
    cautious = largest_deviation(deviation, len(values))
    least = [least_difference(each, seeds, power) for each in (deviation, cautious)]
    return Prospect(setup, baseline, len(values), deviation, *least)


def seconds_of(runs: Sequence[Run], outcomes: Mapping[Run, Outcome]) -> float | None:
    """The seconds that runs take one after the other, each as its arm's tuning runs did; none where none ended."""
    took = [mean_seconds(outcomes, run.setup, run.arm) for run in runs]
    return None if None in took else sum(each for each in took if each is not None)
