"""The schedule ``curve``: a loop ends when its learning curve says that little more is to come."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import Field

from selfloop.propose.fixed import Fixed
from selfloop.propose.schedule import Progress
from selfloop.records import ItemResult

SLOWEST, FASTEST = 0.05, 5.0
"""Exponents of the curves that are tried."""


class PowerLaw(NamedTuple):
    """``level - height * n ** -speed``: where a curve of accuracies goes to, how far below it begins, and how fast."""

    level: float
    height: float
    speed: float

    def __call__(self, round: float) -> float:
        """The accuracy after a round, counted from 1."""
        return self.level - self.height * float(round**-self.speed)


def fitted(accuracies: Sequence[float]) -> PowerLaw:
    """The power law nearest to the accuracies of rounds 1, 2, ... by least squares; flat where they do not rise."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    known, rounds = np.asarray(accuracies, float), np.arange(1, len(accuracies) + 1, dtype=float)

    def line(speed: float) -> tuple[float, float, float]:
        """The best level and height at a speed, and the sum of squares that is left."""
        shape = rounds**-speed
        apart = shape - shape.mean()
        height = max(-float(apart @ known / (apart @ apart)), 0.0)
        level = float(known.mean() + height * shape.mean())
        return level, height, float(((level - height * shape - known) ** 2).sum())

    tried = np.geomspace(SLOWEST, FASTEST, 60)
    best = int(np.argmin([line(speed)[2] for speed in tried]))
    around = (tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)])
    speed = float(minimize_scalar(lambda speed: line(speed)[2], bounds=around, method="bounded").x)
    return PowerLaw(*line(speed)[:2], speed)


class Curve(Fixed):
    """Tasks of the same levels each round, until a power law through the champion's accuracies promises little more.

    After Vilares Ferro et al., "Modeling of learning curves with applications to POS tagging" (arXiv:2402.02515), who
    extrapolate the accuracies on growing parts of a data set, and stop where little more can come.
    """

    name = "curve"
    worth: float = Field(0.01, gt=0, lt=1, description="Accuracy that the next rounds must promise.")
    ahead: int = Field(5, ge=1, description="Rounds whose gain together is predicted.")
    points: int = Field(4, ge=4, description="Rounds that a curve is drawn through at least.")

    def advance(self, state: Progress, results: Sequence[ItemResult], promoted: bool) -> tuple[dict[str, Any], bool]:
        """Note the champion's accuracy beside those before it; over when ``fixed`` is, or when little is promised."""
        after, proceed = super().advance(state, results, promoted)
        curve = list(state.get("curve", []))
        curve += [fmean(after["accuracy"].values())] if after["accuracy"] else []
        return after | {"curve": curve}, proceed and not self.is_flat(curve)

    def is_flat(self, accuracies: Sequence[float]) -> bool:
        """Whether the curve through the accuracies of all rounds promises too little."""
        if len(accuracies) < self.points:
            return False
        curve, now = fitted(accuracies), len(accuracies)
        return curve(now + self.ahead) - curve(now) < self.worth
