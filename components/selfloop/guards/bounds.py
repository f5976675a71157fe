"""What every guard is: a one-sided test of a mean against a limit, which remembers over rounds.

Units are independent, and each lies between the best value that it can have and the worst. What is bet on a mean beyond
the limit is expected to lose wherever the mean is not beyond it (Waudby-Smith and Ramdas, arXiv:2010.09686), whatever
the distribution; the mean may be another in each round. A part of the money, 1 / (k (k + 1)), is put in at the k-th
round, and all of it stays in to the end: so a fault that begins late is found, what one round shows too weakly adds up,
and the money is 1/alpha times what it was with a probability of at most alpha, in all rounds together (Ville's
inequality; the bets are those of an e-detector, Shin, Ramdas and Rinaldo, arXiv:2203.03532, with a prior over its
beginnings).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Column = np.ndarray[Any, Any]
else:
    Column = Any

BETS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 31 / 32)
"""Shares of the money that are bet on each unit, an eighth of it each."""
SOON = 5
"""Rounds within which what can be shown at all should be."""
DIGITS = 6
GRID, PASSES = 34, 3
"""Limits that a bound is sought among, and how often between two of those."""


class Measured(NamedTuple):
    """The limit that a mean must not be beyond, the best and the worst value that a unit can have, and the units."""

    limit: float
    best: float
    worst: float
    units: Any = ()

    def of(self, units: Column, limit: float | None = None) -> Measured:
        """The same of these units, and against another limit where one is given."""
        return Measured(self.limit if limit is None else limit, self.best, self.worst, units)

    @property
    def is_sure(self) -> bool:
        """Whether no mean is on the good side of the limit."""
        return (self.limit - self.best) * (self.worst - self.best) <= 0


def share(number: int) -> float:
    """The part of a budget that the first, second, third ... has, without an end: 1/2, 1/6, 1/12 ..."""
    return 1 / (number * (number + 1))


def log_gains(measured: Measured) -> Column:
    """The logarithm of what each bet came to: (bets,). Infinite where no mean is on the good side of the limit."""
    import numpy as np

    if measured.is_sure:
        return np.full(len(BETS), np.inf)
    return _log_gains(*_counted(measured.units), measured.limit, measured.best)


def _counted(units: Column) -> tuple[Column, Column]:
    import numpy as np

    return np.unique(np.round(units, DIGITS), return_counts=True)


def _log_gains(values: Column, times: Column, limit: float | Column, best: float) -> Column:
    import numpy as np

    beyond = np.maximum((values - limit) / (limit - best), -1.0)
    return np.log1p(np.multiply.outer(BETS, beyond)) @ times


def bet_on(ways: Sequence[Measured], before: Sequence[float], look: int, most: float) -> list[float]:
    """What the money comes to by bets, in logarithms: after as much on each of these ways to be beyond a limit.

    ``before`` is what it was before this look: nothing at the first one, and where the units are those of all rounds,
    which are bet on anew in each. ``most`` is all that is kept of a bet.
    """
    import numpy as np

    come_to = np.logaddexp.reduce([log_gains(each) for each in ways]) - math.log(len(ways))
    put_in = math.log(share(look) / len(BETS))
    after = np.logaddexp(before, put_in) if len(before) else np.full(len(BETS), put_in)
    return [round(float(each), DIGITS) for each in np.minimum(after + come_to, most)]


def in_all(wealth: Iterable[float]) -> float:
    """The logarithm of all the money."""
    found = [float(each) for each in wealth]
    most = max(found)
    return most if math.isinf(most) else most + math.log(sum(math.exp(each - most) for each in found))


def at_least(units: Column, low: float, level: float) -> float:
    """A lower bound of the mean of units that are ``low`` at least; it is wrong with a probability of ``level``.

    The largest limit that one round of the bets above shows the mean to be beyond.
    """
    import numpy as np

    if not len(units) or units.mean() - low < 10**-DIGITS:
        return low
    (values, times), asked = _counted(units), math.log(len(BETS) / level)
    outside, inside = low, float(units.mean())
    for _ in range(PASSES):
        limits = np.linspace(outside, inside, GRID)
        come_to = _log_gains(values, times, limits[1:-1, None], low)
        shown = int((np.logaddexp.reduce(come_to) >= asked).sum())  # of the lower limits, as many
        outside, inside = float(limits[shown]), float(limits[shown + 1])
    return round(outside, DIGITS)


def at_most(units: Column, high: float, level: float) -> float:
    """The same from above, of units that are ``high`` at most."""
    return -at_least(-units, -high, level)


def fewest(measured: Measured, alpha: float, rounds: int = SOON) -> float:
    """The units a round with which a loop that is half as bad as can be is halted within so many rounds: whose mean
    lies half way between the limit and the worst, of units that are the best or the worst. Infinite where even the
    worst is not beyond the limit.

    What the best of the bets is expected to come to then is what is asked for: so many halt about every other loop.
    """
    if measured.is_sure:
        return 1
    beyond = (measured.worst - measured.limit) / (measured.limit - measured.best)
    if beyond < 0.001:
        return math.inf
    bad = (beyond / 2 + 1) / (beyond + 1)
    growth = max(bad * math.log1p(bet * beyond) + (1 - bad) * math.log1p(-bet) for bet in BETS)
    return math.ceil(math.log(len(BETS) / share(1) / alpha) / rounds / growth)


def noted(units: Column) -> dict[str, int]:
    """Units as JSON: how often each value occurs."""
    import numpy as np

    values, times = np.unique(np.round(units, DIGITS), return_counts=True)
    return {f"{value:g}": int(number) for value, number in zip(values, times, strict=True)}


def units_of(*notes: Mapping[str, int]) -> Column:
    """The units of what was noted."""
    import numpy as np

    values = [float(value) for note in notes for value in note]
    return np.repeat(values, [number for note in notes for number in note.values()])


class Drift(NamedTuple):
    """Candidate less champion in this round and in all rounds whose candidate was promoted: units, and rounds."""

    units: Column
    rounds: int

    @classmethod
    def of(cls, units: Column, promoted: Sequence[Mapping[str, int]]) -> Drift:
        """The units of this round, and those that were noted."""
        import numpy as np

        return cls(np.concatenate([units, units_of(*promoted)]), 1 + len(promoted))

    @property
    def value(self) -> float:
        """What all rounds together came to, where they had as many units each."""
        return self.rounds * float(self.units.mean())

    def beyond(self, line: Measured) -> Measured:
        """The evidence that they came to more than a line in all."""
        return line.of(self.units, line.limit / self.rounds)


def by_unit(names: Iterable[str], values: Sequence[Any] | Column) -> Column:
    """The mean value of each unit, in the order in which they come."""
    import numpy as np

    places: dict[str, int] = {}
    place = np.array([places.setdefault(name, len(places)) for name in names], int)
    return np.bincount(place, np.asarray(values, float)) / np.maximum(np.bincount(place), 1)
