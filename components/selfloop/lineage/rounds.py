"""How a round enters the registry: its candidates as a version, and the champion's move where it was promoted."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.dsl import Artifact

from selfloop.artifacts import manifest_of
from selfloop.costs import Costs
from selfloop.decision import ANCHOR
from selfloop.errors import UserError
from selfloop.identity import brought
from selfloop.lineage import record, tracking
from selfloop.lineage.record import Record, Reference
from selfloop.lineage.registry import Move, MovedError, Registry, Version

if TYPE_CHECKING:
    from mlflow.entities import Run

    from selfloop.recipe import Recipe

log = logging.getLogger(__name__)
HEAD = "selfloop.head"
EXAMPLE = 300
"""Characters of an input that a version's description shows."""


def record_round(
    recipe: Recipe[Any],
    settings: Any,
    before: Mapping[str, Artifact],
    after: Mapping[str, Artifact],
    decision: Mapping[str, Any],
    costs: Costs = Costs(),
    rounds: Sequence[Mapping[str, Any]] = (),
) -> Mapping[str, Artifact]:
    """Register the candidates of a round, log it, and move the champion where they were promoted.

    ``before`` are the artifacts that the round began with by name, ``after`` those that it left, ``rounds`` those of
    the history. Returns the policies
    and the state to continue with: as decided, unless somebody moved the champion meanwhile, in which case the loop
    continues from there. Done again after a crash, it changes nothing that was done.
    """
    registry = Registry(settings.loop)
    with tracking.reachable():
        run_id = tracking.round_run(registry.client, settings.number)
        tracking.log_round(registry.client, run_id, settings.number, decision, settings.run_settings.overrides(), costs)
    branch = Branch(registry, run_id)
    samples = rounds[-1]["samples"] if rounds else []
    round = _Round(recipe, settings, before, after, decision, samples[0]["prompt"] if samples else "")
    champion = round.champion(branch)
    candidate = round.candidate(branch, champion)
    if candidate.run_id not in ("", run_id):  # another process ends this round too, and was first
        with tracking.reachable():
            tracking.forget(registry.client, run_id)
    registry.name_candidate(candidate.number)
    moved = _in_force(branch, champion, candidate, decision)
    decided = candidate.number if decision["promoted"] else champion.number
    in_force = decided if moved is None else moved.version
    registry.tag(candidate.number, {"in_force": str(in_force)})
    with tracking.reachable():
        tracking.log_standing(registry.client, run_id, settings.number, decision, in_force, costs, rounds)
    if moved is None or in_force == decided:
        return as_decided(recipe, before, after, decision["promoted"])
    log.warning(
        "The champion of %s was moved to version %d (%s by %s): the loop continues from it, with its state.",
        registry.name,
        moved.version,
        moved.kind,
        moved.by,
    )
    return _carried(recipe, before, registry, in_force, in_force)


def as_decided(
    recipe: Recipe[Any], before: Mapping[str, Artifact], after: Mapping[str, Artifact], promoted: bool
) -> dict[str, Artifact]:
    """What a loop continues with: the state always advances, the roles only where their candidates are promoted."""
    return {name: (before if name in recipe.roles and not promoted else after)[name] for name in before}


def artifact(reference: Reference) -> Artifact:
    """An artifact of the store as a stage takes it."""
    import kfp.dsl

    place = record.fetched(reference)
    manifest = manifest_of(place)
    kind: type[Artifact] = getattr(kfp.dsl, reference.kind)
    return kind(name=place.name, uri=str(place), metadata=manifest.metadata | {"digest": manifest.digest})


def ledgers(settings: Any) -> list[dict[str, Any]]:
    """What the error budget had come to after each round of a loop, and of the loop that it continues, whatever became
    of their versions since; without the round that is being closed, where it was closed before.
    """
    names = [settings.loop, *filter(None, [settings.origin.rpartition("/")[0]])]  # none where it begins anew
    found = [version for name in dict.fromkeys(names) for version in Registry(name).versions().values()]
    with tracking.reachable():
        run = tracking.whole_run(tracking.client())
    mine = (run.info.run_id if run else "", str(settings.number))
    return [
        json.loads(version.tag("gate"))
        for version in found
        if version.tag("gate") and (version.tag("run"), version.tag("round")) != mine
    ]


def note_beginning(loop: str) -> None:
    """Note in this process's run which move of the champion was the last when it began."""
    registry = Registry(loop)
    with tracking.reachable():
        run = tracking.whole_run(registry.client)
    if run is not None and HEAD not in run.data.tags:
        _note(registry, run, registry.settle())


def _note(registry: Registry, run: Run, head: Move | None) -> int:
    known = head.number if head else 0
    with tracking.reachable():
        registry.client.set_tag(run.info.run_id, HEAD, str(known))
    return known


class Branch:
    """A run's place in the registry: which moves it knew when it began, and so which version it may replace.

    ``head`` is the move in force, as far as this process has seen, ``page`` where MLflow shows the run.
    """

    def __init__(self, registry: Registry, run_id: str) -> None:
        self.registry, self.run_id = registry, run_id
        with tracking.reachable():
            run = tracking.whole_run(registry.client)
        self.key, self.kfp_run = run.info.run_id if run else run_id, tracking.kfp_run(run)
        self.page = f"#/experiments/{run.info.experiment_id}/runs/{self.key}" if run else "#"
        self.head = registry.settle()
        noted = run.data.tags.get(HEAD) if run else None
        if run and noted is None:
            self.known = _note(registry, run, self.head)
        else:
            self.known = int(noted) if noted else self.head.number if self.head else 0

    def holds(self, version: int) -> bool:
        """Whether a version is, or was since this run began, the one in force: only then does the run replace it."""
        if self.head is not None and self.head.version == version:
            return True
        moves = self.registry.moves()
        before = [move.version for move in moves if move.number <= self.known]
        since = [move.version for move in moves if move.number > self.known]
        return version in before[-1:] + since


def _in_force(branch: Branch, champion: Version, candidate: Version, decision: Mapping[str, Any]) -> Move | None:
    """The move that is in force after the round; none where this run only tries, beside the line in force."""
    head = branch.head
    if head is None or not branch.holds(champion.number):
        return None
    done = any(move.number > branch.known for move in branch.registry.moves_to(candidate.number))
    if done or not decision["promoted"] or head.version != champion.number:
        return branch.registry.settle()
    try:
        return branch.registry.move(candidate.number, "promote", decision["reason"], head)
    except MovedError:
        return branch.registry.settle()


class _Round(NamedTuple):
    recipe: Recipe[Any]
    settings: Any
    before: Mapping[str, Artifact]
    after: Mapping[str, Artifact]
    decision: Mapping[str, Any]
    example: str

    def _roles(self, of: Mapping[str, Artifact]) -> dict[str, Artifact]:
        return {name: of[name] for name in self.recipe.roles}

    def _others(self, of: Mapping[str, Artifact]) -> dict[str, Artifact]:
        return {name: artifact for name, artifact in of.items() if name not in self.recipe.roles}

    def champion(self, branch: Branch) -> Version:
        """The version that this round began with; what a loop began with is registered here, and put in force where
        nothing is.
        """
        roles = record.kept(self._roles(self.before))
        version = self._known(branch, _digests(roles)) or self._first(branch, roles)
        if branch.head is None:  # when this process looked
            branch.head = branch.registry.settle() or branch.registry.begin(version.number)
        return version

    def _known(self, branch: Branch, digests: str) -> Version | None:
        """The version of these policies: the one in force, else one of this run, rather one that was not rejected."""
        in_force = branch.registry.find(str(branch.head.version)) if branch.head else None
        if in_force is not None and in_force.tag("digests") == digests:
            return in_force
        origin, _ = split_origin(self.settings.origin)
        found = [
            version
            for version in branch.registry.tagged("digests", digests)
            if version.number == origin or version.tag("run") == branch.key
        ]
        return max(found, key=lambda v: (v.tag("verdict") in ("promoted", "start"), v.number), default=None)

    def _first(self, branch: Branch, roles: dict[str, Reference]) -> Version:
        digests = _digests(roles)
        made = Record(
            roles=roles,
            after=record.kept(self._others(self.before)),
            round=self.settings.first - 1,
            trained_on={role: manifest_of(self.before[role].path).inputs for role in roles},
            trained_with={role: manifest_of(self.before[role].path).params for role in roles},
            **self._of_run(branch),
        )
        return self._registered(branch, made, {"verdict": "start", "digests": digests}, "What the loop began with.")

    def candidate(self, branch: Branch, champion: Version) -> Version:
        """The version of this round's candidates."""
        roles = record.kept(self._roles(self.after))
        made = Record(
            roles=roles,
            champions=record.kept(self._roles(self.before)),
            before=record.kept(self._others(self.before)),
            after=record.kept(self._others(self.after)),
            round=self.settings.number,
            decision=dict(self.decision),
            trained_on={role: manifest_of(self.after[role].path).inputs for role in roles},
            trained_with={role: manifest_of(self.after[role].path).params for role in roles},
            **self._of_run(branch),
        )
        verdict = self.decision["verdict"]
        tags = {
            "parent": str(champion.number),
            "digests": _digests(roles),
            "verdict": verdict,
            "reason": self.decision["reason"],
        }
        if budget := self.decision.get("budget"):
            tags["gate"] = json.dumps(budget["ledger"])
        words = f"Round {made.round}: {verdict}. {self.decision['reason']}."
        return self._registered(branch, made, tags, f"{words} Trained from version {champion.number}.")

    def _of_run(self, branch: Branch) -> dict[str, Any]:
        return {
            "recipe": self.recipe.target,
            "settings": self.settings.run_settings.overrides(),
            "brought": brought(self.settings, self.recipe.module).all,
            "seed": self.settings.seed,
            "origin": self.settings.origin,
            "mlflow_run": branch.run_id,
            "kfp_run": branch.kfp_run,
            **record.moment(),
        }

    def _registered(self, branch: Branch, made: Record, tags: Mapping[str, str], words: str) -> Version:
        roles = made.roles
        first = next(iter(roles.values()))
        about = {
            "run": branch.key,
            "recipe": self.recipe.name,
            "round": str(made.round),
            "seed": str(made.seed),
            "digest": first.digest,
            "code": made.code,
            "version": made.software["selfloop"],
            "sandbox": made.software.get("sandbox", ""),
            "image": made.image,
            "kfp_run": made.kfp_run,
            "record": record.write(made),
            **{f"data.{name}": digest for name, digest in next(iter(made.trained_on.values())).items()},
        }
        tags = {name: value for name, value in (about | dict(tags)).items() if value}
        key = f"{branch.key}:{made.round}:{_digests(roles)}"
        if len(roles) > 1:
            tags["roles"] = json.dumps({role: self._role(branch, role, key, roles[role], tags) for role in roles})
        return branch.registry.register(key, first.uri, branch.run_id, tags, self._described(branch, words))

    def _described(self, branch: Branch, words: str) -> str:
        """What a person reads of a version in MLflow, as Markdown."""
        name, settings = branch.registry.name, self.settings
        lines = [
            words,
            f"{self.recipe.title}: {self.recipe.name} on {settings.environment}, seed {settings.seed}.",
            f"[Its run]({branch.page}) has the settings, the numbers and, of a finished run in process, "
            f"[the report]({branch.page}/artifacts/report/report.html).",
            f'Load it, by its number: `mlflow.transformers.load_model("models:/{name}/NUMBER")`.',
        ]
        if self.example:
            lines.append(f"An input of its tasks: `{json.dumps(self.example[:EXAMPLE]).replace('`', chr(39))}`.")
        return "\n\n".join(lines)

    def _role(self, branch: Branch, role: str, key: str, policy: Reference, tags: Mapping[str, str]) -> int:
        """The version of one of several policies, in a registered model of its own."""
        own = {name: tags[name] for name in ("run", "round", "record") if name in tags}
        own |= {"digest": policy.digest, "bundle": branch.registry.name}
        registry = Registry(f"{branch.registry.name}.{role}")
        return registry.register(key, policy.uri, branch.run_id, own, f"{role} of {branch.registry.name}").number


def _digests(roles: Mapping[str, Reference]) -> str:
    return ",".join(reference.digest for reference in roles.values())


def split_origin(origin: str) -> tuple[int | None, int | None]:
    """The version of an origin and the one whose state it takes; none of a loop that continues from nowhere."""
    found = re.fullmatch(r".+/(\d+)(?:\+(\d+))?", origin)
    if not found:
        return None, None
    return int(found[1]), int(found[2] or found[1])


def carried_from(recipe: Recipe[Any], names: Iterable[str], origin: str, environment: str) -> dict[str, Artifact]:
    """What a loop continues with from ``NAME/VERSION``, or ``NAME/VERSION+LATER`` for the state of a later version:
    the roles and the state of these names.
    """
    name = origin.rpartition("/")[0]
    version, later = split_origin(origin)
    if version is None:
        raise UserError(f"'{origin}' is no version of a loop: give NAME@champion, NAME@previous or NAME/VERSION.")
    registry = Registry(name)
    was = record.read(record_of(registry, version)).settings.get("environment", environment)
    if was != environment:
        raise UserError(f"{origin} was trained on environment '{was}', not '{environment}': give --environment {was}.")
    note_beginning(name)
    return _carried(recipe, names, registry, version, later or version)


def _carried(
    recipe: Recipe[Any], names: Iterable[str], registry: Registry, version: int, later: int
) -> dict[str, Artifact]:
    roles = record.read(record_of(registry, version)).roles
    state = record.read(record_of(registry, later)).after
    lacking = sorted({*names} - {ANCHOR} - roles.keys() - state.keys())
    if lacking:
        raise UserError(
            f"Version {version} of {registry.name} was made by another recipe: it has no {', '.join(lacking)}, which "
            f"'{recipe.name}' continues with."
        )
    known = roles | state
    blessed = _blessed(registry)
    if ANCHOR in names and (blessed is not None or ANCHOR not in known):
        known[ANCHOR] = record.read(record_of(registry, blessed or _began(registry, version))).roles[recipe.roles[0]]
    return {name: artifact(known[name]) for name in names}


def _blessed(registry: Registry) -> int | None:
    """The version that a person blessed last."""
    found = [version for version in registry.versions().values() if version.tag("blessed")]
    return max(found, key=lambda version: float(version.tag("blessed"))).number if found else None


def _began(registry: Registry, version: int) -> int:
    """The version that a loop began with which came to this one. Raises ``UserError`` where the registry lacks it."""
    versions, number = registry.versions(), version
    while number in versions and versions[number].tag("parent"):
        number = int(versions[number].tag("parent"))
    if number not in versions or versions[number].tag("verdict") != "start":
        raise UserError(
            f"Version {version} of {registry.name} names no anchor, which old skills are held against, and what its "
            f"loop began with is not in the registry: choose one with 'selfloop bless {registry.name} --reason ...'."
        )
    return number


def policy_of(source: str) -> Path:
    """The directory on this machine of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    found = re.fullmatch(r"models:/([^/@]+)[@/]([^/@]+)", source)
    if not found:
        raise UserError(f"'{source}' names no version: write models:/NAME@champion or models:/NAME/VERSION.")
    version = Registry(found[1]).find(found[2])
    if not version.tag("record"):  # another's model
        from mlflow.artifacts import download_artifacts

        with tracking.reachable():
            return Path(download_artifacts(version.source, tracking_uri=tracking.address()))
    digest = version.tag("digest")
    return record.fetched(Reference(uri=version.source, digest=digest, kind="Model"))


def record_of(registry: Registry, version: int) -> str:
    """Where the record of a version lies. Raises ``UserError`` for a version that is not of a loop of selfloop."""
    found = registry.find(str(version)).tag("record")
    if not found:
        raise UserError(f"Version {version} of {registry.name} holds no state of a loop: choose another version.")
    return found


class Origin(NamedTuple):
    """Where a loop continues from, pinned, and the number of its next round."""

    name: str
    pinned: str
    first: int


class Left(NamedTuple):
    """Where a run of KFP left its loop: the version and the state to continue with, the number of the next round, how
    many are still to be done, and the run in MLflow that all of them share.
    """

    origin: str
    first: int
    rounds: int
    run: str


def left_by(loop: str, kfp_run: str) -> Left:
    """Where a run of KFP left a loop: what the round after its last one would have begun with.

    Raises ``UserError`` where it did no round, or all that were asked for.
    """
    registry = Registry(loop)
    made = [each for each in registry.versions().values() if each.tag("kfp_run") == kfp_run and each.tag("in_force")]
    if not made:
        raise UserError(f"Run {kfp_run} left no round of loop '{loop}' to continue from: give NAME@champion instead.")
    last = max(made, key=lambda each: (int(each.tag("round")), each.number))
    was = record.read(record_of(registry, last.number))
    first = was.round + 1
    rounds = was.settings["first"] + was.settings["rounds"] - first
    if rounds < 1:
        raise UserError(f"Run {kfp_run} did all rounds of loop '{loop}' that were asked for: begin another run.")
    return Left(_origin_after(loop, last), first, rounds, last.tag("run"))


def _origin_after(loop: str, candidate: Version) -> str:
    """What the round after a candidate's begins with: the version in force, with the candidate's state unless somebody
    moved the champion, which brings its own.
    """
    in_force = candidate.tag("in_force")
    stayed = candidate.tag("verdict") != "promoted" and in_force == candidate.tag("parent")
    return f"{loop}/{in_force}+{candidate.number}" if stayed else f"{loop}/{in_force}"


def find_origin(text: str) -> Origin:
    """Pin ``NAME@champion``, ``NAME@previous``, ``NAME@candidate``, ``NAME@7`` or ``NAME/7``.

    From the champion a loop continues with the state of the last round that left this champion in force, be its own
    candidate rejected or not; from any other version with the state that this version left.
    """
    found = re.fullmatch(r"(.+)[@/](\w+)", text)
    if not found:
        raise UserError(f"--from takes NAME@champion, NAME@previous or NAME/VERSION, not '{text}'.")
    registry = Registry(found[1])
    version = registry.find(found[2])
    later = version
    if found[2] == "champion":
        left = [
            each
            for each in registry.versions().values()
            if each.tag("in_force") == str(version.number) and each.tag("verdict") != "promoted"
        ]
        later = max([version, *left], key=lambda each: each.number)
    state = record.read(record_of(registry, later.number))
    suffix = "" if later == version else f"+{later.number}"
    return Origin(registry.name, f"{registry.name}/{version.number}{suffix}", state.round + 1)
