"""What a pipeline is for and what its form takes, in Markdown: KFP's UI renders a pipeline's description, and shows of
the inputs in the form of a run only names and types.

The UI shows it in a card of some sixty letters a line that cannot be scrolled. So it is short: what an input of a stage
is its name says, and the card what it may be.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.fields import FieldInfo

from selfloop.recipe import Recipe
from selfloop.strategies import is_list, is_strategy

BOUNDS = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< "}
LOOP = "loop"
FORM = "Inputs of a run; `docs/kubeflow-ui.md` says more:"


def described(recipe: Recipe[Any], form: Mapping[str, tuple[str, Any, str]]) -> str:
    """A recipe in a sentence, and the inputs of its form, whose defaults the form shows: those of the loop, each with
    what it is, then those of each stage, with what they may be.
    """
    of_loop: list[str] = []
    of_stages: dict[str, list[str]] = {}
    for name, (group, text, values) in sorted(_inputs(recipe, form).items()):
        said = f"`{name}` ({_plain(values)})" if values else f"`{name}`"
        if group == LOOP:
            of_loop.append(f"{said}: {_plain(text)}")
        else:
            of_stages.setdefault(group, []).append(said)
    lines = [*of_loop, *(", ".join(of_it) for of_it in of_stages.values())]
    return "\n".join([_plain(recipe.summary), "", FORM, "", *(f"- {line}" for line in lines)])


def arguments(recipe: Recipe[Any], form: Mapping[str, tuple[str, Any, str]]) -> dict[str, str]:
    """What the spec of a pipeline says of each input of its form: the stage that it is for, or that it is the loop's,
    what it is, and what it may be. ``finetune: Optimizer steps. (≥ 1)``
    """
    return {
        name: f"{group}: {text} ({values})" if values else f"{group}: {text}"
        for name, (group, text, values) in _inputs(recipe, form).items()
    }


def _inputs(recipe: Recipe[Any], form: Mapping[str, tuple[str, Any, str]]) -> dict[str, tuple[str, str, str]]:
    """Of each input its group, what it is and what it may be."""
    infos = {recipe.settings.in_form(name): (name, info) for name, info in recipe.settings.inputs().items()}
    found = {}
    for name, (_, _, text) in form.items():
        dotted, info = infos.get(name, (name, None))
        found[name] = (dotted.rpartition(".")[0] or LOOP, text, values_of(dotted, info) if info else "")
    return found


def values_of(name: str, info: FieldInfo) -> str:
    """What a setting may be: its choices, or its bounds."""
    kind: Any = info.annotation
    if name == "environment":
        return "selfloop list environments"  # more than the card has room for
    if kind is bool:
        return "true, false"
    if typing.get_origin(kind) is Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if is_strategy(kind) or is_list(kind):
        return ", ".join((typing.get_args(kind)[0] if is_list(kind) else kind).members())
    bounds = [(sign, getattr(each, word, None)) for each in info.metadata for word, sign in BOUNDS.items()]
    return ", ".join(f"{sign}{bound:g}" for sign, bound in bounds if bound is not None)


def _plain(text: str) -> str:
    """Text as it stands, whatever of it Markdown would take for its own."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", text)
