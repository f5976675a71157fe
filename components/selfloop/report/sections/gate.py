"""``gate``: what candidate and champion were compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from selfloop.decision import CONFIRM, TARGET
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
        return target_first, scores, by_test, asked, spent


def target_first(suites: Mapping[str, Compared]) -> list[tuple[str, Compared]]:
    """The suites, the looks at the target before those that only must not get worse: JSON has them by their names."""
    looks = [TARGET, CONFIRM]
    return sorted(suites.items(), key=lambda named: looks.index(named[0]) if named[0] in looks else len(looks))


def spent(budget: Mapping[str, Any]) -> str:
    """What a round did with the loop's error budget, and what is left of it."""
    level = budget["level"]
    looks = "passed the first look" if budget["screened"] else "did not pass the first look"
    if level is not None:
        looks += f", {'confirmed' if budget['confirmed'] else 'not confirmed'} at the level {level:.2g}"
    elif budget["screened"]:
        looks += ", and no look can confirm any more"
    left = f"{budget['spent']:.2g} is spent and {budget['left']:.2g} left"
    return f"{looks}; of the error budget {budget['alpha']:g}, {left}"


def scores(compared: Compared) -> list[tuple[str, tuple[float, float]]]:
    """Champion's and candidate's pass@1, pass@2, ..., then maj@k."""
    names = sorted(compared["champion"], key=lambda name: (name.startswith("maj"), int(name.rpartition("@")[2])))
    return [(name, (compared["champion"][name], compared["candidate"][name])) for name in names]


def by_test(compared: Compared) -> str:
    """The test that a suite was put to, with its p-value where it has one."""
    test, p = {"mcnemar": "McNemar", "bootstrap": "bootstrap"}[compared["test"]], compared["p_value"]
    if p is None:
        return test
    return f"{test}, p = {p:.2g}" if p >= 0.0001 else f"{test}, p < 0.0001"


def asked(compared: Compared) -> str:
    """What the test had to come to."""
    if compared["level"] is not None:
        return f"p ≤ {compared['level']:.2g}"
    return f"≥ {signed(compared['bar'])}"
