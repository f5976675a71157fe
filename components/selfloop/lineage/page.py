"""A loop's lineage as one HTML document: pure functions say what is drawn, ``lineage.html.j2`` holds the markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from jinja2 import Template

from selfloop import html
from selfloop.html import Fact, number
from selfloop.lineage.registry import CHAMPION, Move
from selfloop.lineage.tree import Row, Tree, ancestors

RAILS = {"│ ": "through", "├─": "tee", "└─": "end", "  ": "gap"}
"""What two characters of a branch draw."""


def page(tree: Tree) -> str:
    """The tree and the moves of a loop: one self-contained HTML document."""
    drawn = list(nodes(tree))
    return _template().render(
        title=f"Lineage of {tree.name}",
        facts=facts(tree),
        nodes=drawn,
        columns=max((len(node.rails) + 1 for node in drawn), default=1),
        champion=tree.aliases.get(CHAMPION),
        numbers={row.version.number for row in tree.rows},
        bundles=tree.bundles,
        steps=steps(tree),
    )


@cache
def _template() -> Template:
    return html.template("lineage/lineage.html.j2")


def facts(tree: Tree) -> list[Fact]:
    """The loop in a few numbers."""
    runs = {row.version.tag("run") for row in tree.rows} - {""}
    champion = tree.aliases.get(CHAMPION)
    of_champion = [row.version.tag("round") for row in tree.rows if row.version.number == champion]
    verdicts = [row.verdict for row in tree.rows]
    not_promoted = [f"{verdicts.count(each)} {each}" for each in ("rejected", "pending", "halted") if each in verdicts]
    people = sum(step.by_person for step in steps(tree))
    return [
        Fact(
            "Champion", f"version {champion}" if champion else "none", f"round {of_champion[0]}" if of_champion else ""
        ),
        Fact("Versions", number(len(tree.rows)), ", ".join(not_promoted) or "none rejected"),
        Fact("Moves", number(len(tree.moves)), f"{number(people)} by people"),
        Fact("Runs", number(len(runs)), "of the loop"),
    ]


class Rail(NamedTuple):
    """What is drawn in a column beside a version; ``leads`` where that line continues to the champion."""

    kind: str
    leads: bool


class Node(NamedTuple):
    """A version in the graph: the columns before its own, and whether its own continues above and below.

    ``comes`` and ``leads`` say whether what is above and below is on the champion's line.
    """

    row: Row
    rails: list[Rail]
    above: bool
    below: bool
    comes: bool
    leads: bool


def nodes(tree: Tree) -> Iterator[Node]:
    """The graph, a version each, read off what connects the rows of the drawing."""
    versions = {row.version.number: row.version for row in tree.rows}
    champion = tree.aliases.get(CHAMPION)
    line = {champion, *ancestors(versions, champion)} if champion in versions and champion is not None else set()
    parents = {version.parent for version in versions.values()}
    leading: dict[int, bool] = {}
    for row in tree.rows:
        kinds = [RAILS[row.branch[at : at + 2]] for at in range(0, len(row.branch), 2)]
        version, column = row.version, len(kinds)
        on_line = version.number in line
        begins = bool(kinds) and kinds[-1] in ("tee", "end")
        leading[column] = on_line and version.number != champion
        rails = [Rail(kind, kind in ("tee", "through") and leading[at]) for at, kind in enumerate(kinds)]
        above = version.parent in versions and not begins
        yield Node(row, rails, above, version.number in parents, on_line, leading[column])


class Step(NamedTuple):
    """A move of the champion, what it was moved from, and whether a person did it."""

    move: Move
    before: int | None
    by_person: bool


def steps(tree: Tree) -> list[Step]:
    """All moves, in their order."""
    people = {move.number for row in tree.rows for move in row.by_people}
    before: Sequence[int | None] = [None, *(move.version for move in tree.moves)]
    return [Step(move, last, move.number in people) for move, last in zip(tree.moves, before, strict=False)]
