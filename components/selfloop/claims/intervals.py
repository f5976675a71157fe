"""Where a mean lies, from a handful of seeds: one-sided bounds, without Student's t where that would be wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

ALPHA = 0.05
"""How often one bound may be wrong."""
DEVIATIONS = 3.0
"""A mean within so many standard deviations of an end of the metric's range is bounded without Student's t."""


class Interval(NamedTuple):
    """A mean, and bounds of the true one: at least ``low``, at most ``high``, each right at one minus alpha."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float], bounds: tuple[float, float] | None = None, alpha: float = ALPHA) -> Interval:
    """The mean of values, one a seed, with a bound on either side.

    ``bounds`` are the least and the highest value that there can be, (0, 1) for a share. It is Student's t where values
    have a spread, else ``highest_mean``; and without ``bounds`` nothing is known then.
    """
    from scipy import stats

    mean, (least, most) = fmean(values), bounds or (-math.inf, math.inf)
    if has_spread(values, bounds):
        half = float(stats.t.ppf(1 - alpha, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
        return Interval(mean, max(mean - half, least), min(mean + half, most))
    if bounds is None:
        return Interval(mean, least, most)
    return Interval(mean, -highest_mean([-value for value in values], -least, alpha), highest_mean(values, most, alpha))


def has_spread(values: Sequence[float], bounds: tuple[float, float] | None = None) -> bool:
    """Whether Student's t bounds the mean of such values: they differ by more than floating point does, and neither end
    of ``bounds`` is near.
    """
    if len(values) < 2 or max(values) - min(values) <= 1e-9 * max(map(abs, values)):
        return False
    least, most = bounds or (-math.inf, math.inf)
    near = DEVIATIONS * stdev(values)
    return least + near <= fmean(values) <= most - near


def highest_mean(values: Sequence[float], most: float, alpha: float = ALPHA) -> float:
    """The upper bound of a mean that assumes nothing but that no value exceeds ``most`` (Gaffke's, 2005).

    The quantile of the mean of the values and ``most`` under random weights (uniform on the simplex), whose density is
    a B-spline with the values as knots (Curry and Schoenberg). Of zeros and ones it is Clopper and Pearson's bound;
    that it is right as often elsewhere is a conjecture without known counterexample (Learned-Miller and Thomas, 2019).
    It is for a handful of values; of hundreds ``paired.bounds`` draws the same.
    """
    from scipy.interpolate import BSpline
    from scipy.optimize import brentq

    knots = sorted([*values, most])
    least, width = knots[0], knots[-1] - knots[0]
    if not width:
        return most
    density = BSpline.basis_element([(knot - least) / width for knot in knots])
    area = 1 / len(values)  # of a B-spline over knots from 0 to 1
    short = 1 - 1e-9  # at the last knot itself, where several are one, BSpline.integrate is wrong
    quantile = brentq(lambda x: density.integrate(0, x) / area - (1 - alpha), 0, short, xtol=1e-12)
    return least + width * float(quantile)
