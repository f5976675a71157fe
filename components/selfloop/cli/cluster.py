"""Running loops on a cluster: submit, watch, schedule, read, cancel."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from selfloop import pipelines
from selfloop.cli.app import StoppedError, app, console
from selfloop.cli.options import ClusterOptions, PipelineOptions, RecipeName, RunOptions, grouped
from selfloop.errors import HaltedError, UserError
from selfloop.recipe import find_recipe
from selfloop.texts import plain

if TYPE_CHECKING:
    from selfloop.cluster.connection import Connection
    from selfloop.cluster.evidence import Evidence
    from selfloop.cluster.runs import Progress

From = Annotated[
    str | None,
    typer.Option("--from", help="Continue from 'champion' (the loop's, if it has one), NAME@champion, NAME/VERSION."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as 'submit' printed it.")]


@app.command()
@grouped
def submit(
    recipe: RecipeName,
    pipeline: PipelineOptions,
    where: RunOptions,
    origin: From = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show how far it is; end as the run ends.")] = False,
) -> None:
    """Begin a run of a recipe on a cluster, and print where it can be seen."""
    found = find_recipe(recipe)
    begun = pipelines.submit(found, *pipeline.overrides(found), **pipeline.how, **asdict(where), origin=origin)
    _say_how_long(begun)
    _say(f"Run {begun.id} of {begun.recipe}, version {begun.version}")
    _say(begun.url)
    if watch:
        watched(begun.connection, begun.id)


@app.command()
@grouped
def schedule(
    recipe: RecipeName,
    pipeline: PipelineOptions,
    where: RunOptions,
    cron: Annotated[str | None, typer.Option("--cron", help="When, as five fields in UTC: '0 2 * * *'.")] = None,
    every: Annotated[str | None, typer.Option("--every", help="How often: 30m, 6h, 1d.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the schedule; default: the experiment's.")] = None,
) -> None:
    """Let a recipe run again and again on a cluster, each time from the loop's champion with its state."""
    found = find_recipe(recipe)
    begun = pipelines.schedule(
        found, *pipeline.overrides(found), **pipeline.how, **asdict(where), cron=cron, every=every, name=name
    )
    _say_how_long(begun)
    _say(f"Schedule '{begun.name}' of {begun.recipe}, version {begun.version}; see 'selfloop schedules'.")


def _say_how_long(begun: pipelines.Submitted) -> None:
    if begun.rounds_a_run < begun.rounds:
        _say(f"{begun.rounds} rounds in runs of {begun.rounds_a_run}, each of which begins the next.")


@app.command("schedules")
@grouped
def schedules_(cluster: ClusterOptions) -> None:
    """List what runs again and again on a cluster; times are UTC."""
    connection = cluster.connected()
    from selfloop.cluster import schedules

    found = schedules.schedules(connection)
    if not found:
        _say(f"Nothing is scheduled in namespace '{cluster.namespace}'.")
        return
    titles = (Column(title, no_wrap=title.endswith("run")) for title in ("when", "next run", "last run", "state"))
    named = (Column(title, overflow="fold") for title in ("name", "recipe"))
    table = Table(*named, *titles, box=None, pad_edge=False)
    for one in found:
        upcoming = _moment(one.next) if one.is_on else "paused"
        cells = (one.name, one.recipe, one.when, upcoming, _moment(one.last), one.last_state.lower())
        table.add_row(*map(escape, cells))
    console.print(table)


@app.command()
@grouped
def unschedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule's name, or its id.")],
    cluster: ClusterOptions,
    pause: Annotated[bool, typer.Option("--pause", help="Do not end it: let no more runs begin for now.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let runs begin again.")] = False,
) -> None:
    """End, pause or resume a schedule. Runs that were begun continue."""
    if pause and resume:
        raise UserError("Give --pause or --resume, not both.")
    connection = cluster.connected()
    from selfloop.cluster import schedules

    if pause:
        schedules.pause(connection, name)
    elif resume:
        schedules.resume(connection, name)
    else:
        schedules.unschedule(connection, name)
    _say(f"Schedule '{name}' {'is paused' if pause else 'continues' if resume else 'is ended; its runs stay'}.")


@app.command()
@grouped
def logs(
    run: RunId,
    cluster: ClusterOptions,
    stage: Annotated[
        str | None,
        typer.Argument(metavar="[STAGE]", help="'generate', or '2/generate' for a round; default: failed, or last."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the stage ends.")] = False,
) -> None:
    """Print what a stage of a run printed in its pod. Read from Kubernetes, with your kubeconfig."""
    connection = cluster.connected()
    from selfloop.cluster import pods, runs

    about, tasks = runs.find_run(connection, run), runs.plan_of(connection, run)
    api = pods.kubernetes()
    found = pods.pods_of(api, run, pods.namespaces(connection), tasks)
    if not found:
        raise pods.without(connection, about)
    before = runs.rounds_before(about, tasks)
    pod = pods.choose(found, run, stage, before)
    if pod.phase == "Failed" and (why := pods.why(api, pod)).sentence:
        _say(f"{pod.title(before)}: {why.sentence}")
    try:
        for piece in pods.log(api, pod, follow):
            sys.stdout.write(plain(piece))
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise StoppedError(f"Stopped reading; run {run} continues.") from None


@app.command("watch")
@grouped
def watch_(run: RunId, cluster: ClusterOptions) -> None:
    """Show how far a run on a cluster is, and end as it ends."""
    watched(cluster.connected(), run)


@app.command()
@grouped
def cancel(run: RunId, cluster: ClusterOptions) -> None:
    """End a run on a cluster, or the one that continues it, and free what it holds.

    What its finished stages made is kept. With your kubeconfig its TrainJobs are deleted and its loop is free at once;
    with MLFLOW_TRACKING_URI its run there is ended as killed.
    """
    connection = cluster.connected()
    from selfloop.cluster import leftovers, relay, runs
    from selfloop.cluster.connection import RefusedError

    try:
        run = relay.cancel_newest(connection, run)
        _say(f"Run {run} is being cancelled.")
        if not runs.is_over(connection, run):
            raise UserError(
                f"Run {run} is still being cancelled: look at {connection.run_url(run)}, and cancel it again."
            )
    except RefusedError as error:
        if error.status != 404 or not leftovers.released(connection, run):
            raise
        _say(f"Run {run} is unknown to KFP; the loop that it held is free for another run.")
        return
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped waiting; run {run} is being cancelled, and holds its loop until it ends."
        ) from None
    for sentence in leftovers.cleared(connection, run):
        _say(sentence)


def watched(connection: Connection, run_id: str) -> None:
    """Show a run, and those that continue it, until the last has ended, and end as it did, with a status of its own for
    a guard's halt.
    """
    from selfloop.cluster import relay, runs
    from selfloop.cluster.evidence import Evidence
    from selfloop.cluster.table import table_of

    lines, evidence = Lines(), Evidence(connection)
    live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def show(progress: Progress) -> None:
        if console.is_terminal:
            live.update(table_of(progress, console, most=max(console.height - 8, 1)), refresh=True)
        else:
            lines.show(progress)

    try:
        with live:
            last = runs.watch(connection, run_id, show, evidence)
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped watching; run {run_id} continues. See it again with 'selfloop watch {run_id}', end it with "
            f"'selfloop cancel {run_id}'."
        ) from None
    console.print(table_of(last, console))
    following = relay.continuation_of(connection, runs.find_run(connection, run_id))
    if following is None:
        conclude(connection, last, evidence)
        return
    _say(f"Run {following.run_id} continues the loop: {connection.run_url(following.run_id)}")
    watched(connection, following.run_id)


class Lines:
    """Prints a run as a log does: a line for each stage that has ended, and for each trouble."""

    def __init__(self) -> None:
        self._printed: set[tuple[int, str]] = set()
        self._trouble = ""

    def show(self, progress: Progress) -> None:
        """Print what is new."""
        from selfloop.cluster.runs import ENDED
        from selfloop.cluster.table import status_line

        for status in progress.statuses:
            if status.state in ENDED and status.state != "SKIPPED" and status.task not in self._printed:
                self._printed.add(status.task)
                _say(status_line(status, progress.before))
        if progress.trouble and progress.trouble != self._trouble:
            _say(progress.trouble)
        self._trouble = progress.trouble


def conclude(connection: Connection, last: Progress, evidence: Evidence) -> None:
    """End as a run ended. Raises ``HaltedError`` where a guard halted the loop, ``UserError`` where it failed."""
    if last.state in ("SUCCEEDED", "SKIPPED"):
        return
    url = connection.run_url(last.run_id)
    if last.state == "CANCELED":
        raise UserError(f"Run {last.run_id} was cancelled: what its finished stages made is kept, see {url}.")
    title, short, why = evidence.failure(last)
    if why.halted:
        raise HaltedError(f"{why.sentence} See {url}.")
    if title:
        said = f"{why.sentence} See" if why.sentence else "see"
        raise UserError(f"Run {last.run_id} failed in {title}: {said} 'selfloop logs {last.run_id} {short}' or {url}.")
    if evidence.pods is None:
        raise UserError(
            f"Run {last.run_id} failed, and KFP does not tell in which stage: set KUBECONFIG, so that its pods are "
            f"asked, or see {url}."
        )
    what = "though none of its pods did" if evidence.pods else "before a stage began"
    raise UserError(f"Run {last.run_id} failed {what}: see {url}.")


def _say(line: str) -> None:
    """Print a line as it is, whole."""
    console.print(line, markup=False, soft_wrap=True)


def _moment(moment: datetime | None) -> str:
    return f"{moment:%b %d %H:%M}" if moment else ""
