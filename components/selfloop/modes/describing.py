"""What a pipeline is for and what its form takes, in Markdown: KFP's UI renders a pipeline's description, and shows of
the inputs in the form of a run only names and types.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.fields import FieldInfo

from selfloop.environments import environments
from selfloop.recipe import Recipe
from selfloop.strategies import is_list, is_strategy

BOUNDS = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< "}
ROW = "| {} | {} | {} |"


def described(recipe: Recipe[Any], form: Mapping[str, tuple[str, Any, str]]) -> str:
    """A recipe in a sentence, and a table of its inputs, whose defaults the form shows."""
    infos = {recipe.settings.in_form(name): (name, info) for name, info in recipe.settings.inputs().items()}
    rows = [ROW.format("input", "what it is", "values"), "|-|-|-|"]
    for name, (_, _, text) in sorted(form.items()):
        values = _values(*infos[name]) if name in infos else ""
        rows.append(ROW.format(f"`{name}`", _cell(text), _cell(values)))
    return "\n".join([_cell(recipe.summary), "", *rows])


def _values(name: str, info: FieldInfo) -> str:
    """What a setting may be: its choices, or its bounds."""
    kind: Any = info.annotation
    if name == "environment":
        return ", ".join(environments())
    if kind is bool:
        return "true, false"
    if typing.get_origin(kind) is Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if is_strategy(kind) or is_list(kind):
        return ", ".join((typing.get_args(kind)[0] if is_list(kind) else kind).members())
    bounds = [(sign, getattr(each, word, None)) for each in info.metadata for word, sign in BOUNDS.items()]
    return ", ".join(f"{sign}{bound:g}" for sign, bound in bounds if bound is not None)


def _cell(text: str) -> str:
    """Text as it stands, whatever of it Markdown would take for its own."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", text)
