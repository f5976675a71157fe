"""One of what there is: what ``selfloop list KIND NAME`` shows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from selfloop.cli.app import console, say
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.profiles import Profile
from selfloop.recipe import find_recipe
from selfloop.records import Task
from selfloop.strategies import Strategy


def recipe(name: str) -> None:
    """What a loop does, its forms, and what was measured of its paper's claims."""
    from selfloop.claims.table import TO_JUDGE, state

    found = find_recipe(name)
    say(f"{found.name}  {found.summary} {found.paper}".rstrip())
    said = state(found)
    say(f"\nimproves {', '.join(found.roles)}; claims that hold: {said}")
    if said == "stale":
        say(f"Its result is stale: 'selfloop claim {found.name} --write' makes it anew.")
    if said == TO_JUDGE:
        say(f"Its statements were changed: 'selfloop claim {found.name} --judge --write' gives them their words.")
    for form, about in found.forms.items():
        say(f"--form {form}  {about.summary} {about.paper}".rstrip())
    say(f"\nparameters of {', '.join(found.settings.stages())}: selfloop run {name} --dry-run shows them.")


def stage(name: str) -> None:
    """The inputs, outputs and parameters of a stage."""
    from selfloop.stages import find_stage

    found = find_stage(name)
    say(f"{found.name}  {found.summary}\n")
    for title, kinds in (("inputs", found.inputs), ("outputs", found.outputs)):
        say(f"{title}: " + (", ".join(f"{n} ({kind.__name__})" for n, kind in kinds.items()) or "none"))
    _parameters(("parameter", "type", "default", "what it is"), found.rows())


def strategy(kind: type[Strategy], name: str) -> None:
    """What a strategy does, what it needs, and its parameters."""
    found = kind.find(name)
    say(f"{found.spelling()}  {sentence(found)}")
    if found.needs:
        say(f"\nneeds {found.needs}")
    for what, told in found.facts().items():
        say(f"\n{what}: {told}")
    if rows := found.parameters():
        _parameters(
            ("parameter", "default", "what it is"),
            [(parameter, default or "required", about) for parameter, default, about in rows],
        )


def sentence(found: type[Strategy]) -> str:
    """What a strategy is, as a terminal shows it."""
    return found.summary().replace("``", "'")


def own(kind: type[Strategy]) -> str:
    """How one of one's own is written."""
    base, call = f"{kind.__module__}.{kind.__name__}", kind.function()
    shown = str(call).replace("'", "").replace("pa.", "pyarrow.")
    function = f", or a function {shown} with its parameters behind a '*'" if call else ""
    return f"One of your own is module:attribute or file.py:attribute: a subclass of {base}{function}."


def in_short(found: type[Strategy]) -> str:
    """The same in a few lines."""
    parameters = " ".join(f"{name}={default}" for name, default, _ in found.parameters())
    needs = f"needs {found.needs}" if found.needs else ""
    return "\n".join(line for line in (sentence(found), parameters, needs) if line)


def _parameters(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print()
    console.print(table)


def profile(name: str) -> None:
    """What a profile gives each stage."""
    from selfloop.profiles import find_profile

    found = find_profile(name)
    say(f"{found.name}  {found.description}".rstrip() + "\n")
    table = Table("stage", "image", *COLUMNS, Column("also", overflow="fold"), box=None)
    for row in resources_by_stage(found):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text(f"\nimages  {found.registry.prefix}/IMAGE:{found.registry.tag}"))
    if node := found.nodes.model_dump(exclude_unset=True):
        console.print(Text(f"nodes   {', '.join(f'{key} {value}' for key, value in node.items())}"))
    for stage, values in found.settings.items():
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


def environment(name: str) -> None:
    """Three tasks of an environment, with completions that are right and wrong."""
    found = find_environment(name)
    tasks = three_tasks(found)
    scale = found.levels
    levels = "no levels" if scale is None else f"levels {scale[0]} to {scale[-1]}"
    say(f"{name}  {found.summary}; {levels}")
    for task in tasks:
        table = Table.grid(padding=(0, 2))
        table.add_row("prompt", shortened(task.prompt))
        table.add_row("answer", shortened(task.answer) if task.answer else Text("none is known"))
        for what, completion in tried(found, task, tasks).items():
            grade = found.check(task, completion)
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
