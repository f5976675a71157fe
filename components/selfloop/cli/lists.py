"""What there is: ``selfloop list`` lists every kind of thing that has a name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, NamedTuple

import typer
from rich.table import Column, Table
from rich.text import Text

from selfloop.cli import describe
from selfloop.cli.app import app, console, say
from selfloop.cli.options import TrackingUri
from selfloop.environments import environments
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.places import RUNS, use_registry
from selfloop.recipe import find_recipe, recipes
from selfloop.strategies import Strategy, as_markdown, kinds

DEFINING = ("verify", "filter", "guards", "generate", "propose", "finetune", "promote", "report")
"""The packages of selfloop that define kinds of strategies."""

Row = tuple[str, ...]


class Listed(NamedTuple):
    """A kind of thing: what it is, its columns, a row for each, what is shown of one, its table in Markdown, how one of
    one's own is written, and where there are none, where that is so.
    """

    summary: str
    columns: Row
    rows: Callable[[], Iterable[Row]]
    one: Callable[[str], None]
    markdown: Callable[[], str] | None = None
    own: str = ""
    none: str = ""


@app.command("list")
def list_(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="What to list; without it: what there is.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them, to describe.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the README has them.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """List loops, runs, recipes, stages, verifiers, or what else there is; or describe one of them."""
    use_registry(tracking_uri, None, RUNS)
    known = listed()
    if kind is None:
        table(("kind", "what it is"), [(each, about.summary) for each, about in known.items()])
        say("\nselfloop list KIND lists them; selfloop show NAME describes one.")
        return
    plural = {**{each.removesuffix("s"): each for each in known}, **{k.kind: k.several() for k in kinds().values()}}
    kind = plural.get(kind, kind)
    if kind not in known:
        raise unknown("kind", kind, known)
    about = known[kind]
    given = context.get_parameter_source("tracking_uri")
    if kind != "loops" and given is not None and given.name == "COMMANDLINE":
        raise UserError(f"No registry is asked for {kind}: leave out --tracking-uri.")
    if name is not None:
        about.one(name)
    elif not markdown:
        rows = list(about.rows())
        if rows:
            table(about.columns, rows)
        else:
            say(f"There are no {kind}{about.none}.")
        if about.own:
            say(f"\n{about.own}")
    elif about.markdown is None:
        raise UserError(f"There is no table of {kind} in Markdown: leave out --markdown.")
    else:
        sys.stdout.write(about.markdown())


def listed() -> dict[str, Listed]:
    """What can be listed, by the word for several of it."""
    from selfloop import stages
    from selfloop.claims import table as claims

    for package in DEFINING:
        importlib.import_module(f"selfloop.{package}")
    from selfloop.cli import made

    plain = {
        "loops": Listed(
            "What was run: a name in MLflow's registry, its versions, and which of them is in force.",
            ("loop", "versions", "in force", "the last round"),
            made.loops,
            made.show_loop,
            none=" in the registry of this folder's runs; --tracking-uri names another",
        ),
        "runs": Listed(
            f"Folders of runs on this machine, in {RUNS}.",
            ("run", "what", "rounds", "state"),
            made.runs,
            made.show_run,
            none=f" in {RUNS}",
        ),
        "recipes": Listed(
            "Loops, and what was measured of their papers' claims.",
            ("recipe", "what it does", "paper", "claims that hold"),
            _recipes,
            describe.recipe,
            claims.as_markdown,
        ),
        "forms": Listed(
            "Named settings of a recipe, such as those of another paper.",
            ("recipe", "form", "what it is", "paper"),
            _forms,
            _forms_of,
        ),
        "stages": Listed(
            "What a round is made of: each is a function, a KFP component and a command of a container.",
            ("stage", "what it does", "image"),
            lambda: ((each.name, each.summary, each.image) for each in stages.stages().values()),
            describe.stage,
            stages.as_markdown,
        ),
        "environments": Listed(
            "Tasksets with their protocol and what says whether an answer is right; one of your own is module:Class.",
            ("environment", "what it is"),
            lambda: ((name, kind.summary) for name, kind in environments().items()),
            describe.environment,
        ),
        "profiles": Listed(
            "Hardware that stages run on in a cluster; one of your own is a .toml file.",
            ("profile", "what it is"),
            _profiles,
            describe.profile,
        ),
    }
    chosen = {kind.several(): _of_strategies(kind) for kind in kinds().values()}
    return plain | dict(sorted(chosen.items()))


def table(columns: Row, rows: Iterable[Row]) -> None:
    """Show rows; the first column is never cut."""
    shown = Table(Column(columns[0], no_wrap=True), *columns[1:], box=None, padding=(0, 2, 0, 0))
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)


def _of_strategies(kind: type[Strategy]) -> Listed:
    return Listed(
        describe.sentence(kind),
        (kind.kind, "what it is, its parameters, what it needs"),
        lambda: ((name, describe.in_short(member)) for name, member in kind.members().items()),
        partial(describe.strategy, kind),
        partial(as_markdown, kind),
        describe.own(kind),
    )


def _recipes() -> Iterable[Row]:
    from selfloop.claims.table import state

    for name, recipe in recipes().items():
        yield name, recipe.summary, recipe.paper, state(recipe)
        for form, about in recipe.forms.items():
            yield f"  --form {form}", about.summary, about.paper, ""


def _forms() -> Iterable[Row]:
    return (
        (recipe.name, name, form.summary, form.paper)
        for recipe in recipes().values()
        for name, form in recipe.forms.items()
    )


def _forms_of(name: str) -> None:
    forms = find_recipe(name).forms
    if not forms:
        raise UserError(f"The recipe '{name}' has no forms: run it as it is.")
    table(("form", "what it is", "paper"), [(each, form.summary, form.paper) for each, form in forms.items()])


def _profiles() -> Iterable[Row]:
    from selfloop.profiles import profiles

    return ((each.name, each.description) for each in profiles().values())
