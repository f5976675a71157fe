"""The tree of a loop's versions: what was trained from what, what came in force, what was rejected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from selfloop.lineage.registry import CANDIDATE, CHAMPION, PREVIOUS, Move, Registry, Version, previous


class Row(NamedTuple):
    """One version in the drawing: what connects it to those above, and what is said of it."""

    branch: str
    version: Version
    verdict: str
    aliases: list[str]
    moves: list[Move]

    @property
    def by_people(self) -> list[Move]:
        """The moves to this version that were not made by a run because the gate said so."""
        return [move for move in self.moves if not self._by_the_loop(move)]

    def _by_the_loop(self, move: Move) -> bool:
        gate = self.version.tag("verdict") == "promoted" and move.reason == self.version.tag("reason")
        return move.kind == "start" or (move.kind == "promote" and gate)


class Lane(NamedTuple):
    """One of several policies of a version; ``origin`` is the policy of the same role in the version it came from."""

    role: str
    digest: str
    origin: str

    @property
    def same(self) -> bool:
        """Whether it is the one that the version came from had."""
        return self.digest == self.origin


class Bundle(NamedTuple):
    """A version with its policies, each in the lane of its role."""

    row: Row
    lanes: list[Lane]


class Tree(NamedTuple):
    """A loop's versions in the order in which they are drawn, and all its moves in their own."""

    name: str
    rows: list[Row]
    aliases: dict[str, int]
    moves: list[Move]

    @property
    def bundles(self) -> list[Bundle]:
        """The versions in the order of their numbers, in lanes; none of a loop with one policy."""
        rows = sorted(self.rows, key=lambda row: row.version.number)
        policies = {row.version.number: policies_of(row.version) for row in rows}
        roles = list(dict.fromkeys(role for each in policies.values() for role in each))
        return [Bundle(row, self._lanes(row.version, roles, policies)) for row in rows] if roles else []

    @staticmethod
    def _lanes(version: Version, roles: list[str], policies: Mapping[int, Mapping[str, str]]) -> list[Lane]:
        own, parents = policies[version.number], policies.get(version.parent or 0, {})
        return [Lane(role, own.get(role, ""), parents.get(role, "")) for role in roles]


def policies_of(version: Version) -> dict[str, str]:
    """The digest of each policy of a version by its role; nothing of a version with one policy."""
    roles = json.loads(version.tag("roles") or "{}")
    return dict(zip(roles, version.tag("digests").split(","), strict=False))


def tree(registry: Registry, run: str | None = None) -> Tree:
    """The tree of a loop, or of one of its runs and what that came from."""
    versions, head = registry.known(), registry.settle()
    moves = registry.moves()
    aliases = registry.aliases()
    if head:
        before = previous(moves)
        aliases |= {CHAMPION: head.version} | ({PREVIOUS: before} if before else {})
    if run is not None:
        versions = _of_run(versions, run)
    return grown(registry.name, versions, moves, aliases)


def grown(name: str, versions: Mapping[int, Version], moves: list[Move], aliases: dict[str, int]) -> Tree:
    """The tree of these versions, of which the aliases name some."""
    return Tree(name, list(_rows(versions, moves, aliases)), aliases, moves)


def _of_run(versions: Mapping[int, Version], run: str) -> dict[int, Version]:
    chosen = {number for number, version in versions.items() if version.tag("run") == run}
    for number in sorted(chosen):
        chosen |= set(ancestors(versions, number))
    return {number: versions[number] for number in sorted(chosen)}


def ancestors(versions: Mapping[int, Version], number: int) -> list[int]:
    """The versions that one was made from, the nearest first."""
    found: list[int] = []
    parent = versions[number].parent
    while parent is not None and parent in versions and parent not in found:
        found.append(parent)
        parent = versions[parent].parent
    return found


def _rows(versions: Mapping[int, Version], moves: list[Move], aliases: Mapping[str, int]) -> Iterator[Row]:
    children: dict[int | None, list[int]] = {}
    for number, version in versions.items():
        children.setdefault(version.parent if version.parent in versions else None, []).append(number)
    champion = aliases.get(CHAMPION)
    line: set[int | None] = set()
    if champion is not None and champion in versions:
        line = {champion, *ancestors(versions, champion)}

    def walk(number: int, first: str, later: str) -> Iterator[Row]:
        branch: str = first
        following: int | None = number
        while following is not None:
            version = versions[following]
            named = [alias for alias in (CHAMPION, PREVIOUS, CANDIDATE) if aliases.get(alias) == following]
            yield Row(branch, version, verdict_of(version, moves), named, [m for m in moves if m.version == following])
            sides = children.get(following, [])
            following = _heir(sides, line, versions, moves)
            sides = [each for each in sides if each != following]
            for index, side in enumerate(sides):
                last = following is None and index == len(sides) - 1
                yield from walk(side, later + ("└─" if last else "├─"), later + ("  " if last else "│ "))
            branch = later

    for root in children.get(None, []):
        yield from walk(root, "", "")


def _heir(children: list[int], line: set[int | None], versions: Mapping[int, Version], moves: list[Move]) -> int | None:
    """The child that continues in its parent's column: the champion's line, or the last that was promoted."""
    on_line = [child for child in children if child in line]
    promoted = [child for child in children if verdict_of(versions[child], moves) in ("promoted", "approved")]
    return next(iter([*on_line, *reversed(promoted)]), None)


def verdict_of(version: Version, moves: list[Move]) -> str:
    """What the gate said, or ``approved`` where a person did after it asked for that."""
    verdict = version.tag("verdict")
    if verdict == "pending" and any(move.version == version.number for move in moves):
        return "approved"
    return verdict
