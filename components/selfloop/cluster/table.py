"""What a person sees of a run on a cluster: a row a round, a column a stage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from selfloop.cluster.runs import Progress, StageStatus
from selfloop.display import duration

MARKS = {
    "SUCCEEDED": ("✓", "green"),
    "RUNNING": ("▶", "bold cyan"),
    "PENDING": ("◌", "yellow"),
    "PAUSED": ("◌", "yellow"),
    "FAILED": ("✗", "red"),
    "CANCELING": ("■", "yellow"),
    "CANCELED": ("■", "dim"),
    "SKIPPED": ("–", "dim"),
    "": ("·", "dim"),
}
"""Of the states that KFP knows; a stage that has not begun has none."""
UNKNOWN = ("–", "dim")
LEGEND = "✓ done  ▶ at work  ◌ waits for its pod  ✗ failed  – skipped  · to come"
BEFORE = {-1: "run", 0: "start"}
"""Rows that are no rounds: what is done once for the run, and what the first round begins with."""


def table_of(progress: Progress, console: Console, now: datetime | None = None, most: int = 1000) -> RenderableType:
    """The rounds of a run, ``most`` of them: a column a stage where there is room for it, otherwise a mark a stage."""
    now = now or datetime.now(UTC)
    rounds = _rounds(progress.statuses)
    left_out = {"SKIPPED", ""} if progress.has_ended else {"SKIPPED"}
    begun = {n: statuses for n, statuses in rounds.items() if {status.state for status in statuses} - left_out}
    unknown = [n for n in rounds.keys() - begun.keys() if any(not status.state for status in rounds[n])]
    shown = _near_the_work(begun, most)
    stages = _order(shown)
    table = _wide(shown, stages, now, progress.before)
    lines: list[RenderableType] = [_head(progress, now)]
    if progress.before:
        lines.append(Text(f"{progress.before} rounds in the runs before; KFP's UI counts those of each from 1", "dim"))
    if table.__rich_measure__(console, console.options).minimum <= console.width:
        lines += [*_before(shown, now), table]
    else:
        lines += [_narrow(shown, now, progress.before), Text(f"stages: {', '.join(stages)}", "dim")]
    counts = {
        "not shown": len(begun) - len(shown),
        "not needed" if progress.state == "SUCCEEDED" else "not begun": len(rounds) - len(begun) - len(unknown),
        "of which KFP tells nothing: set KUBECONFIG or MLFLOW_TRACKING_URI, and look again": len(unknown),
    }
    for what, count in counts.items():
        if count:
            lines.append(Text(f"{count} round{'s' * (count != 1)} {what}", "dim"))
    if progress.trouble:
        lines.append(Text(progress.trouble, "yellow"))
    if not progress.has_ended:
        lines.append(Text(LEGEND, "dim"))
    return Group(*lines)


def status_line(status: StageStatus, before: int = 0) -> str:
    """A stage that has ended, in a line of a log; so many rounds came before those of its run."""
    seconds = status.seconds(datetime.now(UTC))
    took = "" if seconds is None else f", {duration(seconds)}"
    return f"{status.task.after(before).title}: {status.state.lower()}{took}"


def _head(progress: Progress, now: datetime) -> Text:
    took = ((progress.finished or now) - progress.began).total_seconds() if progress.began else 0.0
    mark, style = MARKS.get(progress.state, UNKNOWN)
    return Text.assemble(
        (progress.name, "bold"), "  ", (f"{mark} {progress.state.lower()}", style), (f"   {duration(took)}", "dim")
    )


def _rounds(statuses: Sequence[StageStatus]) -> dict[int, list[StageStatus]]:
    rounds: dict[int, list[StageStatus]] = {}
    for status in statuses:
        rounds.setdefault(status.task.round, []).append(status)
    return dict(sorted(rounds.items()))


def _near_the_work(rounds: dict[int, list[StageStatus]], most: int) -> dict[int, list[StageStatus]]:
    """As many rounds as can be seen at once: those around the one at work."""
    numbers = list(rounds)
    at_work = max((place for place, n in enumerate(numbers) if any(status.state for status in rounds[n])), default=0)
    first = min(max(at_work - most + 2, 0), max(len(numbers) - most, 0))
    return {n: rounds[n] for n in numbers[first : first + most]}


def _before(rounds: dict[int, list[StageStatus]], now: datetime) -> list[Text]:
    """A line for each row that is no round, whose stages are its own."""
    lines = []
    for number in filter(BEFORE.__contains__, rounds):
        cells = (Text(f"{status.task.stage} ") + _cell(status, now) for status in rounds[number])
        lines.append(Text("  ").join([Text(BEFORE[number].ljust(5)), *cells]))
    return lines


def _wide(rounds: dict[int, list[StageStatus]], stages: Sequence[str], now: datetime, before: int) -> Table:
    columns = (Column(escape(stage), no_wrap=True) for stage in (*stages, "took"))
    table = Table("round", *columns, box=None, pad_edge=False)
    for number, statuses in rounds.items():
        cells = {status.task.stage: _cell(status, now) for status in statuses}
        if number > 0:
            table.add_row(str(number + before), *(cells.get(stage, "") for stage in stages), _took(statuses, now))
    return table


def _narrow(rounds: dict[int, list[StageStatus]], now: datetime, before: int) -> Table:
    table = Table("round", "stages", "took", "at work", box=None, pad_edge=False)
    for number, statuses in rounds.items():
        marks = Text.assemble(*(MARKS.get(status.state, UNKNOWN) for status in statuses))
        at_work = [status for status in statuses if status.state in ("RUNNING", "FAILED", "CANCELING")]
        cells = (Text.assemble(status.task.stage, " ", _time(status, now)) for status in at_work)
        table.add_row(BEFORE.get(number, str(number + before)), marks, _took(statuses, now), Text(", ").join(cells))
    return table


def _order(rounds: dict[int, list[StageStatus]]) -> list[str]:
    """The stages of the rounds, in the order of the round that has most."""
    by_size = sorted((statuses for number, statuses in rounds.items() if number > 0), key=len, reverse=True)
    return list(dict.fromkeys(status.task.stage for statuses in by_size for status in statuses))


def _took(statuses: Sequence[StageStatus], now: datetime) -> str:
    """From the first stage's begin to the last one's end."""
    began = [status.began for status in statuses if status.began and status.state != "PENDING"]
    if not began:
        return ""
    last = max(status.ended or now for status in statuses if status.began)
    return duration(max((last - min(began)).total_seconds(), 0.0))


def _cell(status: StageStatus, now: datetime) -> Text:
    return Text.assemble(MARKS.get(status.state, UNKNOWN), " ", _time(status, now), no_wrap=True)


def _time(status: StageStatus, now: datetime) -> str:
    seconds = status.seconds(now)
    return "" if seconds is None else duration(seconds)
