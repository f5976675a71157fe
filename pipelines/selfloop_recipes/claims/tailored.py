"""Lessons by failures against as many of every kind: eight kinds of tasks of three environments.

``accuracy`` is that of all kinds, ``worst`` that of the kind that is worst, ``spread`` how far the accuracies of kinds
lie apart (standard deviation): where failures choose what is taught, they should come together.

The base was chosen on seed 2, 2026-11-30: of the eight kinds it solves four nearly always, two .16 and .59 of the time
and two .03, and the first lessons take the fifth kind from .16 to .49. An earlier one, of 600 steps, solved three
always and five hardly ever (seed 1), and nothing moved.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from selfloop.claims import Claims, Statement

SHARE = (0.0, 1.0)
claims = Claims(
    arms={"tailored": {}, "evenly": {"tailor": {"by": "evenly"}}},
    settings={"gate": {"require": "nothing", "guards": []}},
    tuning=(1, 2),
    seeds=tuple(range(141, 151)),
    statements=(
        Statement("Lessons by failures teach more than as many of every kind.", "accuracy", "tailored", ("evenly",)),
        Statement("The worst kind gains.", "worst", "tailored", ("evenly",), bounds=SHARE),
        Statement("Failures spread less.", "spread", "tailored", ("evenly",), "lower", bounds=(0.0, 0.5)),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What the champion came to, by kind."""
    accuracy = list(measured["accuracy"].values())
    return {"accuracy": fmean(accuracy), "worst": min(accuracy), "spread": pstdev(accuracy)}
