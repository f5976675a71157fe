"""``selfloop show``: a run, a loop, or one thing that has a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.app import app, say
from selfloop.cli.lists import listed
from selfloop.cli.made import show_run
from selfloop.cli.options import TrackingUri
from selfloop.lookup import unknown
from selfloop.places import RUNS, use_registry


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="What 'selfloop list' shows: a recipe, a guard, a loop, a run's folder."),
    ],
    tracking_uri: TrackingUri = None,
) -> None:
    """Describe what has this name: of a run, how far it came and what it cost; of a loop, its versions."""
    if os.sep in name or Path(name).is_dir():
        show_run(name)
        return
    use_registry(tracking_uri, None, RUNS)
    there = listed()
    names = {kind: {row[0] for row in about.rows()} for kind, about in there.items() if kind != "forms"}
    kinds = [kind for kind, known in names.items() if name in known]
    if not kinds:
        raise unknown("name", name, {each.strip() for known in names.values() for each in known})
    for kind in kinds:
        if len(kinds) > 1:
            say(f"{'' if kind == kinds[0] else chr(10)}{kind}")
        there[kind].one(name)
