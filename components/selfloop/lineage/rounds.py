"""How a round enters the registry: its candidates as a version, and the champion's move where it was promoted."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.dsl import Artifact

from selfloop.artifacts import manifest_of
from selfloop.errors import UserError
from selfloop.lineage import record, tracking
from selfloop.lineage.record import Record, Reference
from selfloop.lineage.registry import Move, MovedError, Registry, Version

if TYPE_CHECKING:
    from selfloop.recipe import Recipe

log = logging.getLogger(__name__)
HEAD = "selfloop.head"


def record_round(
    recipe: Recipe[Any], settings: Any, given: Mapping[str, Artifact], decision: Mapping[str, Any]
) -> dict[str, Artifact]:
    """Register the candidates of a round, log it, and move the champion where they were promoted.

    ``given`` holds the artifacts that the round began with by name, and those that it left with ``next_`` before it.
    Returns the policies to go on with where they are others than decided: somebody moved the champion meanwhile.
    """
    registry = Registry(settings.model)
    with tracking.reachable():
        run_id = tracking.round_run(registry.client, settings.number)
        tracking.log_round(registry.client, run_id, settings.number, decision, settings.unbound.chosen())
    line = Line(registry, run_id)
    round = _Round(recipe, settings, given, decision)
    champion = round.champion(line)
    candidate = round.candidate(line, champion)
    registry.name_candidate(candidate.number)
    head = _moved(line, champion, candidate, decision)
    registry.tag(candidate.number, {"in_force": str(head.version if head else champion.number)})
    if head is None or head.version in (champion.number, candidate.number):
        return {}
    log.warning(
        "The champion of %s was moved to version %d (%s by %s): the loop goes on from it.",
        registry.name,
        head.version,
        head.kind,
        head.by,
    )
    roles = record.read(registry.find(str(head.version)).tag("record")).roles
    return {role: artifact(reference) for role, reference in roles.items()}


def artifact(reference: Reference) -> Artifact:
    """An artifact of the store as a stage takes it."""
    import kfp.dsl

    place = record.fetched(reference)
    manifest = manifest_of(place)
    kind: type[Artifact] = getattr(kfp.dsl, reference.kind)
    return kind(name=place.name, uri=str(place), metadata=manifest.metadata | {"digest": manifest.digest})


class Line:
    """A run's place in the registry: which moves it knew when it began, and so which version it may replace."""

    def __init__(self, registry: Registry, run_id: str) -> None:
        self.registry, self.run_id = registry, run_id
        head = registry.settle()
        with tracking.reachable():
            run = tracking.whole_run(registry.client)
            self.key = run.info.run_id if run else run_id
            self.kfp_run = tracking.kfp_run(run)
            began = run.data.tags.get(HEAD) if run else None
            if began is None:
                began = str(head.number if head else 0)
                if run:
                    registry.client.set_tag(run.info.run_id, HEAD, began)
        self.began = int(began)

    def holds(self, version: int) -> bool:
        """Whether a version is, or was since this run began, the one in force: only then does the run replace it."""
        moves = self.registry.moves()
        before = [move.version for move in moves if move.number <= self.began]
        since = [move.version for move in moves if move.number > self.began]
        return version in before[-1:] + since


def _moved(line: Line, champion: Version, candidate: Version, decision: Mapping[str, Any]) -> Move | None:
    """The move that is in force after the round; none where this run only tries, beside the line in force."""
    head = line.registry.settle()
    if head is None or not line.holds(champion.number):
        return None
    if not decision["promoted"] or head.version != champion.number:
        return head
    try:
        return line.registry.move(candidate.number, "promote", decision["reason"], head)
    except MovedError:
        return line.registry.settle()


class _Round(NamedTuple):
    recipe: Recipe[Any]
    settings: Any
    given: Mapping[str, Artifact]
    decision: Mapping[str, Any]

    def _pick(self, names: Iterable[str], prefix: str = "") -> dict[str, Artifact]:
        return {name: self.given[prefix + name] for name in names}

    @property
    def _others(self) -> list[str]:
        return [name for name in self.recipe.state if name not in self.recipe.roles]

    def champion(self, line: Line) -> Version:
        """The version that this round began with; what a loop began with is registered here, and put in force where
        nothing is.
        """
        roles = record.kept(self._pick(self.recipe.roles))
        digests = _digests(roles)
        origin, _ = split_origin(self.settings.origin)
        for version in reversed(list(line.registry.versions().values())):
            of_this_run = version.tag("run") == line.key or version.number == origin
            in_force = version.number in [move.version for move in line.registry.moves()[-1:]]
            if (of_this_run or in_force) and version.tag("digests") == digests:
                return version
        made = Record(
            roles=roles,
            after=record.kept(self._pick(self._others)),
            round=self.settings.first - 1,
            trained_on={role: manifest_of(self.given[role].path).inputs for role in roles},
            trained_with={role: manifest_of(self.given[role].path).params for role in roles},
            **self._of_run(line),
        )
        version = self._registered(line, made, {"verdict": "start", "digests": digests}, "what the loop began with")
        if not line.registry.moves():
            line.registry.move(version.number, "start", "the loop began", None)
        return version

    def candidate(self, line: Line, champion: Version) -> Version:
        """The version of this round's candidates."""
        roles = record.kept(self._pick(self.recipe.roles, "next_"))
        made = Record(
            roles=roles,
            champions=record.kept(self._pick(self.recipe.roles)),
            before=record.kept(self._pick(self._others)),
            after=record.kept(self._pick(self._others, "next_")),
            round=self.settings.number,
            decision=dict(self.decision),
            trained_on={role: manifest_of(self.given[f"next_{role}"].path).inputs for role in roles},
            trained_with={role: manifest_of(self.given[f"next_{role}"].path).params for role in roles},
            **self._of_run(line),
        )
        verdict = self.decision.get("verdict") or ("promoted" if self.decision["promoted"] else "rejected")
        tags = {
            "parent": str(champion.number),
            "digests": _digests(roles),
            "verdict": verdict,
            "reason": self.decision["reason"],
        }
        return self._registered(line, made, tags, f"{verdict}: {self.decision['reason']}")

    def _of_run(self, line: Line) -> dict[str, Any]:
        return {
            "recipe": self.recipe.target,
            "settings": self.settings.unbound.chosen(),
            "seed": self.settings.seed,
            "origin": self.settings.origin,
            "mlflow_run": line.run_id,
            "kfp_run": line.kfp_run,
            **record.moment(),
        }

    def _registered(self, line: Line, made: Record, tags: Mapping[str, str], words: str) -> Version:
        roles = made.roles
        first = next(iter(roles.values()))
        about = {
            "run": line.key,
            "recipe": self.recipe.name,
            "round": str(made.round),
            "seed": str(made.seed),
            "digest": first.digest,
            "code": made.code,
            "version": made.software["selfloop"],
            "image": made.image,
            "kfp_run": made.kfp_run,
            "record": record.write(made),
            **{f"data.{name}": digest for name, digest in next(iter(made.trained_on.values())).items()},
        }
        tags = {name: value for name, value in (about | dict(tags)).items() if value}
        key = f"{line.key}:{made.round}:{_digests(roles)}"
        if len(roles) > 1:
            tags["roles"] = json.dumps({role: self._role(line, role, key, roles[role], tags) for role in roles})
        return line.registry.register(key, first.uri, line.run_id, tags, words)

    def _role(self, line: Line, role: str, key: str, policy: Reference, tags: Mapping[str, str]) -> int:
        """The version of one of several policies, in a registered model of its own."""
        own = {name: tags[name] for name in ("run", "round", "record") if name in tags} | {"digest": policy.digest}
        registry = Registry(f"{line.registry.name}.{role}")
        return registry.register(key, policy.uri, line.run_id, own, f"{role} of {line.registry.name}").number


def _digests(roles: Mapping[str, Reference]) -> str:
    return ",".join(reference.digest for reference in roles.values())


def split_origin(origin: str) -> tuple[int | None, int | None]:
    """The version of an origin and the one whose state it takes; none of a loop that goes on from nowhere."""
    found = re.fullmatch(r".+/(\d+)(?:\+(\d+))?", origin)
    if not found:
        return None, None
    return int(found[1]), int(found[2] or found[1])


def carried_from(recipe: Recipe[Any], origin: str) -> dict[str, Artifact]:
    """What a loop goes on with from ``NAME/VERSION``, or ``NAME/VERSION+LATER`` for the state of a later version."""
    name = origin.rpartition("/")[0]
    version, later = split_origin(origin)
    if version is None:
        raise UserError(f"'{origin}' is no version of a loop: give NAME@champion, NAME@previous or NAME/VERSION.")
    registry = Registry(name)
    roles = record.read(_record_of(registry, version)).roles
    state = record.read(_record_of(registry, later or version)).after
    lacking = sorted(recipe.state.keys() - roles.keys() - state.keys())
    if lacking:
        raise UserError(
            f"{origin} was made by another recipe: it has no {', '.join(lacking)}, which '{recipe.name}' goes on with."
        )
    return {name: artifact((roles | state)[name]) for name in recipe.state}


def policy_of(source: str) -> Path:
    """The directory on this machine of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    found = re.fullmatch(r"models:/([^/@]+)[@/]([^/@]+)", source)
    if not found:
        raise UserError(f"'{source}' names no version: write models:/NAME@champion or models:/NAME/VERSION.")
    version = Registry(found[1]).find(found[2])
    if not version.tag("record"):  # another's model
        from mlflow.artifacts import download_artifacts

        with tracking.reachable():
            return Path(download_artifacts(version.source))
    digest = version.tag("digest")
    return record.fetched(Reference(uri=version.source, digest=digest, kind="Model"))


def _record_of(registry: Registry, version: int) -> str:
    found = registry.find(str(version)).tag("record")
    if not found:
        raise UserError(f"Version {version} of {registry.name} holds no state of a loop: choose another version.")
    return found


class Origin(NamedTuple):
    """Where a loop goes on from, pinned, and the number of its next round."""

    name: str
    pinned: str
    first: int


def find_origin(text: str) -> Origin:
    """Pin ``NAME@champion``, ``NAME@previous``, ``NAME@candidate``, ``NAME@7`` or ``NAME/7``.

    From the champion a loop goes on with the state of the last round that left this champion in force, be its own
    candidate rejected or not; from any other version with the state that this version left.
    """
    found = re.fullmatch(r"(.+)[@/](\w+)", text)
    if not found:
        raise UserError(f"--from takes NAME@champion, NAME@previous or NAME/VERSION, not '{text}'.")
    registry = Registry(found[1])
    version = registry.find(found[2])
    later = version
    if found[2] == "champion":
        left = [each for each in registry.versions().values() if each.tag("in_force") == str(version.number)]
        later = max([version, *left], key=lambda each: each.number)
    state = record.read(_record_of(registry, later.number))
    suffix = "" if later == version else f"+{later.number}"
    return Origin(registry.name, f"{registry.name}/{version.number}{suffix}", state.round + 1)
