"""``anchor``: how far candidates were from the anchor on the suites of old skills, as a chart each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.decision import ANCHOR, CONFIRM, TARGET
from selfloop.report.formats import Axis, Compared, Round, axis, by_level
from selfloop.report.sections import RunHistory, Templated

MARKED = 10
"""Rounds that are marked at the axis, at most."""
ROOM, APART = 3, 10
"""How many times what may be lost a chart goes up to; percent of its height that numbers at its side keep apart."""


class Anchor(Templated):
    """The distance from the anchor over the rounds, with its bound and what may be lost."""

    name = "anchor"
    title = "Distance from the anchor"
    look = "anchor"

    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """A chart for each suite, and the levels of the last round; nothing where there is no such suite."""
        found = anchored(run.rounds)
        if not found:
            return None
        return {"drifts": [drift(suite, points) for suite, points in found.items()], "levels": last_levels(found)}


class Point(NamedTuple):
    """A round's candidate on a suite."""

    round: int
    compared: Compared


class Mark(NamedTuple):
    """What stands at an axis, at a place in percent."""

    at: float
    says: str


class Drift(NamedTuple):
    """A suite as paths in a square of 100: the gains over the rounds, a line from each down to its lower bound, and the
    dots of those that passed and that did not. ``bar`` and ``zero`` are heights from above.
    """

    suite: str
    round: int
    last: Compared
    line: str
    bounds: str
    passed: str
    failed: str
    bar: float
    zero: float
    heights: list[Mark]
    rounds: list[Mark]


class Level(NamedTuple):
    """A level of a suite in a round."""

    suite: str
    round: int
    level: int
    compared: Compared


def anchored(rounds: Sequence[Round]) -> dict[str, list[Point]]:
    """What was measured against the anchor, by suite; until a candidate is promoted the champion itself is the anchor.

    Where the first look did not pass, the anchor was not asked.
    """
    found: dict[str, list[Point]] = {}
    was_promoted = False
    for each in rounds:
        for suite, compared in each["decision"]["suites"].items():
            is_guard = suite not in (TARGET, CONFIRM)
            if is_guard and (compared.get("against") == ANCHOR or not was_promoted):
                found.setdefault(suite, []).append(Point(each["round"], compared))
        was_promoted = was_promoted or each["decision"]["promoted"]
    return found


def drift(suite: str, points: Sequence[Point]) -> Drift:
    """The chart of a suite."""
    bar = points[-1].compared["bar"]
    heights = window(points)
    first, last = points[0].round, points[-1].round
    placed = [
        (round(100 * (point.round - first + 0.5) / (last - first + 1), 2), up(heights, point.compared["gain"]), point)
        for point in points
    ]
    dots = {
        passed: "".join(f"M{x} {y}h0" for x, y, point in placed if point.compared["passed"] is passed)
        for passed in (True, False)
    }
    every = -(-len(placed) // MARKED)
    return Drift(
        suite,
        last,
        points[-1].compared,
        "M" + "L".join(f"{x} {y}" for x, y, _ in placed),
        "".join(f"M{x} {y}V{up(heights, point.compared['lower'])}" for x, y, point in placed),
        dots[True],
        dots[False],
        up(heights, bar),
        up(heights, 0.0),
        ticks(heights, bar),
        [Mark(x, str(point.round)) for x, _, point in placed][::every],
    )


def window(points: Sequence[Point]) -> Axis:
    """The distances that a chart spans: all losses, and of the gains no more than some times what may be lost, so that
    what matters is not pressed flat by a loop that learns.
    """
    whole, bar = axis(point.compared for point in points), points[-1].compared["bar"]
    return Axis(whole.low, min(whole.high, ROOM * -bar) if bar else whole.high)


def ticks(heights: Axis, bar: float) -> list[Mark]:
    """What stands at the side of a chart: zero, what may be lost, and the ends that have room beside these."""
    marks = [Mark(heights.at(0.0), "0")]
    for gain in (bar, heights.high, heights.low):
        if all(abs(heights.at(gain) - mark.at) >= APART for mark in marks):
            marks.append(Mark(heights.at(gain), f"{gain:+.2f}".replace("-", "−")))
    return marks


def up(heights: Axis, gain: float) -> float:
    """The height of a gain in a square of 100 whose zero is above; of one beyond it, that of its top."""
    return round(100 - heights.at(min(gain, heights.high)), 2)


def last_levels(found: Mapping[str, Sequence[Point]]) -> list[Level]:
    """The levels of each suite in the last round that has some."""
    return [
        Level(suite, points[-1].round, level, compared)
        for suite, points in found.items()
        for level, compared in by_level(points[-1].compared.get("by_level", {})).items()
    ]
