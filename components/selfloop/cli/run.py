"""Running, compiling and measuring loops."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from selfloop import pipelines, runs
from selfloop.cli.app import app, console, resumable, say
from selfloop.cli.options import (
    ConfigFile,
    PipelineOptions,
    RecipeName,
    Seed,
    Sets,
    SettingsOptions,
    StoreUri,
    TrackingUri,
    TrustCode,
    Unsafe,
    grouped,
    overrides,
)
from selfloop.errors import UserError
from selfloop.places import RUNS, check_output, near, use_registry
from selfloop.recipe import find_recipe
from selfloop.settings import Settings, in_toml, whole


class Mode(StrEnum):
    """How a recipe is run."""

    process = "process"
    kfp = "kfp"
    fused = "fused"


COMPONENTS = Path("kfp-components")
"""Where the stages lie as KFP components."""


@app.command()
@grouped
def run(
    recipe: RecipeName,
    options: SettingsOptions,
    seed: Seed = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder; resumed if it is there.")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="process: in this process; kfp, fused: by kfp.local.")] = Mode.process,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="Continue from NAME@champion, @previous or NAME/VERSION, with its state."),
    ] = None,
    tracking_uri: TrackingUri = None,
    store: StoreUri = None,
    unsafe_no_sandbox: Unsafe = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="The hardware whose settings and prices apply: 'selfloop list profiles', or a .toml file."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
) -> None:
    """Run a recipe on this machine. The same command resumes a run that was stopped."""
    found = find_recipe(recipe)
    use_registry(tracking_uri, store, (output.parent if output else RUNS))
    if unsafe_no_sandbox:
        os.environ["SELFLOOP_UNSAFE_NO_SANDBOX"] = "1"
    laid = options.overrides(found, seed=seed)
    planned = runs.plan(found, *laid, output=output, origin=origin, control=options.control, profile=profile)
    if dry_run:
        sys.stdout.write(as_toml(planned.settings))
        return
    runs.check_places(planned)
    for sentence in planned.settings.unseen():
        say(sentence)
    if mode is Mode.process:
        run_here(planned)
    else:
        run_by_kfp(planned, mode is Mode.fused)


@app.command("compile")
@grouped
def compile_(
    pipeline: PipelineOptions,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name, module:attribute, or a .py file.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the YAML for the KFP UI goes, or the folder of the components."),
    ] = None,
    components: Annotated[
        bool,
        typer.Option("--components", help="Write all stages as KFP components instead (into kfp-components)."),
    ] = False,
) -> None:
    """Write a recipe as a pipeline for the KFP UI."""
    from selfloop.modes.own_images import dockerfile

    if components:
        _export(recipe, output or COMPONENTS, pipeline.image_prefix or "selfloop")
        return
    if not recipe or output is None:
        raise UserError("Say which recipe goes into which file: 'selfloop compile RECIPE -o FILE', or --components.")
    found = find_recipe(recipe)
    made = pipelines.compile_pipeline(found, output, *pipeline.overrides(found), **pipeline.how)
    rounds_in_all = made.settings.rounds
    runs_of = f" in runs of {made.rounds_a_run}" if made.rounds_a_run < rounds_in_all else ""
    size = f"{output.stat().st_size / 1000:.0f} kB"
    say(f"{output}: {rounds_in_all} rounds{runs_of}, {size}, for profile '{made.profile.name}'.")
    for sentence in made.settings.unseen():
        say(sentence)
    if lines := dockerfile(found, made.settings, made.profile, made.profile.is_fused(pipeline.fused)):
        say(f"\n{lines}")


def _export(recipe: str, folder: Path, image_prefix: str) -> None:
    from selfloop.modes.exporting import export_components

    if recipe:
        raise UserError(f"--components writes every stage, and no recipe: leave out '{recipe}' or --components.")
    check_output(folder, is_folder=True)
    written = export_components(folder, image_prefix)
    say(f"{folder}: {len(written)} components.")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the HTML goes.")] = Path("report.html"),
) -> None:
    """Write the report of a run as one HTML file."""
    finished = runs.Run(run)
    check_output(output)
    with suppress(shutil.SameFileError):  # it is there already
        shutil.copyfile(finished.report, output)
    say(f"Report: {output.resolve()}")


@app.command()
def bench(
    recipe: RecipeName,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs with the seeds 0, 1, ... below this number.")] = 5,
    config: ConfigFile = None,
    sets: Sets = [],  # noqa: B006
    control: Annotated[bool, typer.Option(help="Run the control arm too.")] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs and of results.json.")] = Path(
        "runs/bench"
    ),
    trust_code: TrustCode = [],  # noqa: B006
) -> None:
    """Run a recipe over several seeds, its control arm beside it, and print what was measured."""
    from selfloop import bench as bench_
    from selfloop.artifacts import write_json

    found = find_recipe(recipe)
    check_output(output, is_folder=True)
    arms = {
        arm: [found.resolve(under, *overrides(found, config, sets, {"seed": seed})) for seed in range(seeds)]
        for arm, under in (("loop", {}), ("control", found.control))[: 1 + control]
    }
    rows = []
    table = Table("arm", "seed", "base", "champion", "rounds", "promoted", "kept", "precision", "minutes", box=None)
    for row in bench_.run_arms(found, arms, output):
        rows.append(row)
        base, champion = (", ".join(f"{k} {v}" for k, v in part.items()) for part in (row.base, row.champion))
        champion = champion or row.halted
        cells = (row.rounds, row.promoted, f"{row.kept:,}", f"{row.precision:.3f}", f"{row.seconds / 60:.1f}")
        console.print(f"{row.arm} {row.seed}: base {base}; champion {champion}", *cells)
        table.add_row(row.arm, str(row.seed), base, champion, *map(str, cells))
    command = shlex.join(["selfloop", *sys.argv[1:]])
    about = {"command": command, "recipe": found.name, **bench_.machine()}
    write_json(output, about | {"rows": [row._asdict() for row in rows]}, "results.json")
    console.print(table)
    for arm, measures in bench_.gains(rows).items():
        for name, gain in measures.items():
            console.print(
                f"{arm}: {name} {gain.mean:+.3f} on average, 95 % interval {gain.low:+.3f} to {gain.high:+.3f} over "
                f"{gain.seeds} seed{'s' * (gain.seeds != 1)}"
            )
    say(f"{output / 'results.json'}")


def as_toml(settings: Settings) -> str:
    """Settings as TOML that ``--config`` reads."""
    stages = settings.stages()
    of_round, top = settings.for_round(0), settings.model_dump(mode="json", exclude=set(stages))
    lines = [f"{name} = {in_toml(value)}" for name, value in top.items()]
    for name in stages:
        values = getattr(of_round, name).model_dump(mode="json", exclude={"round"})
        lines += ["", f"[{name}]", *(f"{key} = {in_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def run_here(planned: runs.Plan) -> None:
    """Run a recipe in this process, with the display and the summary at the end."""
    from selfloop.artifacts import manifest_of
    from selfloop.cli.lineage import say_what_is_in_force, show
    from selfloop.display import Terminal, rounds_table
    from selfloop.html import figure

    recipe, settings, folder, _ = planned
    where = escape(f"on {settings.environment}, seed {settings.seed}, in {folder}")
    console.print(f"[bold]{escape(recipe.name)}[/] {where}", soft_wrap=True)
    with resumable(folder), Terminal(console, settings.first + settings.rounds - 1) as terminal:
        done = runs.carry_out(planned, terminal)
    rounds = done.rounds
    console.print()
    console.print(rounds_table({"rounds": rounds}, console.width))
    console.print()
    if done.ended_early:
        say(done.ended_early)
    show(settings.loop, run=done.id)
    say_what_is_in_force(settings.loop, done.id)
    console.print()
    for name, value in done.measured.items():
        say(f"Measured: {name} {figure(value)}")
    for role in recipe.roles:
        policy = done.role(role)
        say(f"{role.capitalize() + ':':9} {near(policy)} ({manifest_of(policy).digest[:12]})")
    say(f"Report:   {near(done.report)}")
    say(f"MLflow:   {_mlflow_address()}  (run {done.id})")


def _mlflow_address() -> str:
    """Where a person looks at MLflow: the server, or the command that starts one; no password in either."""
    from selfloop.lineage.tracking import without_password

    uri = without_password(os.environ["MLFLOW_TRACKING_URI"])
    if uri.startswith(("http://", "https://")):
        return uri
    return f"{near(Path(sys.prefix, 'bin', 'mlflow'))} ui --backend-store-uri {shlex.quote(uri)}"


def run_by_kfp(planned: runs.Plan, fused: bool) -> None:
    """Run a recipe's pipeline by ``kfp.local``, in a folder that holds no run yet."""
    from selfloop import lineage
    from selfloop.artifacts import write_json
    from selfloop.cli.local_kfp import shown
    from selfloop.modes import inprocess
    from selfloop.modes.compiling import run_locally
    from selfloop.report.history import newest_history, read_history, read_moments

    recipe, settings, root, reference = planned
    if (root / inprocess.RUN).exists():
        raise UserError(f"{root} holds a run, and a run by KFP does not resume: choose another --output.")
    page = root / runs.REPORT
    with (
        inprocess.claimed(root, recipe, settings, reference),
        lineage.tracked_run(root.name, whole(settings), root / inprocess.NOTE, root / "mlflow"),
        runs.reported(root, page),
        shown(root, console, settings.first),
    ):
        lineage.note_beginning(settings.loop)
        run_locally(recipe, settings, root / inprocess.KFP, fused)
        write_json(root, {}, inprocess.FINISHED)
    if (last := runs.newest_report(root)) is not None:
        shutil.copyfile(last, page)
    history = newest_history(root)
    if history and (sentence := runs.why_it_ended(settings, read_history(history)["rounds"], read_moments(history))):
        say(sentence)
    say(f"Artifacts: {near(root / inprocess.KFP)}")
    say(f"Report:    {near(page)}")
