"""``audit``: how the verifier compares with the truth, where it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.report.formats import Round
from selfloop.report.sections import RunHistory, Templated

AUDITS_BY_DIFFICULTY = 10
"""The newest rounds whose label audit is shown by difficulty."""


class Audit(Templated):
    """The verdicts held against the truth: precision, recall and calibration, by difficulty."""

    name = "audit"
    title = "Label audit"
    look = "audit"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The audits of the rounds that have one."""
        return {"audits": audits(run.rounds)}

    @classmethod
    def filters(cls) -> tuple[Callable[..., Any], ...]:
        """The dots of a reliability chart."""
        return (reliability,)


class Audited(NamedTuple):
    """What a round's label audit found; ``strata`` only of the newest rounds."""

    round: int
    whole: Mapping[str, Any]
    strata: list[Mapping[str, Any]]
    bins: list[Mapping[str, Any]]
    notes: Mapping[str, int]


def audits(rounds: Sequence[Round]) -> list[Audited]:
    """The label audits of the rounds in which the truth of a rollout was known."""
    known = [(round["round"], round["audit"]) for round in rounds if round["audit"].get("rollouts")]
    newest = len(known) - AUDITS_BY_DIFFICULTY
    return [
        Audited(number, audit, audit["strata"] if place >= newest else [], audit["bins"], audit["notes"])
        for place, (number, audit) in enumerate(known)
    ]


def reliability(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The dots of a reliability chart: mean score and share that is right, in percent, and size by the rollouts."""
    most = max((each["rollouts"] for each in bins), default=1)
    return [
        {
            "x": round(100 * each["score"], 1),
            "y": round(100 * each["right"], 1),
            "s": round(0.375 + 0.75 * (each["rollouts"] / most) ** 0.5, 3),
        }
        for each in bins
    ]
