"""How what was measured of a claim reads: on a terminal of 80 columns, and in the README."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfloop.claims.results import committed, is_stale
from selfloop.recipe import recipes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from selfloop.recipe import Recipe

CENSORED = "*"
"""Stands behind a value that a run did not come to."""


def shown(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A result for the terminal: by statement the sentence, its arms, its comparisons, its word."""
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    for statement in result["statements"]:
        yield Text(f"\n{statement['sentence']}")
        yield Text(f"{statement['metric']}, {_hoped(statement)}", style="dim")
        several = len({each["setup"] for each in statement["arms"]}) > 1
        table = Table("arm", Column("mean", no_wrap=True), "by seed", box=None, padding=(0, 2, 0, 0))
        for each in statement["arms"]:
            table.add_row(*map(Text, (_named(each, "arm", several), spread(each), " ".join(values(each)))))
        yield Padding(table, (0, 0, 0, 2))
        for each in statement["differences"]:
            less = f"less {_named(each, 'baseline', several)}: {spread(each, '+')}"
            yield Text(f"  {less} by seed, at {statement['confidence']:.1%}")
        yield Text.assemble("  ", (statement["word"], "bold"), f": {statement['note']}" * bool(statement["note"]))
    if any(each["censored"] for statement in result["statements"] for each in statement["arms"]):
        yield Text(f"\n{CENSORED} the run did not come to a value; what the claim declares for that stands for it.")
    for what in ("halted", "failed"):
        for run, reason in result[what].items():
            yield Text(f"\n{what}: {run}: {reason}")


def values(arm: Mapping[str, Any]) -> list[str]:
    """The values of an arm by seed, those marked that a run did not come to."""
    censored = set(arm["censored"])
    by_seed = sorted((int(seed), value) for seed, value in arm["values"].items())
    return [f"{value:.3g}{CENSORED * (seed in censored)}" for seed, value in by_seed]


def spread(estimate: Mapping[str, Any], sign: str = "") -> str:
    """A mean with its interval."""
    mean, low, high = (estimate[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "none"
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    return f"{mean:{sign}.3g} [{low:{sign}.3g}, {high:{sign}.3g}]"


def _hoped(statement: Mapping[str, Any]) -> str:
    expected = statement["expected"]
    return expected if expected.startswith("within") else f"{expected} is better"


def _named(each: Mapping[str, Any], what: str, with_setup: bool) -> str:
    return f"{each['setup']}: {each[what]}" if with_setup else str(each[what])


def state(recipe: Recipe[Any]) -> str:
    """In a few words: how many of a recipe's claims hold, or why that is not known."""
    result = committed(recipe)
    if result is None:
        return "none" if recipe.claims is None else "not measured"
    if is_stale(recipe, result):
        return "stale"
    words = [statement["word"] for statement in result["statements"]]
    return f"{words.count('holds')} of {len(words)}"


def as_markdown() -> str:
    """The table of the recipes in the README, with what was measured of their claims."""
    lines = ["| recipe | what it does | paper | what was measured of its claims |", "|-|-|-|-|"]
    lines += [
        f"| `{name}` | {recipe.summary} | {_linked(recipe.paper)} | {'<br>'.join(_told(recipe)) or '–'} |"
        for name, recipe in recipes().items()
    ]
    return "\n".join(lines) + "\n"


def _linked(paper: str) -> str:
    kind, _, number = paper.partition(":")
    return f"[{number}](https://arxiv.org/abs/{number})" if kind == "arXiv" else paper or "–"


def _told(recipe: Recipe[Any]) -> list[str]:
    """A line a claim: the sentence, the word, the numbers."""
    result = committed(recipe)
    if recipe.claims is None:
        return []
    if result is None:
        return [f"{_cell(statement.sentence)} *not measured*" for statement in recipe.claims.statements]
    stale = " (of other settings than the recipe has now)" * is_stale(recipe, result)
    return [
        f"{_cell(each['sentence'])} **{each['word']}**{stale}: {_cell(_numbers(each))}" for each in result["statements"]
    ]


def _numbers(statement: Mapping[str, Any]) -> str:
    several = len({each["setup"] for each in statement["arms"]}) > 1
    arms = _joined([f"{_named(each, 'arm', several)} {spread(each)}{_never(each)}" for each in statement["arms"]])
    differences = [f"{_named(each, 'baseline', several)} {spread(each, '+')}" for each in statement["differences"]]
    less = f"; less {_joined(differences)} by seed" * bool(differences)
    note = f" ({statement['note']})" * bool(statement["note"])
    return f"{statement['metric']} {arms}{less}{note}"


def _never(arm: Mapping[str, Any]) -> str:
    """How many runs of an arm came to no value, where there are some."""
    return f" ({len(arm['censored'])} of {len(arm['values'])} never came to it)" * bool(arm["censored"])


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts)


def _cell(text: str) -> str:
    """Text that does not end a cell of a table."""
    return text.replace("|", "\\|")
