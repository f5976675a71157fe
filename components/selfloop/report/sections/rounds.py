"""``rounds``: what each round came to, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfloop.report.formats import axis
from selfloop.report.sections import RunHistory, Templated


class Rounds(Templated):
    """What each round came to, in a line: verdict, gain, guards, numbers, precision and recall."""

    name = "rounds"
    title = "Rounds"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The rounds, and the axis of their gains."""
        targets = (suites["target"] for each in run.rounds if "target" in (suites := each["decision"]["suites"]))
        return {"rounds": run.rounds, "target": axis(targets)}
