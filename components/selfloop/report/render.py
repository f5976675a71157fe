"""A run's history as one HTML document: its headline, and below it the report's sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop import html
from selfloop.html import Fact, figure, number
from selfloop.report.formats import Round, duration, percent
from selfloop.report.opening import opening
from selfloop.report.sections import SECTIONS, RunHistory, Section
from selfloop.report.sections.accuracy import frontiers
from selfloop.report.sections.time import began, times

if TYPE_CHECKING:
    from jinja2 import Template

NEWEST = 64
"""The rounds that a brief report shows one by one, and at most as many before these."""


class Shown(NamedTuple):
    """A section that has something to show."""

    id: str
    title: str
    heading: str
    look: str
    markup: str


def render(
    history: Mapping[str, Any],
    moments: Sequence[Mapping[str, Any]],
    measured: Mapping[str, Any] = {},
    champion: str = "",
) -> str:
    """The report: one self-contained HTML document, of the run's history and its moments.

    ``measured`` is what was measured of the last champion, on items that no decision of the loop was made on, and
    ``champion`` the folder that it lies in, where that is known.
    """
    rounds: list[Round] = history["rounds"]
    shown_rounds: list[Round] = history.get("shown", rounds)
    sections = shown(RunHistory(shown_rounds, moments, history["stages"]), history.get("sections", SECTIONS))
    return template().render(
        title=history["title"],
        opening=opening(history, moments, champion),
        rounds=rounds,
        shown=shown_rounds,
        facts=[
            *facts(rounds, moments),
            *(Fact(name.capitalize(), figure(value), "measured at the end") for name, value in measured.items()),
        ],
        sections=sections,
        titles={each.id: each.title for each in sections},
        began=began(moments),
    )


def brief(history: Mapping[str, Any]) -> dict[str, Any]:
    """A history of which the sections show no more than some rounds: the newest, and of those before every so many."""
    older, newest = history["rounds"][:-NEWEST], history["rounds"][-NEWEST:]
    return {**history, "shown": [*older[:: ceil(len(older) / NEWEST) or 1], *newest]}


def shown(run: RunHistory, spellings: Sequence[str]) -> list[Shown]:
    """The sections of a report, as they are spelt, that have something to show; none where no round has ended."""
    found = []
    for section in map(Section.parse, spellings) if run.rounds else ():
        if markup := section(run):
            found.append(Shown(section.label(), *section.names(), section.look, markup))
    return found


@cache
def template() -> Template:
    """The template beside this module."""
    return html.template("report/report.html.j2")


def facts(rounds: Sequence[Round], moments: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The run in a few numbers; the frontier only where the loop has one."""
    verdicts = Counter(round["decision"]["verdict"] for round in rounds)
    promoted = verdicts.pop("promoted", 0)
    others = ", ".join(f"{number(count)} {verdict}" for verdict, count in verdicts.items())
    rollouts = sum(round["rollouts"] for round in rounds)
    kept = sum(sum(round["kept"].values()) for round in rounds)
    audit = Counter[str]()
    for round in rounds:
        audit.update({name: round["audit"].get(name, 0) for name in ("true_positive", "false_positive")})
    true = audit["true_positive"]
    believed = true + audit["false_positive"]
    spent = times(moments)
    first, last = frontiers(rounds)[:1], frontiers(rounds)[-1:]
    moved = [Fact("Frontier", f"{first[0]} → {last[0]}", "level mastered")] if first != [None] else []
    return [
        Fact("Rounds", number(len(rounds)), f"{number(sum(round['tasks'] for round in rounds))} tasks"),
        *moved,
        Fact("Promoted", number(promoted), others or "none rejected"),
        Fact("Rollouts", number(rollouts), "drawn"),
        Fact("Kept", number(kept), f"{percent(kept / rollouts if rollouts else None)} of rollouts"),
        Fact(
            "Precision of kept",
            percent(true / believed if believed else None),
            f"of {number(believed)} believed",
        ),
        Fact("Time", duration(sum(row.seconds for row in spent)), "in all stages"),
    ]
