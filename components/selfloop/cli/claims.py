"""Measuring what the paper of a recipe claims."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from selfloop import machine
from selfloop.claims.measuring import HALTED, Outcome
from selfloop.cli.app import StoppedError, app, console, resumable, say
from selfloop.cli.options import RecipeName
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.places import RUNS, check_output
from selfloop.recipe import Recipe, designs, find_recipe, recipes


@app.command()
def claim(
    recipe: RecipeName = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Every recipe and design that comes with selfloop, one after another.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the runs, with --all of one a recipe; default: runs/claims/RECIPE."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at a time; default: the cores there are.")
    ] = None,
    arms: Annotated[list[str], typer.Option("--arm", help="Run only this arm; may be given again.")] = [],  # noqa: B006
    seeds: Annotated[list[int], typer.Option("--seed", help="Run only this seed; may be given again.")] = [],  # noqa: B006
    tuning: Annotated[
        bool, typer.Option("--tuning", help="Run the tuning seeds; what comes out is no result.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Tell, from finished tuning runs, what the test seeds could see; run nothing."),
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Judge the committed result anew by today's statements; run nothing.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the result beside the recipe.")] = False,
) -> None:
    """Measure what a recipe's paper claims: arms, seeds, bounds, one word. The same command resumes it."""
    _check_alone({"--plan": plan, "--judge": judge}, {"--tuning": tuning, "--arm": bool(arms), "--seed": bool(seeds)})
    if plan and write:
        raise UserError("--plan comes to no result that could be written: leave out --write.")
    if everything == bool(recipe):
        raise UserError("Name a recipe, or give --all, one of the two.")
    if everything and (arms or seeds):
        raise UserError(
            f"Each claim has arms and seeds of its own: leave out {'--arm' if arms else '--seed'}, or --all."
        )

    def one(name: str, found: Recipe[Any], root: Path) -> None:
        _check(found, arms, seeds, tuning, write)
        if judge:
            _judge(name, found, write)
        elif plan:
            _plan(name, found, root, jobs or machine.cores())
        else:
            _measure(name, found, root, jobs or machine.cores(), seeds, arms, tuning, write)

    runs = RUNS / "claims"
    if recipe:
        found = find_recipe(recipe)
        one(recipe, found, output or runs / found.name)
    elif not _each(one, output or runs):
        raise typer.Exit(1)


def _each(one: Callable[[str, Recipe[Any], Path], None], root: Path) -> bool:
    """Have one after another, each in a folder of its own. One that is refused says why; returns whether none was."""
    well = True
    for name, found in {**recipes(), **designs()}.items():
        if found.claims is None:
            continue
        console.rule(found.name)
        try:
            one(name, found, root / found.name)
        except StoppedError:
            raise
        except UserError as error:
            say(str(error))
            well = False
    return well


def _measure(
    name: str,
    found: Recipe[Any],
    root: Path,
    jobs: int,
    seeds: Sequence[int],
    arms: Sequence[str],
    tuning: bool,
    write: bool,
) -> None:
    """Make the runs that there are not yet, say what all of them come to, and keep it."""
    from selfloop.artifacts import code_digest, write_json
    from selfloop.claims import measuring, results, table

    assert found.claims is not None
    chosen = found.claims.tuning if tuning else found.claims.seeds
    check_output(root, is_folder=True)
    whole, parts = measuring.planned(found, chosen), measuring.planned(found, seeds or chosen, arms)
    for run in measuring.planned(found, chosen[:1]):  # the other seeds of an arm ask for as much
        found.check(measuring.settings_of(found, run))
    with measuring.held(root), resumable(root):
        outcomes = measuring.all_found(found, whole, root)
        left = [run for run in parts if run not in outcomes]
        if write and (lacking := len(whole) - len(outcomes) - len(left)):
            raise UserError(f"{lacking} of {len(whole)} runs would lack: leave out --arm and --seed, or --write.")
        say(f"{len(whole)} runs, {len(outcomes)} of them finished, {len(left)} to make, in {root}.")
        with closing(measuring.measured(name, found, left, root, jobs)) as ended:
            for number, outcome in enumerate(ended, 1):
                outcomes[outcome.run] = outcome
                results.check(found.claims, outcome)
                say(f"{number}/{len(left)} {_line(outcome)}")
    # which folder held the runs, and how many were made at a time, is of this machine
    command = shlex.join(
        ["selfloop", "claim", name, *(["--tuning"] if tuning else []), *(["--write"] if write else [])]
    )
    result = results.result(found, outcomes, command, chosen)
    for part in table.shown(result):
        console.print(part)
    if result["code"] not in ([], [code_digest()[:12]]):
        say("\nSome of these runs are of another version of the code: delete their folders to make them anew.")
    if tuning:
        say("\nThese are the tuning seeds: choose by them what you like, this is no result and is written nowhere.")
        return
    place = results.place_beside(found) if write else root / "result.json"
    write_json(place.parent, result, place.name)
    say(f"\n{place}")


def _plan(name: str, found: Recipe[Any], root: Path, jobs: int) -> None:
    """Say what the test seeds could see and what their runs would take, from the tuning runs that are finished."""
    from selfloop.claims import measuring, planning, table
    from selfloop.display import duration

    assert found.claims is not None
    command = f"make them with 'selfloop claim {name} --tuning'"
    if len(found.claims.tuning) < 2:
        raise UserError(f"A spread needs tuning seeds: give the claims of recipe '{found.name}' two or more.")
    tuned = measuring.all_found(found, measuring.planned(found, found.claims.tuning), root)
    if not tuned:
        raise UserError(f"There is no finished tuning run of recipe '{found.name}' in {root}: {command}.")
    for part in table.planned(found.claims, tuned):
        console.print(part)
    say(
        "\nBelow the number of seeds stands how far within what it says the truth must lie to be seen with "
        f"{planning.POWER:.0%} power, in all comparisons of a statement together: at the spread between the tuning "
        f"seeds, to that at the largest spread that they leave possible at {1 - planning.UNLUCKY:.0%}."
    )
    runs = measuring.planned(found, found.claims.seeds)
    left = [run for run in runs if measuring.found(found, run, root) is None]
    took = planning.seconds_of(left, tuned)
    time = (
        f"an unknown time, as some tuning runs are not finished: {command}"
        if took is None
        else f"about {duration(took / jobs)} with {jobs} at a time ({duration(took)} one after the other)"
    )
    say(f"{len(runs)} runs of the test seeds, {len(left)} to make, would take {time}.")


def _judge(name: str, found: Recipe[Any], write: bool) -> None:
    """Say what the values of the committed result come to by the statements and rules of today."""
    from selfloop.artifacts import write_json
    from selfloop.claims import results, table

    before = results.committed(found)
    if before is None:
        raise UserError(
            f"There is no committed result of recipe '{found.name}': make it with 'selfloop claim {name} --write'."
        )
    result = results.judged_anew(found, before)
    for part in table.shown(result):
        console.print(part)
    words = {each["sentence"]: each["word"] for each in before["statements"]}
    for each in result["statements"]:
        if (word := words.get(each["sentence"])) not in (None, each["word"]):
            say(f"\n{each['sentence']} It was '{word}' and is '{each['word']}'.")
    if results.is_stale(found, result):
        say("\nIt is of other settings or seeds than the recipe has now: only new runs help that.")
    if write:
        place = results.place_beside(found)
        write_json(place.parent, result, place.name)
        say(f"\n{place}")


def _check_alone(modes: Mapping[str, bool], options: Mapping[str, bool]) -> None:
    """Refuse options that what makes no run does not read."""
    chosen, *others = [name for name, given in {**modes, **options}.items() if given] or [""]
    if chosen in modes and others:
        raise UserError(f"{chosen} makes no run: leave out {others[0]}.")


def _check(recipe: Recipe[Any], arms: Sequence[str], seeds: Sequence[int], tuning: bool, write: bool) -> None:
    """Refuse what cannot be measured, before anything starts."""
    claims = recipe.claims
    if claims is None:
        raise UserError(f"Recipe '{recipe.name}' declares no claims: give it some (selfloop.claims.Claims).")
    if tuning and write:
        raise UserError("What the tuning seeds come to is no result: leave out --write or --tuning.")
    if tuning and not claims.tuning:
        raise UserError(f"The claims of recipe '{recipe.name}' have no tuning seeds: leave out --tuning.")
    for arm in arms:
        if arm not in claims.arms:
            raise unknown("arm", arm, claims.arms)
    known = claims.tuning if tuning else claims.seeds
    for seed in seeds:
        if seed not in known:
            raise UserError(
                f"Seed {seed} is none of the {'tuning' if tuning else 'test'} seeds of recipe '{recipe.name}': they "
                f"are {', '.join(map(str, known))}."
            )


def _line(outcome: Outcome) -> str:
    said = outcome.halted or outcome.failed
    measured = ", ".join(f"{name} {value:.3g}" for name, value in outcome.metrics.items() if name != HALTED)
    took = "" if outcome.seconds is None else f", {outcome.seconds:.0f} s"
    return f"{outcome.run}: {said or measured}{took}"
