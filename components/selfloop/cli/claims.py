"""Measuring what the paper of a recipe claims."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from selfloop import machine
from selfloop.claims.measuring import HALTED, Outcome
from selfloop.cli.app import app, console, resumable, say
from selfloop.cli.options import RUNS, RecipeName, check_output
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.recipe import Recipe, find_recipe


@app.command()
def claim(
    recipe: RecipeName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the runs; default: runs/claims/RECIPE.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at a time; default: the cores there are.")
    ] = None,
    arms: Annotated[list[str], typer.Option("--arm", help="Run only this arm; may be given again.")] = [],  # noqa: B006
    seeds: Annotated[list[int], typer.Option("--seed", help="Run only this seed; may be given again.")] = [],  # noqa: B006
    tuning: Annotated[
        bool, typer.Option("--tuning", help="Run the tuning seeds; what comes out is no result.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the result beside the recipe.")] = False,
) -> None:
    """Measure what a recipe's paper claims: arms, seeds, intervals, one word. The same command resumes it."""
    from selfloop.artifacts import code_digest, write_json
    from selfloop.claims import measuring, results, table

    found = find_recipe(recipe)
    _check(found, arms, seeds, tuning, write)
    assert found.claims is not None
    chosen = found.claims.tuning if tuning else found.claims.seeds
    root = output or RUNS / "claims" / found.name
    check_output(root, is_folder=True)
    whole, parts = measuring.planned(found, chosen), measuring.planned(found, seeds or chosen, arms)
    for run in whole:
        found.check(measuring.settings_of(found, run))
    with measuring.held(root), resumable(root):
        outcomes = {run: outcome for run in whole if (outcome := measuring.found(found, run, root))}
        left = [run for run in parts if run not in outcomes]
        if write and (lacking := len(whole) - len(outcomes) - len(left)):
            raise UserError(f"{lacking} of {len(whole)} runs would lack: leave out --arm and --seed, or --write.")
        say(f"{len(whole)} runs, {len(outcomes)} of them finished, {len(left)} to make, in {root}.")
        with closing(measuring.measured(recipe, found, left, root, jobs or machine.cores())) as ended:
            for number, outcome in enumerate(ended, 1):
                outcomes[outcome.run] = outcome
                say(f"{number}/{len(left)} {_line(outcome)}")
    # which folder held the runs, and how many were made at a time, is of this machine
    command = shlex.join(
        ["selfloop", "claim", recipe, *(["--tuning"] if tuning else []), *(["--write"] if write else [])]
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
