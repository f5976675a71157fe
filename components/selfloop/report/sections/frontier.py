"""``frontier``: tasks that a policy proposed, by round: pure functions from what a band tells of a round to rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.html import number
from selfloop.report.formats import Round, by_level
from selfloop.report.sections import RunHistory, Templated

Counts = Mapping[str, Any]
"""What became of some tasks, and their mean rate: of a band, or of a level in it."""

FATES = {"kept": 0, "below": 4, "above": 2, "unanswered": 1, "capped": 3}
"""What becomes of a task, each with its tone."""
BY_LEVEL = 10
"""The newest rounds that are shown by level."""


class FrontierSection(Templated):
    """The tasks that a policy proposed: their rates, and what became of them."""

    name = "frontier"
    title = "Frontier"

    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """The proposals, and the band that is asked of them; nothing where no policy proposes."""
        found = frontier(run.rounds)
        return {"frontier": found, "asked": run.parameters.get("band_tasks", {})} if found else None


class Proposals(NamedTuple):
    """What was proposed in a round: level and rate are means over all of it, none where nothing was.

    ``fates`` has what is not zero, and ``kept``. ``bars`` are the shares of tasks in each bin of the rate, on a scale
    on which the highest of the run is 1. ``precision`` is that of the labels, none where no truth is known.
    """

    round: int
    tasks: int
    level: float | None
    rate: float | None
    fates: dict[str, int]
    histogram: Sequence[int]
    bars: list[float]
    precision: float | None
    by_level: dict[int, Counts]

    @property
    def spread(self) -> str:
        """The histogram in words."""
        ends = [f"{100 * place // len(self.histogram)}%" for place in range(len(self.histogram) + 1)]
        bins = zip(self.histogram, ends, ends[1:], strict=False)
        return ", ".join(f"{number(tasks)} from {low} to {high}" for tasks, low, high in bins if tasks)


class Frontier(NamedTuple):
    """All that is shown of the proposals; ``tones`` has the fates that some task met.

    The ``newest`` rounds with proposals are shown by level: of ``levels``, and there are ``older`` ones.
    """

    rows: list[Proposals]
    tones: dict[str, int]
    newest: list[Proposals]
    older: bool
    levels: list[int]


def frontier(rounds: Sequence[Round]) -> Frontier | None:
    """The proposals over the run, none where no round has any. A round whose tasks are of no band is left out."""
    banded = [round for round in rounds if round.get("band")]
    if not any(round["band"]["tasks"] for round in banded):
        return None
    highest = max(max(shares(round["band"])) for round in banded)
    rows = [proposals(round, highest) for round in banded]
    met = {name: tone for name, tone in FATES.items() if any(row.fates.get(name) for row in rows)}
    some = [row for row in rows if row.tasks]
    levels = sorted({level for row in some[-BY_LEVEL:] for level in row.by_level})
    return Frontier(rows, met, some[-BY_LEVEL:], len(some) > BY_LEVEL, levels)


def proposals(of_round: Round, highest: float) -> Proposals:
    """What a round tells, its bars by the highest share of the run."""
    band = of_round["band"]
    tasks = band["tasks"]
    return Proposals(
        of_round["round"],
        tasks,
        band["mean_level"] if tasks else None,
        band["mean_rate"] if tasks else None,
        {name: band[name] for name in FATES if tasks and (band[name] or name == "kept")},
        band["histogram"],
        [round(share / highest, 3) for share in shares(band)],
        of_round["audit"].get("precision"),
        by_level(band["levels"]),
    )


def shares(band: Counts) -> list[float]:
    """The share of the tasks in each bin of the rate; zeros where there are none."""
    return [tasks / max(band["tasks"], 1) for tasks in band["histogram"]]
