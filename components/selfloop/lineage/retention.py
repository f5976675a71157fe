"""What the store may forget: the files of versions that nothing in force came from. The registry forgets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.record import Record
from selfloop.lineage.registry import Registry, Version
from selfloop.lineage.tree import ancestors


class Plan(NamedTuple):
    """Versions whose files go, with the bytes that they free, and the keys of the artifacts that go with them."""

    versions: list[Version]
    keys: dict[str, int]

    @property
    def bytes(self) -> int:
        """What the store gets back."""
        return sum(self.keys.values())


def plan(name: str, last: int) -> Plan:
    """What may go: all but the champions of any time, their ancestors, what waits or is named, and the ``last`` ones.

    Nothing goes that a version that stays is made of, in this loop or in another of the same registry.
    """
    if last < 0:
        raise UserError(f"--keep cannot be {last}: give the number of versions to keep, 0 or more.")
    registry = Registry(name)
    goes = _going(registry, last)
    used = set(_used(registry, {version.tag("record") for version in goes}))
    keys = {key for version in goes for key in _keys(version)} - used
    store = record.store()
    sizes = {key: store.size(key) for key in sorted(keys) if store.has(key)}
    return Plan([version for version in goes if not version.tag("collected") or _keys(version) & sizes.keys()], sizes)


def _going(registry: Registry, last: int) -> list[Version]:
    versions = registry.known()
    bundle = next((version.tag("bundle") for version in versions.values() if version.tag("bundle")), "")
    if bundle:
        raise UserError(f"{registry.name} is one role of {bundle}, whose roles go together: collect {bundle}.")
    registry.settle()
    stays = {move.version for move in registry.moves()} | set(registry.aliases().values())
    stays |= {number for number, version in versions.items() if version.tag("verdict") in ("pending", "start")}
    stays |= set(sorted(versions, reverse=True)[:last])
    for number in sorted(stays & versions.keys()):
        stays |= set(ancestors(versions, number))
    return [version for number, version in versions.items() if number not in stays]


def runs_of(name: str) -> set[str]:
    """The runs in MLflow that made the versions of a loop."""
    return {version.tag("run") for version in Registry(name).known().values()} - {""}


def collect(name: str, planned: Plan, last: int) -> None:
    """Carry out a plan, but for what has come into use since it was made.

    A version is marked first, so that nobody promotes what is going; what was promoted before it was marked stays.
    """
    registry = Registry(name)
    for version in planned.versions:
        registry.tag(version.number, {"collected": "true"})
    marked = {version.number for version in planned.versions}
    going = {version.number: version for version in _going(registry, last)}
    for number in marked - going.keys():
        registry.tag(number, {"collected": ""})
    since = {key for number in going.keys() - marked for key in _keys(going[number])}
    for key in (planned.keys.keys() & plan(name, last).keys.keys()) - since:
        record.store().delete(key)


def _used(registry: Registry, goes: set[str]) -> Iterator[str]:
    """The keys that stay: of every version of every loop whose record does not go, and all records."""
    seen: set[str] = set()
    for other in registry.names():
        if not registry.is_name(other):
            continue  # somebody else's model, or a log
        for version in Registry(other).versions().values():
            made = version.tag("record")
            if made and made not in seen:  # the roles of a bundle share its record
                seen.add(made)
                yield from _keys(version) if made not in goes and not version.tag("collected") else {_key(made)}


def _keys(version: Version) -> set[str]:
    """The keys of all that a version is made of: its record, policies and state, and those of its round's beginning."""
    if not version.tag("record"):
        return set()
    made: Record = record.read(version.tag("record"))
    parts = [made.roles, made.champions, made.before, made.after]
    uris = [uri for part in parts for each in part.values() for uri in (each.uri, each.base) if uri]
    return {_key(version.tag("record")), *map(_key, uris)}


def _key(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
