"""Running, compiling and measuring loops."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from selfloop.cli.app import app, console, resumable, say
from selfloop.cli.options import (
    RUNS,
    BudgetOption,
    ConfigFile,
    Control,
    EngineChoice,
    EnvironmentName,
    FormName,
    Fused,
    ImagePrefix,
    PolicyName,
    ProfileName,
    RecipeName,
    Rounds,
    RoundsARun,
    Seed,
    Sets,
    StoreUri,
    TrackingUri,
    TrustCode,
    Unsafe,
    check_output,
    chosen_profile,
    resolved,
    use_registry,
)
from selfloop.errors import HaltedError, UserError
from selfloop.recipe import Recipe, find_recipe
from selfloop.settings import Settings


class Mode(StrEnum):
    """How a recipe is run."""

    process = "process"
    kfp = "kfp"
    fused = "fused"


COMPONENTS = Path("kfp-components")
"""Where the stages lie as KFP components."""


@app.command()
def run(
    recipe: RecipeName,
    config: ConfigFile = None,
    sets: Sets = [],  # noqa: B006 (typer copies it)
    form: FormName = None,
    seed: Seed = None,
    rounds: Rounds = None,
    environment: EnvironmentName = None,
    policy: PolicyName = None,
    engine: EngineChoice = None,
    budget: BudgetOption = None,
    control: Control = False,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
    trust_code: TrustCode = [],  # noqa: B006
) -> None:
    """Run a recipe on this machine. The same command resumes a run that was stopped."""
    from selfloop.modes.noting import check

    found = find_recipe(recipe)
    given: dict[str, Any] = {"form": form, "seed": seed, "rounds": rounds, "environment": environment}
    given |= {"policy": policy, "engine": engine, "budget": budget}
    use_registry(tracking_uri, store, (output.parent if output else RUNS))
    if unsafe_no_sandbox:
        os.environ["SELFLOOP_UNSAFE_NO_SANDBOX"] = "1"
    settings = resolved(found, config, sets, given, control)
    root = output or RUNS / f"{found.name}-{fingerprint(settings, origin)}"
    from selfloop.lineage.tracking import check_answers, check_place

    if origin is not None:
        check_answers(os.environ["MLFLOW_TRACKING_URI"])
        root, given["origin"], given["first"] = place_from(origin, root, output is not None)
        name = json.dumps(given["origin"].rpartition("/")[0])
        settings = resolved(found, config, [f"model={name}", *sets], given, control)
    check(found, settings)
    if dry_run:
        sys.stdout.write(as_toml(settings))
        return
    check_output(root, is_folder=True)
    for sentence in settings.unseen():
        say(sentence)
    if engine == "vllm":
        from selfloop.generate.engines import check_vllm

        check_vllm()
    check_place(os.environ["MLFLOW_TRACKING_URI"], os.environ.get("SELFLOOP_STORE"))
    if mode is Mode.process:
        run_here(found, settings, root, origin)
    else:
        run_by_kfp(found, settings, root, mode is Mode.fused, origin)


def place_from(reference: str, root: Path, is_chosen: bool) -> tuple[Path, str, int]:
    """The folder of a run that continues from ``reference``, the origin, pinned, and the number of its first round.

    What an alias named when a run began is kept in its folder, so that the same command resumes it. After a run that is
    finished the same command begins the next one, from what the alias names then, in a folder of its own.
    """
    from selfloop.lineage.rounds import find_origin
    from selfloop.modes.inprocess import FINISHED

    is_fixed = re.fullmatch(r".+[@/]\d+", reference) is not None
    place, number = root, 1
    while kept := _kept_origin(place, reference):
        if is_fixed or not (place / FINISHED).exists():
            return place, *kept
        if is_chosen:
            raise UserError(
                f"{root} holds a finished run, which continued from {kept[0]}: choose another --output to continue "
                f"from what {reference} is now."
            )
        number += 1
        place = root.with_name(f"{root.name}-{number}")
    found = find_origin(reference)
    return place, found.pinned, found.first


def _kept_origin(root: Path, reference: str) -> tuple[str, int] | None:
    """What a reference named when the run in this folder began; none where there is no run that began so."""
    from selfloop.artifacts import read_json
    from selfloop.modes.inprocess import RUN

    begun = read_json(root, RUN) if (root / RUN).is_file() else {}
    if begun.get("reference") != reference:
        return None
    return begun["settings"]["origin"], begun["settings"]["first"]


@app.command("compile")
def compile_(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name, module:attribute, or a .py file.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the YAML for the KFP UI goes, or the folder of the components."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = [],  # noqa: B006
    form: FormName = None,
    rounds: Rounds = None,
    rounds_a_run: RoundsARun = None,
    environment: EnvironmentName = None,
    policy: PolicyName = None,
    engine: EngineChoice = None,
    budget: BudgetOption = None,
    control: Control = False,
    fused: Fused = None,
    profile: ProfileName = "cpu",
    image_prefix: ImagePrefix = None,
    components: Annotated[
        bool,
        typer.Option("--components", help="Write all stages as KFP components instead (into kfp-components)."),
    ] = False,
    trust_code: TrustCode = [],  # noqa: B006
) -> None:
    """Write a recipe as a pipeline for the KFP UI."""
    from selfloop.modes.compiling import compile_pipeline

    if components:
        _export(recipe, output or COMPONENTS, image_prefix or "selfloop")
        return
    if not recipe or output is None:
        raise UserError("Say which recipe goes into which file: 'selfloop compile RECIPE -o FILE', or --components.")
    check_output(output)
    found = find_recipe(recipe)
    given = {"form": form, "rounds": rounds, "environment": environment, "policy": policy, "engine": engine}
    given |= {"budget": budget}
    hardware = chosen_profile(profile, image_prefix)
    settings = resolved(found, config, sets, given, control, hardware)
    held = compile_pipeline(found, settings, output, hardware.is_fused(fused), hardware, rounds_a_run)
    runs = f" in runs of {held}" if held < settings.rounds else ""
    size = f"{output.stat().st_size / 1000:.0f} kB"
    say(f"{output}: {settings.rounds} rounds{runs}, {size}, for profile '{hardware.name}'.")
    for sentence in settings.unseen():
        say(sentence)


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
    from selfloop.modes.inprocess import RUN

    if not (run / RUN).is_file():
        raise UserError(f"{run} is no run of selfloop (it has no {RUN}): give the folder that 'selfloop run' named.")
    check_output(output)
    whole = run / "report.html"
    finished = whole if whole.is_file() else newest_report(run)
    if finished is None:
        raise UserError(f"{run} has no report yet: no stage of it that reports has ended.")
    with suppress(shutil.SameFileError):  # it is there already
        shutil.copyfile(finished, output)
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
        arm: [resolved(found, config, sets, {"seed": seed}, arm == "control") for seed in range(seeds)]
        for arm in (("loop", "control") if control else ("loop",))
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
    lines = [f"{name} = {spelt(value)}" for name, value in top.items()]
    for name in stages:
        values = getattr(of_round, name).model_dump(mode="json", exclude={"round"})
        lines += ["", f"[{name}]", *(f"{key} = {spelt(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def spelt(value: Any) -> str:
    """A value as TOML spells it: as JSON does, but for a table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {spelt(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def fingerprint(settings: Settings, reference: str | None = None) -> str:
    """Eight hex digits that name a configuration, and what a person typed for its origin."""
    whole = json.dumps(settings.overrides(), sort_keys=True) + (reference or "")
    return hashlib.sha256(whole.encode()).hexdigest()[:8]


def run_here(recipe: Recipe[Any], settings: Settings, root: Path, reference: str | None = None) -> None:
    """Run a recipe in this process, with the display, MLflow, and the summary at the end."""
    from selfloop import lineage
    from selfloop.artifacts import manifest_of
    from selfloop.cli.lineage import say_what_is_in_force, show
    from selfloop.display import Terminal, rounds_table
    from selfloop.html import figure
    from selfloop.modes import inprocess
    from selfloop.report.history import read_history, read_moments
    from selfloop.report.render import render

    where = escape(f"on {settings.environment}, seed {settings.seed}, in {root}")
    console.print(f"[bold]{escape(recipe.name)}[/] {where}", soft_wrap=True)
    page = root / "report.html"
    with (
        inprocess.claimed(root, recipe, settings, reference),
        resumable(root),
        lineage.tracked_run(root.name, settings.overrides(), root / inprocess.NOTE, root / "mlflow") as run_id,
        _reported(root, page),
        Terminal(console, settings.first + settings.rounds - 1) as terminal,
    ):
        lineage.note_beginning(settings.loop)
        last, measured = inprocess.complete(recipe, settings, root, terminal)
        history, moments = read_history(last.history.path), read_moments(last.history.path)
        page.write_text(render(history, moments, measured), encoding="utf-8")
        lineage.finish(run_id, page, measured)
        (root / inprocess.FINISHED).touch()
    console.print()
    console.print(rounds_table(history, console.width))
    console.print()
    last_round = history["rounds"][-1]["round"]
    if over := moments[-1].get("ends"):
        say(f"The budget ended the loop after round {last_round}: {over}")
    elif last_round < settings.last:
        say(f"The schedule '{settings.overrides()['schedule']}' ended the loop after round {last_round}.")
    show(settings.loop, run=run_id)
    say_what_is_in_force(settings.loop, run_id)
    console.print()
    for name, value in measured.items():
        say(f"Measured: {name} {figure(value)}")
    for role in recipe.roles:
        policy = Path(getattr(last, role).path)
        say(f"{role.capitalize() + ':':9} {_near(policy)} ({manifest_of(policy).digest[:12]})")
    if page.exists():
        say(f"Report:   {_near(page)}")
    say(f"MLflow:   {_mlflow_address()}  (run {run_id})")


def _mlflow_address() -> str:
    """Where a person looks at MLflow: the server, or the command that starts one; no password in either."""
    from selfloop.lineage.tracking import without_password

    uri = without_password(os.environ["MLFLOW_TRACKING_URI"])
    if uri.startswith(("http://", "https://")):
        return uri
    return f"{_near(Path(sys.prefix, 'bin', 'mlflow'))} ui --backend-store-uri {shlex.quote(uri)}"


@contextmanager
def _reported(root: Path, page: Path) -> Iterator[None]:
    """Leave the report where a person finds it also when a guard halted the loop."""
    try:
        yield
    except HaltedError as error:
        last = newest_report(root)
        if last is None:
            raise
        shutil.copyfile(last, page)
        raise HaltedError(f"{error} The report is {_near(page)}.") from None


def newest_report(root: Path) -> Path | None:
    """The report that the last stage of a run wrote."""
    pages = sorted(root.rglob("*/report"), key=lambda page: -page.stat().st_mtime)
    return next((page for page in pages if page.is_file()), None)


def _near(path: Path) -> Path:
    """A path as seen from here, where it lies below."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def run_by_kfp(recipe: Recipe[Any], settings: Settings, root: Path, fused: bool, reference: str | None = None) -> None:
    """Run a recipe's pipeline by ``kfp.local``, in the folder ``root``, which holds no run yet."""
    from selfloop import lineage
    from selfloop.modes import inprocess
    from selfloop.modes.compiling import run_locally

    if (root / inprocess.RUN).exists():
        raise UserError(f"{root} holds a run, and a run by KFP does not resume: choose another --output.")
    with (
        inprocess.claimed(root, recipe, settings, reference),
        lineage.tracked_run(root.name, settings.overrides(), root / inprocess.NOTE, root / "mlflow"),
    ):
        lineage.note_beginning(settings.loop)
        try:
            run_locally(recipe, settings, root / inprocess.KFP, fused)
        except RuntimeError as error:  # what kfp.local raises for a task that failed, and for much else
            failed = re.search(r"Inner task failed: [^']*'([^']+)'", str(error))  # the name is coloured
            if failed is None:
                raise
            raise _why_it_failed(root, failed[1]) from None
        (root / inprocess.FINISHED).touch()
    say(f"Artifacts: {root / 'kfp'}")


def _why_it_failed(root: Path, stage: str) -> UserError:
    from selfloop.artifacts import read_json

    decisions = sorted(root.glob("kfp/**/decision/value.json"), key=lambda path: path.stat().st_mtime)
    last = read_json(decisions[-1].parent) if decisions else {}
    if last.get("verdict") == "halted":
        return HaltedError.because(last["reason"])
    return UserError(f"Stage {stage} failed, its log is above: mend the cause and run again in another --output.")
