"""A version made again from what the registry and the store hold, and compared with what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfloop.identity import brought
from selfloop.lineage import record
from selfloop.lineage.record import Record
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import artifact, record_of
from selfloop.loop import Loop, loop_of
from selfloop.modes.inprocess import InProcess, Listener
from selfloop.promote import gain_of
from selfloop.recipe import load_recipe
from selfloop.stages import executed_by


class Reproduction(NamedTuple):
    """What came of it. ``same`` by role; ``gain`` is the target suite's, then and now, where a gate measured it.

    ``changed`` says what differs from then: the code, also the user's own, its data, the libraries, the machine.
    """

    version: int
    digests: dict[str, tuple[str, str]]
    gain: tuple[float, float] | None
    interval: tuple[float, float] | None
    changed: dict[str, tuple[str, str]]

    @property
    def same(self) -> bool:
        """Whether every policy has the digest that it had."""
        return all(then == now for then, now in self.digests.values())

    @property
    def agrees(self) -> bool:
        """Whether it is the same, or measures the same within the gate's interval."""
        if self.same or self.gain is None or self.interval is None:
            return self.same
        low, high = self.interval
        return low <= self.gain[1] <= high


def reproduce(name: str, reference: str, root: Path, listener: Listener | None = None) -> Reproduction:
    """Make a version again in the folder ``root``; what is the same takes its place in the store.

    Raises ``UserError`` where what it was made of is gone.
    """
    registry = Registry(name)
    version = registry.find(reference)
    was = record.read(record_of(registry, version.number))
    recipe = load_recipe(was.recipe)
    settings = recipe.resolve(was.settings).for_round(was.round)
    loop, gain = loop_of(recipe), None
    with executed_by(InProcess(root, listener, was.round)):
        if was.champions:
            improved, results = loop.attempt(settings, _before(loop, was))
            made, gain = improved.state, gain_of(settings.gate, results)
        else:
            made = loop.begin(settings)
    if not version.tag("collected"):
        _put_back(was, made)
    digests = {role: (then.digest, getattr(made, role).metadata["digest"]) for role, then in was.roles.items()}
    then = was.decision.get("suites", {}).get("target")
    return Reproduction(
        version=version.number,
        digests=digests,
        gain=None if then is None or gain is None else (then["gain"], gain),
        interval=None if then is None or gain is None else (then["lower"], then["upper"]),
        changed=_changed(was, brought(settings, recipe.module).all),
    )


def _put_back(was: Record, made: Any) -> None:
    """Put the policies that are what they were into the store, in the place of what was damaged or lost there."""
    again = {role: getattr(made, role) for role in was.roles}
    record.kept({role: each for role, each in again.items() if each.metadata["digest"] == was.roles[role].digest})


def _before(loop: Loop, was: Record) -> Any:
    """The state that the version's round began with."""
    given = {name: artifact((was.champions | was.before)[name]) for name in loop.kinds}
    return loop.state(**given, proceed=True)


def _changed(was: Record, brings: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    now = record.moment()
    then = _described(was.code, was.image, was.software, was.brought)
    here = _described(now["code"], now["image"], now["software"], brings)
    return {
        name: (then.get(name, "none"), here.get(name, "none"))
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    }


def _described(code: str, image: str, software: Mapping[str, str], brings: Mapping[str, str]) -> dict[str, str]:
    own = {name: digest[:12] for name, digest in brings.items()}
    return {"code": code[:12], "image": image, **software, **own}
