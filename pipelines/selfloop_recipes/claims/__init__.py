"""What each recipe's paper claims and how it is measured, one file a recipe; the results stand beside as JSON.

Here are the figures that several of them read of a run's rounds.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any


def gained(rounds: Sequence[Mapping[str, Any]]) -> float:
    """By how much the last candidate is better on held-out items than what the loop began with, as a mean of levels."""
    first, last = rounds[0]["accuracy"]["champion"], rounds[-1]["accuracy"]["candidate"]
    return fmean(last.values()) - fmean(first.values())


def informative(rounds: Sequence[Mapping[str, Any]]) -> float:
    """The mean share of groups that had an advantage, over the rounds in which the first role was reinforced."""
    told = [share for round in rounds if (share := round["roles"][0]["informative"]) is not None]
    return fmean(told) if told else nan
