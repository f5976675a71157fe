"""What a person sees of a run on a cluster: a row a round, a column a stage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from selfloop.cluster.runs import Progress, Step
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
    rounds = _rounds(progress.steps)
    begun = {n: steps for n, steps in rounds.items() if any(step.state != "SKIPPED" for step in steps)}
    shown = _near_the_work(begun, most)
    stages = _order(shown)
    table = _wide(shown, stages, now)
    lines: list[RenderableType] = [_head(progress, now)]
    if table.__rich_measure__(console, console.options).minimum <= console.width:
        lines += [*_before(shown, now), table]
    else:
        lines += [_narrow(shown, now), Text(f"stages: {', '.join(stages)}", "dim")]
    for count, what in ((len(begun) - len(shown), "not shown"), (len(rounds) - len(begun), "not needed")):
        if count:
            lines.append(Text(f"{count} round{'s' * (count != 1)} {what}", "dim"))
    if progress.trouble:
        lines.append(Text(progress.trouble, "yellow"))
    if not progress.has_ended:
        lines.append(Text(LEGEND, "dim"))
    return Group(*lines)


def step_line(step: Step) -> str:
    """A stage that has ended, in a line of a log."""
    seconds = step.seconds(datetime.now(UTC))
    took = "" if seconds is None else f", {duration(seconds)}"
    return f"{step.task.title}: {step.state.lower()}{took}"


def _head(progress: Progress, now: datetime) -> Text:
    took = ((progress.finished or now) - progress.began).total_seconds() if progress.began else 0.0
    mark, style = MARKS.get(progress.state, UNKNOWN)
    return Text.assemble(
        (progress.name, "bold"), "  ", (f"{mark} {progress.state.lower()}", style), (f"   {duration(took)}", "dim")
    )


def _rounds(steps: Sequence[Step]) -> dict[int, list[Step]]:
    rounds: dict[int, list[Step]] = {}
    for step in steps:
        rounds.setdefault(step.task.round, []).append(step)
    return dict(sorted(rounds.items()))


def _near_the_work(rounds: dict[int, list[Step]], most: int) -> dict[int, list[Step]]:
    """As many rounds as can be seen at once: those around the one at work."""
    numbers = list(rounds)
    at_work = max((place for place, n in enumerate(numbers) if any(step.state for step in rounds[n])), default=0)
    first = min(max(at_work - most + 2, 0), max(len(numbers) - most, 0))
    return {n: rounds[n] for n in numbers[first : first + most]}


def _before(rounds: dict[int, list[Step]], now: datetime) -> list[Text]:
    """A line for each row that is no round, whose stages are its own."""
    lines = []
    for number in filter(BEFORE.__contains__, rounds):
        told = (Text(f"{step.task.stage} ") + _cell(step, now) for step in rounds[number])
        lines.append(Text("  ").join([Text(BEFORE[number].ljust(5)), *told]))
    return lines


def _wide(rounds: dict[int, list[Step]], stages: Sequence[str], now: datetime) -> Table:
    columns = (Column(escape(stage), no_wrap=True) for stage in (*stages, "took"))
    table = Table("round", *columns, box=None, pad_edge=False)
    for number, steps in rounds.items():
        cells = {step.task.stage: _cell(step, now) for step in steps}
        if number > 0:
            table.add_row(str(number), *(cells.get(stage, "") for stage in stages), _took(steps, now))
    return table


def _narrow(rounds: dict[int, list[Step]], now: datetime) -> Table:
    table = Table("round", "stages", "took", "at work", box=None, pad_edge=False)
    for number, steps in rounds.items():
        marks = Text.assemble(*(MARKS.get(step.state, UNKNOWN) for step in steps))
        at_work = [step for step in steps if step.state in ("RUNNING", "FAILED", "CANCELING")]
        told = (Text.assemble(step.task.stage, " ", _time(step, now)) for step in at_work)
        table.add_row(BEFORE.get(number, str(number)), marks, _took(steps, now), Text(", ").join(told))
    return table


def _order(rounds: dict[int, list[Step]]) -> list[str]:
    """The stages of the rounds, in the order of the round that has most."""
    by_size = sorted((steps for number, steps in rounds.items() if number > 0), key=len, reverse=True)
    return list(dict.fromkeys(step.task.stage for steps in by_size for step in steps))


def _took(steps: Sequence[Step], now: datetime) -> str:
    """From the first stage's begin to the last one's end."""
    began = [step.began for step in steps if step.began and step.state != "PENDING"]
    if not began:
        return ""
    return duration(max((max(step.ended or now for step in steps if step.began) - min(began)).total_seconds(), 0.0))


def _cell(step: Step, now: datetime) -> Text:
    return Text.assemble(MARKS.get(step.state, UNKNOWN), " ", _time(step, now), no_wrap=True)


def _time(step: Step, now: datetime) -> str:
    seconds = step.seconds(now)
    return "" if seconds is None else duration(seconds)
