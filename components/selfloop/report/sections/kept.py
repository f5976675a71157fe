"""``kept``: what became of the rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.report.formats import Round, by_level
from selfloop.report.sections import RunHistory, Templated

TONES = 5
"""Reasons of rejection that have a colour of their own; rarer ones share the last."""


class Kept(Templated):
    """What became of each round's rollouts: kept by level or rejected by reason, selector by selector."""

    name = "kept"
    title = "Kept and rejected"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The funnels, their reasons and what each selector did."""
        found = {"funnels": funnels(run.rounds), "reasons": reasons(run.rounds)}
        return found | {"selections": selections(run.rounds)}


class Part(NamedTuple):
    """A part of a round's rollouts; ``tone`` is 0 for what was kept, and tells reasons of rejection apart."""

    name: str
    number: int
    tone: int


class Funnel(NamedTuple):
    """What became of a round's rollouts, and of the examples that were found to be held-out items, by their source."""

    round: int
    rollouts: int
    kept: list[Part]
    rejected: list[Part]
    contaminated: dict[str, int]


def funnels(rounds: Sequence[Round]) -> list[Funnel]:
    """Kept by level and rejected by reason, a round each."""
    tones = reasons(rounds)
    return [
        Funnel(
            round["round"],
            round["rollouts"],
            [Part(f"level {level}", kept, 0) for level, kept in by_level(round["kept"]).items()],
            _rejected(round, tones),
            round["contaminated"],
        )
        for round in rounds
    ]


def _rejected(counts: Mapping[str, Any], tones: Mapping[str, int]) -> list[Part]:
    """What a round, or a step of its funnel, rejected, by reason."""
    found = counts["rejected"]
    return [Part(name, found[name], tone) for name, tone in tones.items() if name in found]


def reasons(rounds: Sequence[Round]) -> dict[str, int]:
    """The run's reasons of rejection, the most frequent first, each with its tone."""
    total = Counter[str]()
    for round in rounds:
        total.update(round["rejected"])
    ordered = sorted(total, key=lambda reason: (-total[reason], reason))
    return {reason: min(place, TONES) for place, reason in enumerate(ordered, 1)}


class Selection(NamedTuple):
    """What reached a selector, and what became of it; ``says`` is what the selector tells of itself."""

    selector: str
    reached: int
    kept: int
    rejected: list[Part]
    says: str


class Selected(NamedTuple):
    """A round's selectors, in their order, and why nothing was kept where that is so."""

    round: int
    rollouts: int
    selections: list[Selection]
    empty: str

    @property
    def kept(self) -> int:
        """The rollouts that passed all selectors."""
        return self.selections[-1].kept


def selections(rounds: Sequence[Round]) -> list[Selected]:
    """The funnels of the rounds that have one, a selector each step; a reason keeps its tone."""
    tones = reasons(rounds)
    return [
        Selected(
            round["round"],
            round["rollouts"],
            [
                Selection(
                    step["selector"],
                    step["in"],
                    step["kept"],
                    _rejected(step, tones),
                    step["says"],
                )
                for step in round["funnel"]
            ],
            round.get("empty", ""),
        )
        for round in rounds
        if round.get("funnel")
    ]
