"""What there is: recipes, stages, profiles, guards, environments."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from selfloop.cli.app import app, console
from selfloop.environments import Environment, environments, find_environment
from selfloop.errors import UserError
from selfloop.profiles import Profile
from selfloop.recipe import recipes
from selfloop.records import Task


@app.command("recipes")
def recipes_(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the README has them.")] = False,
) -> None:
    """List the loops with their forms, and what was measured of their papers' claims."""
    from selfloop.claims.table import as_markdown, state

    if markdown:
        sys.stdout.write(as_markdown())
        return
    table = Table(Column("recipe", no_wrap=True), "what it does", "paper", "claims that hold", box=None)
    found = recipes()
    states = {name: state(recipe) for name, recipe in found.items()}
    for name, recipe in found.items():
        table.add_row(name, recipe.summary, recipe.paper, states[name])
        for form, about in recipe.forms.items():
            table.add_row(f"  --form {form}", about.summary, about.paper, "")
    console.print(table)
    for name in (name for name, known in states.items() if known == "stale"):
        console.print(
            f"The result of '{name}' is stale: 'selfloop claim {name} --write' makes it anew.", soft_wrap=True
        )


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


@app.command("profiles")
def profiles_(
    name: Annotated[
        str | None, typer.Argument(help="A profile, or a .toml file, for what it gives each stage.")
    ] = None,
) -> None:
    """List what hardware there are profiles for, or show what one gives each stage."""
    from selfloop.profiles import find_profile, profiles

    if name is None:
        table = Table("profile", "what it is", box=None)
        for known in profiles().values():
            table.add_row(known.name, known.description)
        console.print(table)
        console.print("\nselfloop profiles NAME shows what one gives each stage; one of your own is a .toml file.")
        return
    profile = find_profile(name)
    console.print(Text(f"{profile.name}  {profile.description}".rstrip() + "\n"))
    table = Table("stage", "image", *COLUMNS, Column("also", overflow="fold"), box=None)
    for row in resources_by_stage(profile):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text(f"\nimages  {profile.registry.prefix}/IMAGE:{profile.registry.tag}"))
    if node := profile.nodes.model_dump(exclude_unset=True):
        console.print(Text(f"nodes   {', '.join(f'{key} {value}' for key, value in node.items())}"))
    for stage, values in profile.settings.items():
        console.print(Text(f"sets    {', '.join(f'{stage}.{key}={value}' for key, value in values.items())}"))


COLUMNS = ("cpu", "memory", "gpu", "shm")
"""The resources that have a column of their own."""


def resources_by_stage(profile: Profile) -> list[tuple[str, ...]]:
    """What a profile gives the stages that come with selfloop, as rows; stages that are given the same share one."""
    from selfloop.stages import stages

    alike: dict[tuple[str, ...], list[str]] = {}
    for stage in stages().values():
        given = profile.resources(stage)
        rest = given.model_dump(exclude={*COLUMNS}, exclude_defaults=True)
        also = "\n".join(f"{name} {shown(value)}" for name, value in rest.items())
        row = (stage.image, *(str(getattr(given, name) or "-") for name in COLUMNS), also)
        verbs = alike.setdefault(row, [])
        verbs += [stage.verb] if stage.verb not in verbs else []
    return [(", ".join(verbs), *row) for row, verbs in alike.items()]


def shown(value: Any) -> str:
    """A field of a stage's resources, as a person reads it."""
    if isinstance(value, dict):
        return " ".join(f"{key}={label}" for key, label in value.items())
    if isinstance(value, list):
        return " ".join(taint.get("key", "any") for taint in value)
    return str(value)


@app.command("guards")
def guards_() -> None:
    """List what is watched each round, with the lines beyond which a person must approve and the loop halts."""
    from selfloop.guards import Guard

    table = Table("guard", "what it watches", "warns", "halts", box=None)
    for name in Guard.members():
        guard = Guard.parse(name)
        side = "from" if guard.bad == "high" else "down to"
        table.add_row(name, guard.summary(), f"{side} {guard.warn:g}", f"{side} {guard.halt:g}")
    console.print(table)


@app.command("environments")
def environments_(
    name: Annotated[str | None, typer.Argument(help="An environment, for three of its tasks.")] = None,
) -> None:
    """List the tasksets, or show tasks of one."""
    if name is None:
        table = Table("environment", "what it is", box=None)
        for known, kind in environments().items():
            table.add_row(known, kind.summary)
        console.print(table)
        console.print("\nselfloop environments NAME shows three tasks of one; one of your own is module:Class.")
        return
    environment = find_environment(name)
    shown = three_tasks(environment)
    scale = environment.levels
    told = "no levels" if scale is None else f"levels {scale[0]} to {scale[-1]}"
    console.print(f"{name}  {environment.summary}; {told}", soft_wrap=True, markup=False)
    for task in shown:
        table = Table.grid(padding=(0, 2))
        table.add_row("prompt", shortened(task.prompt))
        table.add_row("answer", shortened(task.answer) if task.answer else Text("none is known"))
        for what, completion in tried(environment, task, shown).items():
            grade = environment.check(task, completion)
            table.add_row(what, shortened(completion, lines=4))
            table.add_row(
                "", Text(f"{'right' if grade.ok else 'wrong'}, score {grade.score:.3g}: {grade.reason}", "bold")
            )
        console.print(f"\n[bold]level {task.level}[/]")
        console.print(Padding(table, (0, 0, 0, 2)))


def three_tasks(environment: Environment) -> list[Task]:
    """Tasks of the first three levels that have some, or more of the first where there are not as many."""
    found: list[Task] = []
    levels = environment.levels or range(1, 2)
    for level in levels:
        with suppress(UserError):  # a data set need not have a task of every level
            found += environment.tasks(level, 1, seed=level)
        if len(found) == 3:
            return found
    first = found[0].level if found else levels[0]
    more = [task for task in environment.tasks(first, 3, seed=first) if task not in found]
    return found + more[: 3 - len(found)]


def tried(environment: Environment, task: Task, others: Sequence[Task]) -> dict[str, str]:
    """Completions to try the verifier on: one that should be right, and wrong ones."""
    completions: dict[str, str] = {}
    if task.answer:
        right = environment.demonstration(task)
        before, _, behind = right.rpartition(task.answer)
        damaged = re.sub(r"(\w)(?=\W*$)", r"\1\1", task.answer)  # its last letter or digit, twice
        completions |= {"right one": right, "damaged": f"{before}{damaged}{behind}"}
    other = next((one for one in others if one.answer not in ("", task.answer)), None)
    if other is not None:
        completions["another's"] = environment.demonstration(other)
    return completions | {"empty": ""}


def shortened(text: str, lines: int = 16) -> Text:
    """A text in whole lines as wide as the terminal; of many lines, the first and the last."""
    width = max(console.width - 16, 20)
    shown = [piece for line in text.splitlines() for piece in (textwrap.wrap(printable(line), width) or [""])]
    if len(shown) > lines + 1:
        left_out = len(shown) - lines
        shown[lines // 2 : -(lines - lines // 2)] = [f"... {left_out} more lines ..."]
    return Text("\n".join(shown) or "(nothing)")


def printable(line: str) -> str:
    """A line that cannot move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line.expandtabs())
