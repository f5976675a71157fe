"""``arms``: a curriculum over arms as two charts: pure functions from the courses of a run's rounds to paths and rows.

A course is what ``selfloop.propose.arms`` remembers of a round: of every step, or of evenly many in a long round, the
mass that each level was drawn with and the pass rate that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from selfloop.report.formats import Round
from selfloop.report.sections import RunHistory, Templated

Values = Mapping[int, float]

COLUMNS = 120
"""The steps of the whole run are shown as this many columns at most, each the mean of its steps."""
MARKED = 10
"""Rounds that are marked at the axis, at most."""


class Arms(Templated):
    """Which levels a curriculum over arms drew, and how the policy did on them."""

    name = "arms"
    title = "Arms"
    look = "arms"

    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """The charts; nothing where no curriculum has arms."""
        found = curriculum(run.rounds)
        return {"arms": found} if found else None


class Column(NamedTuple):
    """Some steps in a row, by level: their mean mass, and their mean pass rate where the level was drawn."""

    mass: Values
    rate: Values


class Curve(NamedTuple):
    """A level as paths in a square of 100: the outline of its mass in the stack, and its pass rate.

    ``lines`` joins columns that are neighbours, ``dots`` are those without one, and ``gaps`` goes through them all.
    ``shade`` is the level's place among all, from 0 to 1; ``first`` and ``last`` are its mass at both ends.
    """

    level: int
    shade: float
    area: str
    lines: str
    dots: str
    gaps: str
    first: float
    last: float


class Mark(NamedTuple):
    """Where a round begins, in percent of all steps."""

    at: float
    round: int


class Row(NamedTuple):
    """A round: the mean of its steps."""

    round: int
    strategy: str
    mean: Column


class Curriculum(NamedTuple):
    """All that is shown of the arms."""

    steps: int
    curves: list[Curve]
    marks: list[Mark]
    rows: list[Row]


def curriculum(rounds: Sequence[Round]) -> Curriculum | None:
    """The arms over the run, none where no round's state has any. Steps are counted on from round to round."""
    of_arms = [(round, arms) for round in rounds for arms in remembered(round) if arms.get("course")]
    if not of_arms:
        return None
    courses = [arms["course"] for _, arms in of_arms]
    lengths = [course[-1]["step"] - course[0]["step"] + 1 for course in courses]
    begins = [sum(lengths[:number]) for number in range(len(lengths))]
    steps = sum(lengths)
    placed = [
        ((begin + point["step"] - course[0]["step"]) / steps, point)
        for begin, course in zip(begins, courses, strict=True)
        for point in course
    ]
    columns = in_columns(placed, min(steps, COLUMNS))
    every = -(-len(of_arms) // MARKED)
    return Curriculum(
        steps,
        curves(columns),
        [Mark(short(100 * begin / steps), round["round"]) for (round, _), begin in zip(of_arms, begins, strict=True)][
            ::every
        ],
        [Row(round["round"], arms["strategy"], mean(arms["course"])) for round, arms in of_arms],
    )


def remembered(round: Round) -> list[Mapping[str, Any]]:
    """What the curricula of a round's trainings remember."""
    states = [kept for kept in round["state"].values() if isinstance(kept, Mapping)]
    return [kept["curriculum"] for kept in states if "curriculum" in kept]


def in_columns(placed: Sequence[tuple[float, Mapping[str, Any]]], number: int) -> list[Column]:
    """Points by their place in [0, 1) as columns of equal width; one without a point is as the one before it."""
    held: list[list[Mapping[str, Any]]] = [[] for _ in range(number)]
    for place, point in placed:
        held[int(place * number + 1e-9)].append(point)
    columns: list[Column] = []
    for points in held:
        columns.append(mean(points) if points else columns[-1])
    return columns


def mean(points: Sequence[Mapping[str, Any]]) -> Column:
    """The mean of points, a level each; of the pass rate only over those that drew the level."""
    levels = sorted({int(level) for point in points for level in point["mass"]})
    rates = {level: [found for p in points if (found := p["rate"].get(str(level))) is not None] for level in levels}
    return Column(
        {level: fmean(point["mass"].get(str(level), 0.0) for point in points) for level in levels},
        {level: fmean(found) for level, found in rates.items() if found},
    )


def curves(columns: Sequence[Column]) -> list[Curve]:
    """Each level's area, stacked on those of the levels below it, and its pass rate."""
    levels = sorted({level for column in columns for level in column.mass})
    floors, made = [0.0] * len(columns), list[Curve]()
    for place, level in enumerate(levels):
        mass = [column.mass.get(level, 0.0) for column in columns]
        tops = [floor + share for floor, share in zip(floors, mass, strict=True)]
        shade = short(place / max(len(levels) - 1, 1))
        rates = [column.rate.get(level) for column in columns]
        made.append(Curve(level, shade, area(floors, tops), *rate_paths(rates), mass[0], mass[-1]))
        floors = tops
    return made


def area(floors: Sequence[float], tops: Sequence[float]) -> str:
    """The outline between two flights of stairs, a tread for each column."""
    width = 100 / len(tops)
    there = [f"V{up(top)}H{short((place + 1) * width)}" for place, top in enumerate(tops)]
    back = [f"V{up(floor)}H{short(place * width)}" for place, floor in reversed(list(enumerate(floors)))]
    return f"M0 {up(floors[0])}{''.join(there)}{''.join(back)}Z"


def rate_paths(rates: Sequence[float | None]) -> tuple[str, str, str]:
    """Lines between neighbours, dots without one, and a line through all, in the middles of the columns."""
    width = 100 / len(rates)
    runs: list[list[str]] = [[]]
    for place, rate in enumerate(rates):
        if rate is not None:
            runs[-1].append(f"{short((place + 0.5) * width)} {up(rate)}")
        elif runs[-1]:
            runs.append([])
    lines = "".join("M" + "L".join(run) for run in runs if len(run) > 1)
    dots = "".join(f"M{run[0]}h0" for run in runs if len(run) == 1)
    every = [dot for run in runs for dot in run]
    return lines, dots, "M" + "L".join(every) if len(every) > 1 else ""


def up(share: float) -> float:
    """The height of a share in a square of 100 whose zero is above."""
    return short(100 - 100 * share)


def short(value: float) -> float:
    """A number with two digits, and no sign where it is zero."""
    return round(value, 2) + 0.0
