"""What a person decides about a champion: promote, approve, roll back. Each is one move, with a reason."""

from __future__ import annotations

from time import time

from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.registry import CHAMPION, Move, Registry, Version, previous, whoever
from selfloop.lineage.rounds import record_of


def promote(name: str, reference: str, reason: str) -> Move:
    """Put a version in force, whatever the gate said, unless a guard refused it."""
    registry = Registry(name)
    head, version = registry.settle(), registry.find(reference)
    if version.tag("verdict") == "halted":
        raise UserError(
            f"Version {version.number} of {name} was refused ({version.tag('reason')}): what a guard refused is not "
            "promoted; run the loop again from the champion."
        )
    return _moved(registry, head, version, "promote", reason)


def approve(name: str, reference: str | None, reason: str) -> Move:
    """Put a version in force that passed the gate but waits for a person, because a guard warned."""
    registry = Registry(name)
    head = registry.settle()
    if reference is None:
        waiting = [each for each in registry.known().values() if each.tag("verdict") == "pending"]
        waiting = [each for each in waiting if head is None or each.number > head.version]
        if not waiting:
            raise UserError(f"No version of {name} waits for approval: look at 'selfloop lineage {name}'.")
        version = waiting[-1]
    else:
        version = registry.find(reference)
    if version.tag("verdict") != "pending":
        raise UserError(
            f"Version {version.number} of {name} does not wait for approval (it is {version.tag('verdict')}): "
            f"'selfloop promote {name} {version.number}' puts it in force all the same."
        )
    if head is not None and version.parent != head.version:
        raise UserError(
            f"Version {version.number} of {name} was compared with version {version.parent}, but version "
            f"{head.version} is in force now: run the loop again, or 'selfloop promote {name} {version.number}'."
        )
    return _moved(registry, head, version, "approve", reason)


def rollback(name: str, reference: str | None, reason: str) -> Move:
    """Put back in force what was before the champion, or an older version that was once in force."""
    registry = Registry(name)
    head, moves = registry.settle(), registry.moves()
    target = previous(moves)
    if reference is not None:
        target = registry.find(reference).number
        if target not in [move.version for move in moves]:
            raise UserError(
                f"Version {target} of {name} was never in force: 'selfloop promote {name} {target}' would put it there."
            )
    if target is None:
        raise UserError(f"There is nothing to roll {name} back to: look at 'selfloop lineage {name}'.")
    return _moved(registry, head, registry.find(str(target)), "rollback", reason)


def bless(name: str, reference: str | None, reason: str) -> Version:
    """Make the champion, or a version that once was it, what old skills are held against in the loop's next runs."""
    registry = Registry(name)
    head = registry.settle()
    version = registry.find(reference or CHAMPION)
    if not reason.strip():
        raise UserError("A blessing needs a reason: give --reason.")
    if head is None or version.number not in [move.version for move in registry.moves()]:
        raise UserError(f"Version {version.number} of {name} was never in force: bless one that was.")
    registry.tag(version.number, {"blessed": str(time()), "blessed_by": whoever(), "blessed_why": reason})
    return version


def _moved(registry: Registry, head: Move | None, version: Version, kind: str, reason: str) -> Move:
    """The move from ``head``, which the decision was about, once every policy of the version was found to be what the
    registry says.
    """
    if not reason.strip():
        raise UserError("A move of the champion needs a reason: give --reason.")
    if head is not None and head.version == version.number:
        raise UserError(f"Version {version.number} of {registry.name} is the champion already: nothing was changed.")
    if version.tag("collected"):
        raise UserError(f"The files of version {version.number} of {registry.name} were collected: choose another.")
    for reference in record.read(record_of(registry, version.number)).roles.values():
        record.fetched(reference)
    made = registry.move(version.number, kind, reason, head)
    if head is not None and registry.find(str(version.number)).tag("collected"):
        registry.move(head.version, "rollback", f"version {version.number} was collected meanwhile", made)
        raise UserError(
            f"The files of version {version.number} of {registry.name} were collected meanwhile: choose another."
        )
    return made
