"""``accuracy``: how much of each level the policies in force answered right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.report.formats import Round, by_level
from selfloop.report.sections import RunHistory, Templated

NUMBERED_LEVELS = 40
"""With more levels than these, the heatmap's cells are too thin for a number."""


class Accuracy(Templated):
    """The accuracy of the policy in force at each level, round by round."""

    name = "accuracy"
    title = "Accuracy"
    heading = "Accuracy by level over rounds"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The heatmap."""
        return {"heatmap": heatmap(run.rounds)}


def frontiers(rounds: Sequence[Round]) -> list[int | None]:
    """The highest level mastered, at the start and after each round; none where the loop's state has no frontier.

    The target suite of the first round begins one level beyond the frontier that the run started from.
    """
    ends = [round["state"].get("progress", {}).get("frontier") for round in rounds]
    targets = rounds[0]["suites"].get("target") if rounds else None
    return [min(targets) - 1 if targets and ends[0] is not None else None, *ends]


class Cell(NamedTuple):
    """The accuracy at a level, none where it was not evaluated, and whether the frontier is here."""

    level: int
    accuracy: float | None
    frontier: bool


class Line(NamedTuple):
    """The policy in force after a round, or the one that the run started from, and what became of the candidate."""

    name: str
    verdict: str
    cells: list[Cell]


class Heatmap(NamedTuple):
    """Accuracy by level, a line for each policy in force."""

    levels: list[int]
    lines: list[Line]

    @property
    def numbered(self) -> bool:
        """Whether cells are wide enough for a number."""
        return len(self.levels) <= NUMBERED_LEVELS


def heatmap(rounds: Sequence[Round]) -> Heatmap:
    """The base policy, then after each round the candidate where it was promoted, else the champion."""
    found: list[tuple[str, str, dict[int, float]]] = []
    if rounds:
        found.append(("base", "start", by_level(rounds[0]["accuracy"]["champion"])))
    for round in rounds:
        accuracy = round["accuracy"]["candidate" if round["decision"]["promoted"] else "champion"]
        found.append((str(round["round"]), round["decision"]["verdict"], by_level(accuracy)))
    levels = sorted({level for _, _, accuracy in found for level in accuracy})
    lines = [
        Line(name, verdict, [Cell(level, accuracy.get(level), level == frontier) for level in levels])
        for (name, verdict, accuracy), frontier in zip(found, frontiers(rounds), strict=False)
    ]
    return Heatmap(levels, lines)
