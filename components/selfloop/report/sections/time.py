"""``time``: how long the stages took, and what they held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from selfloop.html import moment
from selfloop.report.sections import RunHistory, Templated


class Time(Templated):
    """How long each stage took, over the run and by round, and the memory that it held."""

    name = "time"
    title = "Time"
    heading = "Time by stage"

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """Times by stage, of all rounds and of each."""
        by_round = {each["round"]: seconds_by_stage([each]) for each in run.moments}
        return {"times": times(run.moments), "times_by_round": by_round}


class StageTime(NamedTuple):
    """A stage over the whole run."""

    stage: str
    seconds: float
    share: float
    peak_bytes: int


def times(moments: Sequence[Mapping[str, Any]]) -> list[StageTime]:
    """Each stage's seconds over the run, its share of them all and its peak memory, in the order they first ran."""
    seconds, peak = seconds_by_stage(moments), Counter[str]()
    for entry in entries(moments):
        peak[entry["stage"]] = max(peak[entry["stage"]], entry["peak_bytes"])
    total = sum(seconds.values())
    return [StageTime(stage, spent, spent / total if total else 0.0, peak[stage]) for stage, spent in seconds.items()]


def seconds_by_stage(moments: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each stage over these rounds."""
    seconds: dict[str, float] = {}
    for entry in entries(moments):
        seconds[entry["stage"]] = seconds.get(entry["stage"], 0.0) + entry["seconds"]
    return seconds


def entries(moments: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The moments that were noted: an artifact that came from elsewhere, such as a policy of the user's, has none."""
    return (entry for moment in moments for entry in moment["stages"] if "stage" in entry)


def began(moments: Sequence[Mapping[str, Any]]) -> datetime | None:
    """When the first stage began."""
    first = min((entry["began"] for entry in entries(moments)), default=None)
    return None if first is None else moment(first)
