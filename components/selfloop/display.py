"""What a person sees in the terminal while a loop runs, and the table it ends with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfloop.progress import Pace
from selfloop.report.history import last_round
from selfloop.stages import Stage

BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {"promoted": "green", "rejected": "dim", "pending": "yellow", "halted": "red"}
"""Of the gate's verdicts."""


class Terminal:
    """Listens to a run: a live display on a terminal, one line a stage elsewhere."""

    def __init__(self, console: Console, rounds: int) -> None:
        self._console, self._rounds = console, rounds
        self._began = time.monotonic()
        self._stage, self._round, self._stage_began = "", 0, self._began
        self._paces: dict[str, Pace] = {}
        self._accuracy: dict[int, float] = {}
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._draw, transient=True)

    def __enter__(self) -> Terminal:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage_begins(self, round: int, stage: Stage) -> None:
        """Show the stage as the one at work."""
        self._round, self._stage, self._stage_began = round, stage.verb, time.monotonic()
        self._paces = {}

    def stage_moves(self, done: int, total: int, unit: str) -> None:
        """Move the bar."""
        now = time.monotonic()
        self._paces.setdefault(unit, Pace(done, total, now)).note(done, total, now)

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        """Note what a finished stage tells: a decision, the accuracy by level."""
        if not self._console.is_terminal and not skipped:
            seconds = time.monotonic() - self._stage_began
            rates = [(pace.rate or pace.done / max(seconds, 1e-9), unit) for unit, pace in ordered(self._paces)]
            speeds = "".join(f", {speed(rate, unit)}" for rate, unit in rates)
            self._console.print(f"round {round} · {stage.verb}: {seconds:.1f} s{speeds}")
        if "new_history" in stage.outputs:
            self._show(last_round(outputs.new_history.path))

    def _show(self, round: Mapping[str, Any]) -> None:
        self._accuracy |= accuracy_in_force(round)
        self._console.print(round_line(round), soft_wrap=True)

    def _draw(self) -> Group:
        elapsed = time.monotonic() - self._began
        head = Text.assemble(
            (f"round {self._round}/{self._rounds}", "bold"), f" · {self._stage}", (f"   {elapsed:.0f} s", "dim")
        )
        bar = Table.grid(padding=(0, 1))
        for _, pace in ordered(self._paces)[:1]:
            bar.add_row(ProgressBar(pace.total, pace.done, width=40), pace_line(self._paces))
        return Group(head, bar, skyline(self._accuracy))


def ordered(paces: Mapping[str, Pace]) -> list[tuple[str, Pace]]:
    """What a stage counts, that whose end is known first; nothing where no end is known."""
    found = sorted(paces.items(), key=lambda each: not each[1].total)
    return found if found and found[0][1].total else []


def pace_line(paces: Mapping[str, Pace]) -> str:
    """How far, how fast, and how long still: ``512/2,000 rollouts  85 rollouts/s  2,210 tokens/s  18 s left``."""
    (unit, first), *_ = ordered(paces)
    rates = [speed(pace.rate, name) for name, pace in ordered(paces)]
    left = [] if first.seconds_left is None else [f"{duration(first.seconds_left)} left"]
    return "  ".join([f"{first.done:,}/{first.total:,} {unit}", *rates, *left])


def speed(rate: float, unit: str) -> str:
    """How fast, of slow things two digits: ``2,210 tokens/s``, ``0.15 steps/s``."""
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


def duration(seconds: float) -> str:
    """A time as a person says it: ``18 s``, ``4 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def round_line(round: Mapping[str, Any]) -> Text:
    """A round in a line: its verdict, the gain on the target suite, why it is not promoted, and what was kept."""
    decision = round["decision"]
    gain = [f"target {_gain(suite)}" for name, suite in decision["suites"].items() if name == "target"]
    said = [*(gain or [decision["reason"]]), *_why(decision), *_kept(round)]
    return Text.assemble(
        f"round {round['round']:>2} ",
        (decision["verdict"].ljust(8), COLOURS[decision["verdict"]]),
        f"  {'; '.join(said)}",
    )


def _kept(round: Mapping[str, Any]) -> list[str]:
    """What a round kept of its rollouts; how many there were, where it filters none."""
    if empty := round.get("empty", ""):
        return [empty[:1].lower() + empty[1:]]
    if round.get("funnel"):
        return [f"kept {sum(round['kept'].values()):,} of {round['rollouts']:,} rollouts"]
    return [f"{round['rollouts']:,} rollouts"] if round["rollouts"] else []


def _why(decision: Mapping[str, Any]) -> list[str]:
    """What a person must know of a candidate that was not promoted: the guards, or the suites that it did not pass."""
    verdict = decision["verdict"]
    if verdict in ("pending", "halted"):
        level, does = {"pending": ("yellow", "warns"), "halted": ("red", "halts the loop")}[verdict]
        return [f"guard '{name}' {does}" for name, alarm in decision["guards"].items() if alarm["level"] == level]
    failed = {name: suite for name, suite in decision["suites"].items() if not suite["passed"]}
    if verdict == "promoted" or not failed:
        return [] if verdict == "promoted" else ["the error budget is spent"]
    if "confirm" in failed:
        return ["not confirmed"]
    if "target" in failed:
        return ["not shown to be better" if failed["target"]["bar"] >= 0 else "not shown to be no worse"]
    return [f"{name} {_gain(suite)}, bar {suite['bar']:+zg}" for name, suite in failed.items()]


def _gain(suite: Mapping[str, Any]) -> str:
    return f"{suite['gain']:+z.3f} [{suite['lower']:+z.3f}, {suite['upper']:+z.3f}]"


def accuracy_in_force(round: Mapping[str, Any]) -> dict[int, float]:
    """Accuracy by level of the policy in force after a round."""
    force = "candidate" if round["decision"]["promoted"] else "champion"
    return {int(level): value for level, value in round["accuracy"][force].items()}


def skyline(accuracy: Mapping[int, float]) -> Text:
    """One block a level, as high as its accuracy."""
    text = Text("accuracy by level ", style="dim")
    for level in range(1, max(accuracy, default=0) + 1):
        value = accuracy.get(level)
        text.append("·" if value is None else BLOCKS[min(int(value * 8), 7)], style=_colour(value))
    if accuracy:
        text.append(f" 1–{max(accuracy)}", style="dim")
    return text


def _colour(value: float | None) -> str:
    if value is None:
        return "dim"
    return "green" if value >= 0.95 else "yellow" if value >= 0.5 else "red"


def rounds_table(history: Mapping[str, Any], width: int) -> Table:
    """Exact match by level, a row a round: the base policy first, then the policy in force after each round."""
    rounds = history["rounds"]
    base = {int(level): value for level, value in rounds[0]["accuracy"]["champion"].items()} if rounds else {}
    known = [(0, base), *((round["round"], accuracy_in_force(round)) for round in rounds)]
    levels = _columns(sorted({level for _, accuracy in known for level in accuracy}), (width - 30) // 5)
    table = Table(title="Exact match by level (held-out items of the rounds)", title_justify="left", box=None)
    table.add_column("round", justify="right")
    for level in levels:
        table.add_column(str(level), justify="right", no_wrap=True)
    verdicts = {round["round"]: round["decision"]["verdict"] for round in rounds}
    table.add_column("gate")
    for number, accuracy in known:
        cells = [Text(_number(accuracy[n]), style=_colour(accuracy[n])) if n in accuracy else "" for n in levels]
        verdict = verdicts.get(number, "")
        table.add_row("base" if number == 0 else str(number), *cells, Text(verdict, COLOURS.get(verdict, "")))
    return table


def _columns(levels: list[int], most: int) -> list[int]:
    if len(levels) <= most:
        return levels
    step = next(step for step in (2, 5, 10, 20, 50, 100, 1000) if sum(n % step == 0 for n in levels) < most)
    return [n for n in levels if n % step == 0 or n == 1]


def _number(value: float) -> str:
    return "1" if value == 1 else f"{value:.2f}".lstrip("0")
