"""What there is: recipes, stages, environments."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from selfloop.cli.app import app, console
from selfloop.recipe import recipes


@app.command("recipes")
def recipes_() -> None:
    """List the loops."""
    table = Table("recipe", "what it does", "paper", box=None)
    for name, recipe in recipes().items():
        table.add_row(name, recipe.summary, recipe.paper)
    console.print(table)


@app.command("stages")
def stages_(
    name: Annotated[str | None, typer.Argument(help="A stage, for its inputs, outputs and parameters.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the README has them.")] = False,
) -> None:
    """List the stages, or describe one."""
    from selfloop.stages import as_markdown, find_stage, stages

    if markdown:
        sys.stdout.write(as_markdown())
        return
    if name is None:
        table = Table("stage", "what it does", "image", box=None)
        for stage in stages().values():
            table.add_row(stage.name, stage.summary, stage.image)
        console.print(table)
        return
    stage = find_stage(name)
    console.print(f"[bold]{stage.name}[/]  {stage.summary}\n")
    for title, kinds in (("inputs", stage.inputs), ("outputs", stage.outputs)):
        console.print(f"{title}: " + (", ".join(f"{n} ({kind.__name__})" for n, kind in kinds.items()) or "none"))
    table = Table("parameter", "type", "default", "what it is", box=None)
    for row in stage.rows():
        table.add_row(*row)
    console.print(table)


@app.command("guards")
def guards_() -> None:
    """List what is watched each round, with the lines beyond which a person must approve and the loop halts."""
    from selfloop.guards import guards

    table = Table("guard", "what it watches", "warns", "halts", box=None)
    for guard in guards().values():
        side = "from" if guard.bad == "high" else "down to"
        table.add_row(guard.name, guard.watches, f"{side} {guard.warn:g}", f"{side} {guard.halt:g}")
    console.print(table)


@app.command("environments")
def environments_(
    name: Annotated[str | None, typer.Argument(help="An environment, for three of its tasks.")] = None,
) -> None:
    """List the tasksets, or show tasks of one."""
    from selfloop.environments import environments, find_environment

    if name is None:
        table = Table("environment", "what it is", box=None)
        for known, kind in environments().items():
            table.add_row(known, kind.summary)
        console.print(table)
        return
    environment = find_environment(name)
    table = Table("level", "prompt", "answer", box=None)
    levels = [1] if environment.levels is None else environment.levels[: min(3, len(environment.levels))]
    for level in levels:
        for task in environment.tasks(level, 1, seed=0):
            table.add_row(str(level), task.prompt, task.answer)
    console.print(table)
