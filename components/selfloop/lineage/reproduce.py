"""A version made again from what the registry and the store hold, and compared with what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from selfloop.artifacts import read_json
from selfloop.lineage import record
from selfloop.lineage.record import Record
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import artifact, record_of
from selfloop.modes.inprocess import InProcess, Listener
from selfloop.recipe import load_recipe
from selfloop.stage import executed_by


class Reproduction(NamedTuple):
    """What came of it. ``same`` by role; ``gain`` is the target suite's, then and now, where a gate measured it.

    ``changed`` says what differs from then: the code, the libraries, the machine.
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
    """Make a version again in the folder ``root``. Raises ``UserError`` where what it was made of is gone."""
    registry = Registry(name)
    version = registry.find(reference)
    was = record.read(record_of(registry, version.number))
    recipe = load_recipe(was.recipe)
    settings = recipe.resolve(was.settings).bound(was.round)
    with executed_by(InProcess(root, listener, was.round)):
        if was.champions:
            made, decision = recipe.round(settings, _before(recipe, was))
            now = read_json(decision.path)
        else:
            made, now = recipe.begin(settings), {}
    digests = {role: (then.digest, getattr(made, role).metadata["digest"]) for role, then in was.roles.items()}
    then_target, now_target = (told.get("suites", {}).get("target") for told in (was.decision, now))
    measured = then_target and now_target
    return Reproduction(
        version=version.number,
        digests=digests,
        gain=(then_target["gain"], now_target["gain"]) if measured else None,
        interval=(then_target["lower"], then_target["upper"]) if measured else None,
        changed=_changed(was),
    )


def _before(recipe: Any, was: Record) -> Any:
    """The turn that the version's round began with."""
    given = {name: artifact((was.champions | was.before)[name]) for name in recipe.state}
    return recipe.turn(**given, goes_on=True)


def _changed(was: Record) -> dict[str, tuple[str, str]]:
    now = record.moment()
    then = {"code": was.code[:12], "image": was.image, **was.software}
    here = {"code": now["code"][:12], "image": now["image"], **now["software"]}
    return {
        name: (then.get(name, "none"), here.get(name, "none"))
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    }
