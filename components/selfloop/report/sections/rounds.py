"""``rounds``: what each round came to, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfloop.report.formats import Round, axis
from selfloop.report.sections import RunHistory, Templated


class Rounds(Templated):
    """What each round came to, in a line: verdict, gain, guards, numbers, precision and recall."""

    name = "rounds"
    title = "Rounds"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The rounds, the axis of their gains, and how informative their trainings were, where one tells."""
        targets = (suites["target"] for each in run.rounds if "target" in (suites := each["decision"]["suites"]))
        told = [informative(each) for each in run.rounds]
        return {
            "rounds": run.rounds,
            "target": axis(targets),
            "informative": told if any(share is not None for share in told) else [],
        }


def informative(round: Round) -> float | None:
    """The share of groups that had an advantage in the training of the first role, none where it was no such one."""
    share: float | None = round["roles"][0].get("informative") if round.get("roles") else None
    return share
