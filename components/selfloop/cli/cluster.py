"""Running loops on a cluster: submit, watch, schedule, read, cancel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from selfloop.cli.app import StoppedError, app, console
from selfloop.cli.run import (
    ConfigFile,
    Control,
    EngineChoice,
    EnvironmentName,
    PolicyName,
    RecipeName,
    Rounds,
    Seed,
    Sets,
    engine_sets,
    resolved,
)
from selfloop.errors import UserError
from selfloop.recipe import Settings, find_recipe

if TYPE_CHECKING:
    from selfloop.cluster.connection import Connection
    from selfloop.cluster.runs import Progress
    from selfloop.cluster.uploads import Package

Kfp = Annotated[
    str | None,
    typer.Option("--kfp", envvar="SELFLOOP_KFP_ENDPOINT", help="Address of Kubeflow Pipelines, as in a browser."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="SELFLOOP_NAMESPACE", help="Namespace where the loops run.")
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", help="Certificates to trust; default: SSL_CERT_FILE, or the public ones.")
]
Fused = Annotated[bool, typer.Option("--fused", help="A pod a round instead of a pod a stage.")]
ImagePrefix = Annotated[str, typer.Option(help="Registry and folder of the images.")]
Experiment = Annotated[
    str | None, typer.Option("--experiment", help="Experiment in KFP; default: the loop's name in MLflow's registry.")
]
From = Annotated[
    str | None,
    typer.Option("--from", help="Go on from 'champion', the loop's own if it has one, or from NAME/VERSION."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as 'submit' printed it.")]


@app.command()
def submit(
    recipe: RecipeName,
    config: ConfigFile = None,
    sets: Sets = [],  # noqa: B006 (typer copies it)
    seed: Seed = None,
    rounds: Rounds = None,
    environment: EnvironmentName = None,
    policy: PolicyName = None,
    engine: EngineChoice = None,
    control: Control = False,
    fused: Fused = False,
    image_prefix: ImagePrefix = "selfloop",
    origin: From = None,
    experiment: Experiment = None,
    kfp: Kfp = None,
    namespace: Namespace = "selfloop",
    ca_file: CaFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show how far it is; end as the run ends.")] = False,
) -> None:
    """Begin a run of a recipe on a cluster, and print where it can be seen."""
    connection = connected(kfp, namespace, ca_file)
    given = {"rounds": rounds, "environment": environment, "policy": policy}
    with compiled(recipe, config, sets, given, engine, control, fused, image_prefix) as (package, settings):
        from selfloop.cluster import runs, uploads

        values = runs.parameters(package, seed, origin)
        version = uploads.uploaded(connection, package)
        experiment_id = uploads.experiment(connection, experiment or settings.model)
        run_id = runs.submit(connection, package, version, experiment_id, values)
    console.print(f"Run {run_id} of {package.recipe}, version {package.version}", markup=False, soft_wrap=True)
    console.print(connection.run_url(run_id), markup=False, soft_wrap=True)
    if watch:
        watched(connection, run_id)


@app.command("watch")
def watch_(run: RunId, kfp: Kfp = None, namespace: Namespace = "selfloop", ca_file: CaFile = None) -> None:
    """Show how far a run on a cluster is, and end as it ends."""
    watched(connected(kfp, namespace, ca_file), run)


@app.command()
def cancel(run: RunId, kfp: Kfp = None, namespace: Namespace = "selfloop", ca_file: CaFile = None) -> None:
    """End a run on a cluster. What its finished stages made is kept."""
    connection = connected(kfp, namespace, ca_file)
    from selfloop.cluster import runs

    runs.cancel(connection, run)
    console.print(f"Run {run} is being cancelled.", markup=False, soft_wrap=True)


def connected(kfp: str | None, namespace: str, ca_file: Path | None) -> Connection:
    """The way to the API, which has answered."""
    try:
        from selfloop.cluster.connection import connect
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'selfloop[cluster]'.") from None
    connection = connect(kfp, namespace, ca_file)
    connection.check()
    return connection


@contextmanager
def compiled(
    name: str,
    config: Path | None,
    sets: list[str],
    given: dict[str, Any],
    engine: str | None,
    control: bool,
    fused: bool,
    image_prefix: str,
) -> Iterator[tuple[Package, Settings]]:
    """A recipe's pipeline in a file that stays for the block, and the settings that it was made with."""
    from selfloop.cluster.uploads import Package
    from selfloop.pipeline import compile_pipeline

    recipe = find_recipe(name)
    settings = resolved(recipe, config, [*sets, *engine_sets(recipe, engine)], given, control)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, f"{recipe.name}.yaml")
        compile_pipeline(recipe, settings, file, fused, image_prefix)
        yield Package(recipe.name, recipe.target, file), settings


def watched(connection: Connection, run_id: str) -> None:
    """Show a run until it has ended, and end as it did: see ``EXITS`` for a guard's halt and a person's stop."""
    from selfloop.cluster import runs, table

    lines = Lines()
    live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def show(progress: Progress) -> None:
        if console.is_terminal:
            live.update(table.table_of(progress, console, most=max(console.height - 7, 1)), refresh=True)
        else:
            lines.show(progress)

    try:
        with live:
            last = runs.watch(connection, run_id, show)
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped watching; run {run_id} goes on. See it again with 'selfloop watch {run_id}', end it with "
            f"'selfloop cancel {run_id}'."
        ) from None
    console.print(table.table_of(last, console))
    conclude(connection, last)


class Lines:
    """Tells a run as a log does: a line for each stage that has ended, and for each trouble."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._trouble = ""

    def show(self, progress: Progress) -> None:
        """Print what has not been told."""
        from selfloop.cluster.runs import ENDED
        from selfloop.cluster.table import step_line

        for step in progress.steps:
            if step.state in ENDED and step.state != "SKIPPED" and step.key not in self._told:
                self._told.add(step.key)
                console.print(step_line(step), markup=False, soft_wrap=True)
        if progress.trouble and progress.trouble != self._trouble:
            console.print(progress.trouble, markup=False, soft_wrap=True)
        self._trouble = progress.trouble


def conclude(connection: Connection, last: Progress) -> None:
    """End as a run ended. Raises ``HaltedError`` where a guard halted the loop, ``UserError`` where it failed."""
    from selfloop.cluster.table import name_of

    if last.state in ("SUCCEEDED", "SKIPPED"):
        return
    url = connection.run_url(last.run_id)
    if last.state == "CANCELED":
        raise UserError(f"Run {last.run_id} was cancelled: what its finished stages made is kept, see {url}.")
    step = last.failed
    if step is None:
        raise UserError(f"Run {last.run_id} failed before a stage began: see {url}.")
    raise UserError(f"Run {last.run_id} failed in {name_of(step)}: see {url}.")
