"""Looking at a loop's lineage, and deciding about its champion."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from selfloop.cli.app import app, console
from selfloop.cli.options import StoreUri, TrackingUri, TrustCode
from selfloop.errors import UserError
from selfloop.places import RUNS, check_output, use_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selfloop.lineage.tree import Lane, Row

Name = Annotated[str, typer.Argument(metavar="NAME", help="A loop in MLflow's registry.")]
Reference = Annotated[str, typer.Argument(metavar="VERSION", help="The number of a version, or an alias.")]
Optional = Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The number of a version, or an alias.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the registry.")]
LANE = 14
"""Columns of a terminal that one of several policies takes."""
STYLES = {
    "promoted": ("●", "green"),
    "approved": ("●", "green"),
    "start": ("●", "green"),
    "rejected": ("○", "dim"),
    "pending": ("◌", "yellow"),
    "halted": ("✗", "red"),
}


@app.command("lineage")
def lineage_(
    name: Name,
    html: Annotated[Path | None, typer.Option("--html", help="Write the tree as one HTML file.")] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Draw the tree of a loop's versions: what came from what, what is in force, what was rejected and why."""
    _use(tracking_uri, None)
    if html is None:
        show(name)
        return
    from selfloop.lineage.page import page
    from selfloop.lineage.registry import Registry
    from selfloop.lineage.tree import tree

    check_output(html)
    drawn = page(tree(Registry(name)))
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(drawn, encoding="utf-8")
    console.print(f"Lineage: {html.resolve()}", soft_wrap=True)


def _use(tracking_uri: str | None, store: str | None) -> None:
    """Use a registry, which has answered."""
    from selfloop.lineage.tracking import check_answers

    use_registry(tracking_uri, store, RUNS)
    check_answers(os.environ["MLFLOW_TRACKING_URI"])


def show(name: str, run: str | None = None) -> None:
    """Print the tree of a loop, or of one of its runs."""
    from selfloop.lineage.registry import Registry
    from selfloop.lineage.tree import tree

    drawn = tree(Registry(name), run)
    console.print(Text.assemble("Lineage of ", (drawn.name, "bold")))
    parents = {row.version.parent for row in drawn.rows}
    graph = max((len(row.branch) for row in drawn.rows), default=0) + 1
    lanes = {bundle.row.version.number: bundle.lanes for bundle in drawn.bundles}
    for head in list(lanes.values())[:1]:
        _print(Text("".ljust(graph + 23) + "".join(lane.role.ljust(LANE) for lane in head), "bold"))
    for row in drawn.rows:
        _print(_version_line(row, graph, lanes.get(row.version.number, [])))
        below = row.branch.replace("├─", "│ ").replace("└─", "  ") + "│" * (row.version.number in parents)
        for move in row.by_people:
            said = (f"{move.kind} by {move.by}: ", "bold"), _on_one_line(move.reason)
            _print(Text.assemble((below.ljust(graph + 5), "dim"), *said))


def _version_line(row: Row, graph: int, lanes: list[Lane]) -> Text:
    mark, style = STYLES.get(row.verdict, ("?", "dim"))
    version = row.version
    return Text.assemble(
        (row.branch, "dim"),
        (mark, style),
        f"{version.number:>{graph - len(row.branch) + 3}} ",
        (f"round {version.tag('round')}".ljust(9), "dim"),
        (row.verdict.ljust(9), style),
        *_bundle(lanes, mark, style),
        *((f"{alias} ", "bold cyan") for alias in row.aliases),
        (_on_one_line(version.tag("reason")), "dim"),
    )


def _bundle(lanes: list[Lane], mark: str, style: str) -> Iterator[tuple[str, str]]:
    """The policies of a version in their lanes, joined; one that is what it was before is a line that continues."""
    for place, lane in enumerate(lanes, 1):
        said = f" {lane.digest[:8]} "
        yield ("│", "dim") if lane.same else (mark if lane.digest else " ", style)
        yield (said + ("─" * (LANE - 2 - len(said)) + " " if place < len(lanes) else ""), "dim" if lane.same else "")


def _on_one_line(reason: str) -> str:
    return " ".join(reason.split())


def _print(line: Text) -> None:
    """Cut at the edge of a terminal; whole elsewhere."""
    if console.is_terminal:
        console.print(line, no_wrap=True, overflow="ellipsis")
    else:
        console.print(line, soft_wrap=True)


def say_what_is_in_force(name: str, run: str) -> None:
    """Say it where a run came to a policy that is not the champion, because another run's is."""
    from selfloop.lineage.registry import Registry

    registry = Registry(name)
    head, versions = registry.settle(), registry.versions()
    promoted = [v.number for v in versions.values() if (v.tag("run"), v.tag("verdict")) == (run, "promoted")]
    if head and promoted and versions[head.version].tag("run") != run:
        console.print(
            f"The champion stays version {head.version}, which another run made: this one began elsewhere. To put its "
            f"own in force: selfloop promote {name} {promoted[-1]} --reason ...",
            soft_wrap=True,
        )


@app.command()
def promote(
    name: Name, version: Reference, reason: Reason, tracking_uri: TrackingUri = None, store: StoreUri = None
) -> None:
    """Put a version in force, whatever the gate said of it, unless a guard refused it."""
    from selfloop.lineage import decisions

    _use(tracking_uri, store)
    _say(name, decisions.promote(name, version, reason).version)


@app.command()
def approve(
    name: Name, reason: Reason, version: Optional = None, tracking_uri: TrackingUri = None, store: StoreUri = None
) -> None:
    """Put a version in force that passed the gate and waits for a person, because a guard warned."""
    from selfloop.lineage import decisions

    _use(tracking_uri, store)
    _say(name, decisions.approve(name, version, reason).version)


@app.command()
def rollback(
    name: Name, reason: Reason, version: Optional = None, tracking_uri: TrackingUri = None, store: StoreUri = None
) -> None:
    """Put back in force what was before the champion, or an older version that was once in force."""
    from selfloop.lineage import decisions

    _use(tracking_uri, store)
    _say(name, decisions.rollback(name, version, reason).version)


@app.command()
def bless(
    name: Name, reason: Reason, version: Optional = None, tracking_uri: TrackingUri = None, store: StoreUri = None
) -> None:
    """Make the champion the anchor: what old skills are held against when the loop continues."""
    from selfloop.lineage import decisions

    _use(tracking_uri, store)
    blessed = decisions.bless(name, version, reason).number
    console.print(f"Version {blessed} of {name} is the anchor of its next run: --from {name}@champion", soft_wrap=True)


def _say(name: str, version: int) -> None:
    console.print(f"Version {version} of {name} is the champion. Continue from it: --from {name}@champion")


@app.command()
def reproduce(
    name: Name,
    version: Reference,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep what is made in this folder.")] = None,
    tracking_uri: TrackingUri = None,
    store: StoreUri = None,
    trust_code: TrustCode = [],  # noqa: B006
) -> None:
    """Make a version again from what the registry holds, and say whether it is the same."""
    from selfloop.display import Terminal
    from selfloop.modes.reproducing import reproduce as again

    _use(tracking_uri, store)
    if output is not None:
        check_output(output, is_folder=True)
    if output is not None and output.is_dir() and any(output.iterdir()):
        raise UserError(
            f"{output} is not empty, and what is in it would be taken for the result: give another --output."
        )
    with tempfile.TemporaryDirectory() as place, Terminal(console, 0) as terminal:
        made = again(name, version, output or Path(place), terminal)
    for role, (then, now) in made.digests.items():
        console.print(f"{role}: {then[:12]} then, {now[:12]} now", soft_wrap=True)
    for what, (then, now) in made.changed.items():
        console.print(f"  {what} was {then or 'none'}, is {now or 'none'}", soft_wrap=True)
    if made.same:
        console.print(f"[green]Version {made.version} of {name} was reproduced: the digests match.[/]")
        return
    if made.gain is None or made.interval is None:
        raise UserError(f"Version {made.version} of {name} was not reproduced: the digests differ.")
    (then_gain, now_gain), (low, high) = made.gain, made.interval
    measured = f"target {now_gain:+.3f}, then {then_gain:+.3f}, the gate's interval is [{low:+.3f}, {high:+.3f}]"
    if not made.agrees:
        raise UserError(f"Version {made.version} of {name} was not reproduced: digests differ, and so does {measured}.")
    console.print(f"[yellow]The digests differ, but it measures the same: {measured}.[/]", soft_wrap=True)


@app.command()
def gc(
    name: Name,
    keep: Annotated[int, typer.Option("--keep", help="The newest versions, which stay whatever they are.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list.")] = False,
    runs: Annotated[Path, typer.Option("--runs", help="Where the folders of its runs are.")] = RUNS,
    tracking_uri: TrackingUri = None,
    store: StoreUri = None,
) -> None:
    """List, then delete, what neither was in force nor led to it, and what the stages of finished runs left.

    Lineage stays: the registry knows every version, and the store has what is in force, what it came from, and the
    newest. Of a run's folder stay its report and its settings.
    """
    from selfloop.lineage import retention
    from selfloop.modes import inprocess

    _use(tracking_uri, store)
    planned = retention.plan(name, keep)
    folders = inprocess.finished_runs(runs, retention.runs_of(name))
    table = Table("version", "round", "verdict", "reason", box=None)
    for version in planned.versions:
        reason = Text(_on_one_line(version.tag("reason"))[:60])
        table.add_row(str(version.number), version.tag("round"), version.tag("verdict"), reason)
    if planned.versions:
        console.print(table)
    console.print(f"{len(planned.versions)} versions, {len(planned.keys)} artifacts, {planned.bytes / 1e6:.1f} MB.")
    for folder in folders:
        console.print(f"{folder}: finished, {inprocess.bytes_of_stages(folder) / 1e6:.1f} MB.", soft_wrap=True)
    if not planned.keys and not folders:
        return
    if yes:
        retention.collect(name, planned, keep)
        for folder in folders:
            inprocess.clear(folder)
        console.print("Deleted. The registry still knows the versions; their files are gone.")
    else:
        console.print("Nothing was deleted: add --yes.")
