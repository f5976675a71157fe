"""``guards``: what was watched, and what was beyond a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.report.formats import Round
from selfloop.report.sections import RunHistory, Templated


class Guards(Templated):
    """What each guard measured, and the readings beyond a line."""

    name = "guards"
    title = "Guards"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The guards, and those that warned."""
        return {"rounds": run.rounds, "guards": watched(run.rounds), "warned": warned(run.rounds)}


class Watched(NamedTuple):
    """A guard over the run: its lines as it had them last, and its alarm of each round, none where it did not watch."""

    name: str
    warn: str
    halt: str
    alarms: list[Mapping[str, Any] | None]


def watched(rounds: Sequence[Round]) -> list[Watched]:
    """Every guard that watched in some round, in the order in which they came."""
    found: dict[str, Mapping[str, Any]] = {}
    for round in rounds:
        found.update(round["decision"]["guards"])
    return [
        Watched(name, line(alarm, "warn"), line(alarm, "halt"), [r["decision"]["guards"].get(name) for r in rounds])
        for name, alarm in found.items()
    ]


def line(alarm: Mapping[str, Any], name: str) -> str:
    """A guard's line, with the side of it that is bad; where both lines are the same it cannot be told."""
    side = "≥ " if alarm["halt"] > alarm["warn"] else "≤ " if alarm["halt"] < alarm["warn"] else ""
    return f"{side}{alarm[name]:g}".replace("-", "−")


class Warned(NamedTuple):
    """A guard's readings that were yellow or red, by round, and where a person sees more."""

    guard: str
    look: str
    alarms: dict[int, Mapping[str, Any]]


def warned(rounds: Sequence[Round]) -> list[Warned]:
    """The guards with a reading beyond a line, in the order in which they first warned."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for round in rounds:
        for name, alarm in round["decision"]["guards"].items():
            if alarm["level"] != "green":
                found.setdefault(name, {})[round["round"]] = alarm
    return [Warned(name, next(reversed(alarms.values()))["look"], alarms) for name, alarms in found.items()]
