"""What was made: the loops of a registry, and the runs of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from selfloop.cli.app import console, say
from selfloop.errors import UserError
from selfloop.places import RUNS
from selfloop.runs import REPORT, Run


def loops() -> Iterator[tuple[str, ...]]:
    """The loops of the registry: how many versions each has, which is in force, and its last round."""
    from selfloop.lineage import tracking
    from selfloop.lineage.registry import Registry

    if not tracking.is_there():
        return
    tracking.check_answers(tracking.address())
    names = Registry("selfloop").names()
    for name in sorted(name.removesuffix(".moves") for name in names if name.endswith(".moves")):
        registry = Registry(name)
        versions, champion = registry.versions(), registry.champion()
        last = max(versions.values(), key=lambda version: version.number, default=None)
        said = f"round {last.tag('round')}, {last.tag('verdict')}" if last else "none"
        yield name, str(len(versions)), f"version {champion}" if champion else "none", said


def show_loop(name: str) -> None:
    """The tree of a loop's versions."""
    from selfloop.cli.lineage import show
    from selfloop.lineage import tracking

    if not tracking.is_there():
        raise UserError(f"There is no registry with a loop '{name}' here: give --tracking-uri.")
    tracking.check_answers(tracking.address())
    show(name)


def runs() -> Iterator[tuple[str, ...]]:
    """The folders of runs on this machine: what each runs, how far it came, and whether it is finished."""
    from selfloop.modes.inprocess import CLEARED, RUN
    from selfloop.report.history import newest_history, read_history

    for root in sorted(path.parent for path in RUNS.glob(f"*/{RUN}")):
        run, place = Run(root), newest_history(root)
        done = len(read_history(place)["rounds"]) if place else 0
        state = "cleared" if (root / CLEARED).exists() else "finished" if run.is_finished else "not finished"
        yield str(root), _about(run), str(done), state


def _about(run: Run) -> str:
    """What a run runs."""
    settings = run.begun["settings"]
    recipe = run.begun["recipe"].partition(":")[0].rpartition(".")[2].replace("_", "-")
    return f"{recipe} on {settings['environment']}, seed {settings['seed']}"


def show_run(name: str) -> None:
    """How far a run came, and what it cost by stage and by round."""
    from selfloop.display import rounds_table
    from selfloop.report.history import newest_history, read_history, read_moments

    root = Path(name)
    run = Run(root)
    state = "finished" if run.is_finished else "not finished: the command that began it continues it"
    say(f"{_about(run)}, in {root}: {state}")
    place = newest_history(root)
    if place is None:
        say("No round of it is kept here: its report and the registry have what is left.")
        return
    history = read_history(place)
    if history["rounds"]:
        console.print()
        console.print(rounds_table(history, console.width))
    _show_costs(read_moments(place))
    report = root / REPORT
    say(f"\nReport: {report}" if report.exists() else f"\nReport: selfloop report {root}")


def _show_costs(moments: Sequence[Mapping[str, Any]]) -> None:
    from selfloop.report.sections.cost import costs

    found = costs(moments)
    if found is None:
        return
    total = found["total"]
    for title, rows in (("stage", found["by_stage"] | {"all": total}), ("round", found["by_round"])):
        console.print()
        console.print(_table(title, rows, bool(total.usd)))
    if found["point"]:
        say(f"\nA point of accuracy cost {', '.join(found['point'])}.")
    if found["over"]:
        say(f"\nThe budget ended the loop: {found['over']}")


def _table(title: str, rows: Mapping[str, Any], has_price: bool) -> Table:
    from selfloop.report.formats import duration
    from selfloop.report.sections.cost import money

    shown = Table(title, box=None, padding=(0, 2, 0, 0))
    for head in ("tokens drawn", "trained on", "time", *(["USD"] if has_price else [])):
        shown.add_column(head, justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = (f"{row.drawn:,}", f"{row.trained:,}", duration(row.seconds), *([money(row.usd)] if has_price else []))
        shown.add_row(*map(Text, (name, *cells)))
    return shown
