"""How what was measured of a claim reads: on a terminal of 80 columns, in the README and in docs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfloop.claims.declared import ENOUGH_SEEDS, Claims, Statement
from selfloop.claims.measuring import Outcome, Run
from selfloop.claims.planning import Prospect, prospects
from selfloop.claims.results import committed, expected, is_judged, is_stale
from selfloop.recipe import recipes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from selfloop.recipe import Recipe

CENSORED = "*"
"""Stands behind a value that a run did not come to."""
LATE = "a margin that was stated after the runs"
TO_JUDGE = "to be judged anew"
"""The state of claims whose statements were changed since their result was judged."""


def shown(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A result for the terminal: by statement the sentence, its arms, its comparisons with the worst seed, its word."""
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    for statement in result["statements"]:
        yield Text(f"\n{statement['sentence']}")
        late = f" ({LATE})" * statement["late_margin"]
        yield Text(f"{statement['metric']}, {hoped(statement['expected'], statement['margin'])}{late}", style="dim")
        several = _has_several_setups(statement)
        table = Table("arm", Column("mean", no_wrap=True), "by seed", box=None, padding=(0, 2, 0, 0))
        for each in statement["arms"]:
            table.add_row(*map(Text, (_named(each, "arm", several), spread(each), " ".join(values(each)))))
        yield Padding(table, (0, 0, 0, 2))
        for each in statement["comparisons"]:
            less = f"less {_named(each, 'baseline', several)}: {spread(each, '+')} by seed; "
            sign = "+" if each["baseline"] else ""
            yield Text(f"  {less * bool(each['baseline'])}worst {_worst(each, several, sign)}")
        yield Text.assemble("  ", (statement["word"], "bold"), f": {statement['note']}" * bool(statement["note"]))
    if any(each["censored"] for statement in result["statements"] for each in statement["arms"]):
        yield Text(f"\n{CENSORED} the run did not come to a value; what the claim declares for that stands for it.")
    if few := _few(result):
        yield Text(f"\n{few}: a claim should have {ENOUGH_SEEDS}.")
    for what in ("halted", "failed"):
        for run, reason in result[what].items():
            yield Text(f"\n{what}: {run}: {reason}")


def planned(claims: Claims, outcomes: Mapping[Run, Outcome]) -> Iterator[RenderableType]:
    """What the test seeds could see, for the terminal: by statement a line a comparison."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    numbers = sorted({len(claims.seeds), max(len(claims.seeds), ENOUGH_SEEDS)})
    for statement in claims.statements:
        yield Text(f"\n{statement.sentence}")
        yield Text(f"{statement.metric}, {hoped(expected(statement), statement.margin)}", style="dim")
        by_number = [prospects(claims, statement, outcomes, number) for number in numbers]
        table = Table("", "tuned on", "spread", *(f"{each} seeds" for each in numbers), box=None, padding=(0, 2, 0, 0))
        for found in zip(*by_number, strict=True):
            table.add_row(*map(Text, _prospect(statement, found, len(claims.setups_of(statement)) > 1)))
        yield Padding(table, (0, 0, 0, 2))
        if any(each.spread is None for each in by_number[0]):
            yield Text("  Unknown where tuning seeds lack, do not differ, or lie near an end of the metric's bounds.")
        if any(each.least is not None and each.least > _space(statement) for each in by_number[0]):
            what = "margin" if statement.better == "same" else "range"
            yield Text(
                f"  The {what} is too narrow for {numbers[0]} seeds, whatever is true: take more, or state another."
            )


def _prospect(statement: Statement, found: Sequence[Prospect], with_setup: bool) -> Iterator[str]:
    """The cells of one comparison: its name, the tuning seeds, their spread, and the least that may be seen."""
    setup, baseline, seeds, spread, *_ = found[0]
    name = f"less {baseline}" if baseline else statement.treatment
    yield f"{setup}: {name}" if with_setup else name
    yield str(seeds)
    yield "unknown" if spread is None else f"{spread:.3g}"
    yield from ("–" if each.least is None else f"{each.least:.3g} to {each.cautious:.3g}" for each in found)


def _space(statement: Statement) -> float:
    """How far inside of what a statement says a mean can lie."""
    return (statement.room.high - statement.room.low) / 2


def _few(result: Mapping[str, Any]) -> str:
    """How many seeds a result has, where that is few."""
    number = len(result["seeds"])
    return f"only {number} seeds" if number < ENOUGH_SEEDS else ""


def _has_several_setups(statement: Mapping[str, Any]) -> bool:
    return len({each["setup"] for each in statement["arms"]}) > 1


def _worst(comparison: Mapping[str, Any], with_setup: bool, sign: str) -> str:
    """The seed that bears a statement out least, with its value."""
    where = f" of {comparison['setup']}" * (with_setup and not comparison["baseline"])
    return f"seed{where} {comparison['worst']['seed']}: {comparison['worst']['value']:{sign}.3g}"


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


def hoped(expected: str, margin: float | None) -> str:
    """What a statement says of its metric, in words."""
    if expected.startswith("within"):
        return expected
    told = "the same" if expected == "same" else f"{expected} is better"
    return told if margin is None else f"{told}; less than {margin:g} does not matter"


def _named(each: Mapping[str, Any], what: str, with_setup: bool) -> str:
    return f"{each['setup']}: {each[what]}" if with_setup else str(each[what])


def state(recipe: Recipe[Any]) -> str:
    """In a few words: how many of a recipe's claims hold, or why that is not known."""
    result = committed(recipe)
    if result is None:
        return "none" if recipe.claims is None else "not measured"
    if is_stale(recipe, result):
        return "stale"
    if not is_judged(recipe, result):
        return TO_JUDGE
    return f"{sum(map(is_borne_out, result['statements']))} of {len(result['statements'])}"


def is_borne_out(statement: Mapping[str, Any]) -> bool:
    """Whether the word is what the statement says: that arms are the same is borne out where they are equivalent."""
    return bool(statement["word"] == ("equivalent" if statement["expected"] == "same" else "holds"))


def as_markdown() -> str:
    """The table of the recipes in the README, with how many of their claims hold."""
    return _recipes("claims that hold", in_short)


def in_full() -> str:
    """The table of the recipes with each claim, its word, and what was measured of it."""
    return _recipes("what was measured of its claims", lambda recipe: "<br>".join(_told(recipe)))


def _recipes(title: str, told: Callable[[Recipe[Any]], str]) -> str:
    lines = [f"| recipe | what it does | paper | {title} |", "|-|-|-|-|"]
    lines += [
        f"| `{name}` | {recipe.summary} | {_linked(recipe.paper)} | {told(recipe) or '–'} |"
        for name, recipe in recipes().items()
    ]
    return "\n".join(lines) + "\n"


def in_short(recipe: Recipe[Any]) -> str:
    """How many of a recipe's claims hold, and what weakens that."""
    result = committed(recipe)
    if recipe.claims is None or result is None:
        return "" if recipe.claims is None else "not measured"
    held = sum(map(is_borne_out, result["statements"]))
    return ", ".join([f"{held} of {len(result['statements'])}", *_aside(recipe, result)])


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
    about = _aside(recipe, result)
    return [f"*{', '.join(about)}*"] * bool(about) + [
        f"{_cell(each['sentence'])} **{each['word']}**: {_cell(_numbers(each))}" for each in result["statements"]
    ]


def _aside(recipe: Recipe[Any], result: Mapping[str, Any]) -> list[str]:
    """What weakens a result, in words."""
    few = [_few(result)] if _few(result) else []
    return few + ["of other settings or seeds than the recipe has now"] * is_stale(recipe, result)


def _numbers(statement: Mapping[str, Any]) -> str:
    several = _has_several_setups(statement)
    arms = _joined([f"{_named(each, 'arm', several)} {spread(each)}{_never(each)}" for each in statement["arms"]])
    less = [
        f"{_named(each, 'baseline', several)} {spread(each, '+')}, worst {_worst(each, several, '+')}"
        for each in statement["comparisons"]
        if each["baseline"]
    ]
    worst = [f"worst {_worst(each, several, '')}" for each in statement["comparisons"] if not each["baseline"]]
    notes = [statement["note"], LATE * statement["late_margin"]]
    note = f" ({'; '.join(filter(None, notes))})" * any(notes)
    parts = [f"{statement['metric']} {arms}", f"less {_joined(less)} by seed" * bool(less), _joined(worst)]
    return f"{'; '.join(filter(None, parts))}{note}"


def _never(arm: Mapping[str, Any]) -> str:
    """How many runs of an arm came to no value, where there are some."""
    return f" ({len(arm['censored'])} of {len(arm['values'])} never came to it)" * bool(arm["censored"])


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts)


def _cell(text: str) -> str:
    """Text that does not end a cell of a table."""
    return text.replace("|", "\\|")
