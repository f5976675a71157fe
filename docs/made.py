"""The parts of the documentation that are made of what the code says: nothing of it is written twice."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import typer
from selfloop import cli, stages, strategies
from selfloop.claims import table as claims
from selfloop.cli import describe
from selfloop.cli.lists import listed
from selfloop.environments import environments as all_environments
from selfloop.profiles import profiles as all_profiles
from selfloop.recipe import Recipe
from selfloop.recipe import recipes as all_recipes
from selfloop.settings import Settings
from selfloop.strategies import Strategy
from typer.cli import get_docs_for_click

PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = (columns, ["-"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Text that does not end a cell; a paper leads to its page."""
    plain = " ".join(text.replace("``", "`").replace("|", "\\|").split())
    return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", plain)


def recipes() -> str:
    """Every loop: what it is, its forms, what was measured of it, and its settings."""
    return claims.in_full() + "".join(map(recipe, all_recipes().values()))


def recipe(found: Recipe[Any]) -> str:
    """A section on a recipe."""
    parts = [f"\n## {found.name}\n\n{cell(found.summary)} {cell(found.paper)}\n\n    selfloop run {found.name}\n\n"]
    if found.forms:
        forms = ((f"`--form {name}`", form.summary, form.paper) for name, form in found.forms.items())
        parts.append(table(("form", "what it is", "paper"), forms) + "\n")
    settings = found.resolve()
    own = ((f"`{name}`", info.description or "", said(getattr(settings, name))) for name, info in top(settings))
    parts.append(table(("setting", "what it is", "default"), own) + "\n")
    changed = (
        (f"`{name}.{key}`", said(value))
        for name in settings.stages()
        for key, value in getattr(settings, name).model_dump(mode="json", exclude_unset=True).items()
    )
    parts.append("Parameters of its stages (`selfloop run " + found.name + " --dry-run` shows all) that differ from ")
    parts.append("those of the [stages](stages.md):\n\n" + table(("parameter", "default here"), changed))
    return "".join(parts)


def top(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The fields of settings that are no stage's parameters."""
    fields = type(settings).model_fields
    return ((name, fields[name]) for name in fields if name not in settings.stages())


def said(value: Any) -> str:
    """A value as a person writes it."""
    return f"`{str(value) if isinstance(value, Strategy) else json.dumps(value, default=str)}`"


def all_stages() -> str:
    """Every stage: a table of them, and the parameters of each."""
    parts = [stages.as_markdown()]
    for name, stage in stages.stages().items():
        doc = inspect.getdoc(stage.function) or ""
        rows = ((f"`{each}`", kind, f"`{default}`", about) for each, kind, default, about in stage.rows())
        parts.append(f"\n## {name}\n\n{doc.replace('``', '`')}\n\nImage `{stage.image}`.\n\n")
        parts.append(table(("parameter", "type", "default", "what it is"), rows))
    return "".join(parts)


def all_strategies() -> str:
    """Every kind of strategy, and its members with their parameters."""
    listed()  # imports the packages that define kinds
    parts = []
    for kind in sorted(strategies.kinds().values(), key=lambda kind: kind.several()):
        own = describe.own(kind).replace("_", "\\_").replace("*", "\\*")
        parts.append(f"\n## {kind.several()}\n\n{cell(kind.summary())}\n\n{strategies.as_markdown(kind)}\n{own}\n")
        for name, member in kind.members().items():
            doc = (inspect.getdoc(member) or "").replace("``", "`")
            rows = [(f"`{each}`", f"`{default or 'required'}`", about) for each, default, about in member.parameters()]
            parts.append(f"\n### {name}\n\n{doc}\n\n")
            parts.append(table(("parameter", "default", "what it is"), rows) if rows else "")
    return "".join(parts)


def environments() -> str:
    """Every environment."""
    rows = ((f"`{name}`", kind.summary) for name, kind in all_environments().items())
    return table(("environment", "what it is"), rows)


def profiles() -> str:
    """Every profile, and what it gives the stages."""
    parts = []
    for each in all_profiles().values():
        parts.append(f"\n## {each.name}\n\n{each.description}\n\n")
        parts.append(table(("stages", "image", *describe.COLUMNS, "also"), describe.resources_by_stage(each)))
    return "".join(parts)


def commands() -> str:
    """The help of every command."""
    command: Any = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="selfloop")
    return str(text).partition("\n")[2]


class Source(NamedTuple):
    """What a paper is the source of: which kind of thing, its name, what it does, how it is asked for, and what was
    measured of its claims.
    """

    kind: str
    name: str
    about: str
    command: str
    word: str = ""


def papers() -> str:
    """What is built after which paper: loops and their forms, then the parts of a round."""
    loops = by_paper(loop_sources())
    shown = ((paper, each.kind, each.name, each.about, f"`{each.command}`", each.word or "–") for paper, each in loops)
    parts = by_paper(part_sources())
    return (
        "## Loops and their forms\n\n"
        + table(("paper", "is", "name", "what it does", "command", "claims that hold"), shown)
        + "\n## Parts of a round\n\n"
        + table(
            ("paper", "is", "what it does", "command"),
            ((paper, f"{each.kind} {each.name}", each.about, f"`{each.command}`") for paper, each in parts),
        )
    )


def by_paper(sources: Iterable[tuple[str, Source]]) -> list[tuple[str, Source]]:
    """Each paper that a text names, with what it is the source of, in the order of the papers."""
    found = ((f"arXiv:{number}", source) for text, source in sources for number in dict.fromkeys(PAPER.findall(text)))
    return sorted(found, key=lambda each: each[0])


def loop_sources() -> Iterator[tuple[str, Source]]:
    """Texts of recipes and forms that name papers."""
    for name, each in all_recipes().items():
        word = claims.in_short(each)
        yield f"{doc_of(each.module)} {each.paper}", Source("loop", name, each.summary, f"selfloop run {name}", word)
        for form, about in each.forms.items():
            yield about.paper, Source("form", form, about.summary, f"selfloop run {name} --form {form}")


def part_sources() -> Iterator[tuple[str, Source]]:
    """Texts of strategies, environments and stages that name papers."""
    listed()  # imports the packages that define kinds
    slots = dict(settings_by_kind())
    for kind in strategies.kinds().values():
        for name, member in kind.members().items():
            command = slots.get(kind.kind, f"selfloop list {kind.several()} {{}}").format(name)
            yield (
                f"{doc_of(member.__module__)} {inspect.getdoc(member)}",
                Source(kind.kind, name, describe.sentence(member), command),
            )
    for name, environment in all_environments().items():
        yield doc_of(environment.__module__), Source("environment", name, environment.summary, f"--environment {name}")
    for name, stage in stages.stages().items():
        yield doc_of(stage.function.__module__), Source("stage", name, stage.summary, f"selfloop list stages {name}")


def doc_of(module: str) -> str:
    """What a module says of itself."""
    return importlib.import_module(module).__doc__ or ""


def settings_by_kind() -> Iterator[tuple[str, str]]:
    """By kind of strategy, the option that chooses one in a recipe that has a slot for it."""
    for each in all_recipes().values():
        for part, params in each.settings.stages().items():
            for key, info in params.model_fields.items():
                for kind in filter(strategies.is_strategy, (info.annotation, *typing.get_args(info.annotation))):
                    yield kind.kind, f"--set {part}.{key}={'+' * strategies.is_list(info.annotation)}{{}}"


PAGES: Mapping[str, Callable[[], str]] = {
    "recipes": recipes,
    "stages": all_stages,
    "strategies": all_strategies,
    "environments": environments,
    "profiles": profiles,
    "commands": commands,
    "papers": papers,
}
"""What can stand in a page, by its name."""
