"""``selfloop show``: a run, or one thing that has a name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from selfloop.cli.app import app, console, say
from selfloop.cli.lists import listed
from selfloop.errors import UserError
from selfloop.lookup import unknown


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|RUN", help="A name of 'selfloop list', or a run's folder.")],
) -> None:
    """Show a run: how far it came, what it cost, where its champion is; or describe what has this name."""
    if os.sep in name or Path(name).is_dir():
        show_run(Path(name))
        return
    found = {kind: about for kind, about in listed().items() if name in {row[0] for row in about.rows()}}
    if not found:
        raise unknown("name", name, {row[0].strip() for about in listed().values() for row in about.rows()})
    for number, (kind, about) in enumerate(found.items()):
        say("\n" * (number > 0) + f"{kind}:" if len(found) > 1 else "")
        about.one(name)


def show_run(root: Path) -> None:
    """How far a run came, and what it cost by stage and by round."""
    from selfloop.artifacts import read_json
    from selfloop.display import rounds_table
    from selfloop.modes.inprocess import FINISHED, RUN
    from selfloop.report.history import newest_history, read_history, read_moments

    if not (root / RUN).is_file():
        raise UserError(f"{root} is no run of selfloop (it has no {RUN}): give the folder that 'selfloop run' named.")
    begun = read_json(root, RUN)
    settings = begun["settings"]
    state = "finished" if (root / FINISHED).exists() else "not finished: the command that began it continues it"
    say(
        f"{begun['recipe'].rpartition(':')[0].rpartition('.')[2].replace('_', '-')} on {settings['environment']}, "
        f"seed {settings['seed']}, in {root}: {state}"
    )
    place = newest_history(root)
    if place is None:
        say("No round of it is kept here: its report and the registry have what is left.")
        return
    history = read_history(place)
    if history["rounds"]:
        console.print()
        console.print(rounds_table(history, console.width))
    _show_costs(read_moments(place))
    report = root / "report.html"
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
