"""``gate``: what candidate and champion were compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from selfloop.report.formats import Compared, axis, signed
from selfloop.report.sections import RunHistory, Templated


class Gate(Templated):
    """The gate's decision of each round, suite by suite, and its reason."""

    name = "gate"
    title = "The gate"
    look = "gate"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The rounds, and the axis of the gains of all suites."""
        suites = (suite for each in run.rounds for suite in each["decision"]["suites"].values())
        return {"rounds": run.rounds, "suites": axis(suites)}

    @classmethod
    def filters(cls) -> tuple[Callable[..., Any], ...]:
        """How suites and tests read."""
        return target_first, scores, by_test, asked


def target_first(suites: Mapping[str, Compared]) -> list[tuple[str, Compared]]:
    """The suites, the target before those that only must not get worse: JSON has them in the order of their names."""
    return sorted(suites.items(), key=lambda named: named[0] != "target")


def scores(compared: Compared) -> list[tuple[str, tuple[float, float]]]:
    """Champion's and candidate's pass@1, pass@2, ..., then maj@k."""
    names = sorted(compared["champion"], key=lambda name: (name.startswith("maj"), int(name.rpartition("@")[2])))
    return [(name, (compared["champion"][name], compared["candidate"][name])) for name in names]


def by_test(compared: Compared) -> str:
    """The test that a suite was put to, with its p-value where it has one."""
    p = compared["p_value"]
    if p is None:
        return "bootstrap"
    return f"McNemar, p = {p:.2g}" if p >= 0.0001 else "McNemar, p < 0.0001"


def asked(compared: Compared, confidence: float) -> str:
    """What the test had to come to."""
    if compared["p_value"] is not None:
        return f"p ≤ {1 - confidence:.2g}"
    return f"≥ {signed(compared['bar'])}"
