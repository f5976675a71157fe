"""A loop in MLflow's registry: a version for each candidate, and a log of moves that says which is in force.

The registered model ``NAME`` has a version for each candidate, promoted or not; its aliases are ``champion``,
``previous`` and ``candidate``. The registered model ``NAME.moves`` is the truth: each of its versions is a move, which
says what it puts in force and which move it follows. A move counts if what it follows is the move that was last to
count before it. MLflow numbers versions one after the other, so that of two moves that follow the same one the first
counts and the other does not: appending is a conditional write, on sqlite, PostgreSQL or a server alike.

The aliases follow the log. Who finds them behind (a process was killed in between) mends them; who finds the alias
``champion`` where no process of ours can have put it takes it for the work of a person, and appends it to the log.
Whoever writes the aliases of a move says so in the log before and after, by a mark of its own: a mark that is open says
that a late process may still write them.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import time
from typing import TYPE_CHECKING, Any

from selfloop.errors import UserError
from selfloop.lineage import tracking
from selfloop.lookup import unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
CHAMPION, PREVIOUS, CANDIDATE = "champion", "previous", "candidate"
BACK = ("rollback", "repair")
TAG = "selfloop."
PAGE = 200
"""Versions that are asked for at a time."""
RECENT = 16
"""Moves that are asked for where only the last are of interest."""
TAG_CHARACTERS = 5000
"""The most that MLflow keeps in a tag of a version."""
WRITER, DONE = "writer.", "done"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where there is no such version or alias."""
WRITING = 600.0
"""Seconds after which a process that began to write the aliases and did not end is taken for dead."""


class MovedError(UserError):
    """Somebody else moved the champion in the meantime; nothing was changed."""


@dataclass(frozen=True)
class Version:
    """A version: a candidate, or the policy that a loop began with. ``created`` is in seconds since 1970."""

    number: int
    source: str
    run_id: str
    created: float
    tags: Mapping[str, str]

    def tag(self, name: str) -> str:
        """One of selfloop's tags; empty where it is not set."""
        return self.tags.get(TAG + name, "")

    @property
    def parent(self) -> int | None:
        """The version that was in force when this one was trained."""
        return int(self.tag("parent")) if self.tag("parent") else None


@dataclass(frozen=True)
class Move:
    """What put a version in force: by ``kind`` (start, promote, approve, rollback, by hand), by whom, and why.

    ``writers`` are the marks of the processes that write its aliases: when one began, in seconds since 1970, or done.
    """

    number: int
    version: int
    base: int
    kind: str
    reason: str
    by: str
    created: float
    writers: Mapping[str, str]

    @property
    def applied(self) -> bool:
        """Whether the aliases were brought in line with it."""
        return DONE in self.writers.values()

    @property
    def being_written(self) -> bool:
        """Whether a process may be about to write its aliases, however late."""
        return any(time() - float(began) < WRITING for began in self.writers.values() if began != DONE)


class Registry:
    """One loop's versions and moves. Raises ``UserError`` where MLflow cannot be used or the name is none."""

    def __init__(self, name: str) -> None:
        if not self.is_name(name):
            raise UserError(
                f"'{name}' cannot be the name of a loop in the registry: use letters, digits, '-', '_' and '.', and "
                "no '.moves' at its end."
            )
        self.name, self.log = name, f"{name}.moves"

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a loop may be called so."""
        return re.fullmatch(r"[\w.\- ]+", name) is not None and not name.endswith(".moves")

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow."""
        return tracking.client()

    def versions(self) -> dict[int, Version]:
        """All versions, by number."""
        return {int(each.version): _version(each) for each in self._all(self.name)}

    def known(self) -> dict[int, Version]:
        """All versions. Raises ``UserError`` where there is none."""
        versions = self.versions()
        if not versions:
            loops = sorted(each.removesuffix(".moves") for each in self.names() if each.endswith(".moves"))
            raise (
                unknown("loop in the registry", self.name, loops)
                if loops
                else UserError(
                    f"There is no loop '{self.name}' in the registry: run one first, or give another --tracking-uri."
                )
            )
        return versions

    def names(self) -> list[str]:
        """The names of all registered models."""
        with tracking.reachable():
            return [each.name for each in self.client.search_registered_models(max_results=1000)]

    def _all(self, model: str, tagged: str = "", text: str = "") -> list[Any]:
        """All versions of a model in the order of their numbers, or those with a text in a tag."""
        return _all(self.client, f"name = '{model}'" + (f" AND tags.`{TAG}{tagged}` = '{text}'" if tagged else ""))

    def aliases(self) -> dict[str, int]:
        """The versions that the aliases name."""
        from mlflow.exceptions import MlflowException

        with tracking.reachable():
            try:
                found = self.client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
        return {alias: int(version) for alias, version in found.items()}

    def champion(self) -> int | None:
        """The version that the alias ``champion`` names."""
        from mlflow.exceptions import MlflowException

        with tracking.reachable():
            try:
                return int(self.client.get_model_version_by_alias(self.name, CHAMPION).version)
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise

    def find(self, reference: str) -> Version:
        """The version that an alias or a number names."""
        if reference.isdecimal() and reference.isascii() and (numbered := self._numbered(int(reference))):
            return numbered
        versions = self.known()
        if reference.isdecimal() and reference.isascii():
            raise UserError(f"{self.name} has no version {reference}: its versions end at {max(versions)}.")
        head = self.settle()
        aliases = self.aliases() | ({CHAMPION: head.version} if head else {})
        if reference not in aliases:
            raise UserError(
                f"{self.name} has no alias '{reference}': it has {', '.join(sorted(aliases)) or 'none'}; "
                "give one of them or the number of a version."
            )
        return versions[aliases[reference]]

    def _numbered(self, number: int) -> Version | None:
        """A version by its number; none where there is none, or no more."""
        from mlflow.exceptions import MlflowException

        with tracking.reachable():
            try:
                return _version(self.client.get_model_version(self.name, str(number)))
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise

    def tagged(self, name: str, text: str) -> list[Version]:
        """The versions that have this text in a tag."""
        return [_version(each) for each in self._all(self.name, name, text[:TAG_CHARACTERS])]

    def register(self, key: str, source: str, run_id: str, tags: Mapping[str, str], words: str) -> Version:
        """A new version, or the one that was registered with this key before.

        Of two processes that register a key at once, as where KFP ran a pod again whose first containers went on, the
        one whose version has the lower number counts, and the other takes its own back.
        """
        if known := self.tagged("key", key):
            return known[0]
        made = _version(self._append(self.name, source, {"key": key, **tags}, run_id, words))
        first, *others = self.tagged("key", key)
        if made.number in [each.number for each in others]:
            with tracking.reachable():
                self.client.delete_model_version(self.name, str(made.number))
        return first

    def _append(self, model: str, source: str, tags: Mapping[str, str], run_id: str | None, words: str) -> Any:
        from mlflow.exceptions import MlflowException

        append = partial(
            self.client.create_model_version,
            model,
            source=source,
            run_id=run_id,
            tags={TAG + name: value[:TAG_CHARACTERS] for name, value in tags.items()},
            description=words[:TAG_CHARACTERS],
        )
        with tracking.reachable():
            try:
                return append()
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    self._create(model)
                    return append()
                if "local" in str(error) and "source" in str(error):
                    raise UserError(
                        f"MLflow's server takes no version whose files lie in a folder ({source}): set --store to "
                        "s3://bucket/prefix."
                    ) from error
                raise

    def _create(self, model: str) -> None:
        """Make a registered model, unless somebody was first."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with tracking.reachable():
            for name, value in tags.items():
                self.client.set_model_version_tag(self.name, str(version), TAG + name, value[:TAG_CHARACTERS])

    def name_candidate(self, version: int) -> None:
        """Let the alias ``candidate`` name a version."""
        with tracking.reachable():
            self.client.set_registered_model_alias(self.name, CANDIDATE, str(version))

    def moves(self) -> list[Move]:
        """The moves that count, in their order."""
        return counted(_move(each) for each in self._all(self.log))

    def last_moves(self) -> list[Move]:
        """The last of the moves that count, in their order: two at least, where there are so many."""
        with tracking.reachable():
            page = self.client.search_model_versions(f"name = '{self.log}'", RECENT, ["version_number DESC"])
        moves = [_move(each) for each in reversed(page)]
        if not page.token:
            return counted(moves)
        last = counted_at_the_end(moves)
        return last if len(last) > 1 else self.moves()

    def moves_to(self, version: int) -> list[Move]:
        """The moves that count and put a version in force, in their order."""
        appended = self._all(self.log, "version", str(version))
        return [move for move in self.moves() if move.version == version] if appended else []

    def move(self, version: int, kind: str, reason: str, base: Move | None) -> Move:
        """Put a version in force in the place of ``base``.

        Raises ``MovedError``, and changes nothing, where ``base`` is no longer the last move. Once the log holds the
        move it is made, whatever becomes of the aliases, which whoever looks next brings in line.
        """
        target = self.find(str(version))
        if target.tag("bundle"):
            raise UserError(
                f"{self.name} is one role of {target.tag('bundle')}, whose roles go together: move the champion there."
            )
        mark = uuid.uuid4().hex[:16]
        tags = {
            "version": str(version),
            "base": str(base.number if base else 0),
            "kind": kind,
            "reason": reason,
            "by": whoever(),
            WRITER + mark: str(time()),
        }
        self._append_move(mark, target.source, tags, base)
        moves = self.last_moves()
        if not any(mark in move.writers for move in moves):  # it does not count, or many were appended behind it
            moves = self.moves()
        mine = next((move for move in moves if mark in move.writers), None)
        if mine is None:
            other = moves[-1]
            raise MovedError(
                f"The champion of {self.name} was moved to version {other.version} in the meantime ({other.kind} by "
                f"{other.by}): nothing was changed; look at 'selfloop lineage {self.name}' and decide anew."
            )
        try:
            self._apply(moves, mark)
        except UserError as error:
            log.warning("Version %d of %s is in force; its aliases are behind. %s", version, self.name, error)
        return mine

    def _append_move(self, mark: str, source: str, tags: Mapping[str, str], base: Move | None) -> None:
        """Append to the log, whose answer may be lost; again where many append at once and nobody's counted yet."""
        words = f"{tags['kind']}: version {tags['version']}. {tags['reason']}"
        while True:
            try:
                self._append(self.log, source, tags, None, words)
                return
            except UserError as error:
                logged = [_move(each) for each in self._all(self.log)]
                is_there = any(mark in move.writers for move in logged)
                last = next((move.number for move in reversed(counted(logged))), 0)
                if is_there or last != (base.number if base else 0):
                    return
                if "Giving up after" not in str(error):  # what MLflow says where numbers were taken three times
                    raise

    def begin(self, version: int) -> Move | None:
        """Put a version in force where nothing is; where somebody else did, theirs stays."""
        moves = self.last_moves()
        try:
            return self.move(version, "start", "the loop began", moves[-1] if moves else None)
        except MovedError:
            return self.settle()

    def settle(self) -> Move | None:
        """The last move that counts, after the aliases were brought in line with the log, or the log with a person.

        A loop whose first version was registered, and whose first move was not made since a kill came in between,
        begins here. None where nothing of a loop is in force: nothing was moved, or all that was in force is deleted.
        """
        moves, named = self.last_moves(), self.champion()
        if not moves:
            return self._begun(named)
        head = moves[-1]
        if named == head.version:
            if not head.applied:
                self._apply(moves)
            return head
        last, moves = moves, self.moves()
        if moves[-len(last) :] != last:
            return self.settle()  # somebody is at work: what was read does not belong together
        if self._numbered(head.version) is None:
            return self._repaired(moves)
        if named is None or _explained(named, moves):
            self._apply(moves)
            return head
        return self._by_hand(named, head)

    def _begun(self, named: int | None) -> Move | None:
        if named is not None:
            version = self.find(str(named))
            return self._by_hand(named, None) if version.tag("key") and not version.tag("bundle") else None
        first = next(iter(self.tagged("verdict", "start")), None)
        return None if first is None else self.begin(first.number)

    def _repaired(self, moves: list[Move]) -> Move | None:
        """A move back to the last that was in force and is still there, because the champion was deleted."""
        versions = self.versions()
        left = [move.version for move in moves if move.version in versions]
        if not left:
            return None
        reason = f"version {moves[-1].version} was deleted in MLflow's registry"
        try:
            return self.move(left[-1], "repair", reason, moves[-1])
        except MovedError:
            return self.moves()[-1]

    def _by_hand(self, version: int, base: Move | None) -> Move:
        try:
            return self.move(version, "by hand", "the alias was moved in MLflow's registry", base)
        except MovedError:
            return self.moves()[-1]

    def _apply(self, moves: list[Move], mark: str = "") -> None:
        """Bring the aliases in line with the log, again where the log grew meanwhile."""
        mark = mark or uuid.uuid4().hex[:16]
        opened = {move.number for move in moves if mark in move.writers}
        while True:
            head = moves[-1].number
            if head not in opened:
                self._mark(head, mark, str(time()))
                opened.add(head)
            self._set_aliases(moves)
            moves = self.last_moves()
            if moves[-1].number == head:
                break
        for number in opened:
            self._mark(number, mark, DONE)

    def _mark(self, move: int, mark: str, text: str) -> None:
        with tracking.reachable():
            self.client.set_model_version_tag(self.log, str(move), f"{TAG}{WRITER}{mark}", text)

    def _set_aliases(self, moves: list[Move]) -> None:
        head, before = moves[-1], previous(moves if is_step(moves) else self.moves())
        with tracking.reachable():
            if before is not None and self._numbered(before):
                self.client.set_registered_model_alias(self.name, PREVIOUS, str(before))
            elif PREVIOUS in self.aliases():
                self.client.delete_registered_model_alias(self.name, PREVIOUS)
            self.client.set_registered_model_alias(self.name, CHAMPION, str(head.version))
            for role, version in json.loads(self.find(str(head.version)).tag("roles") or "{}").items():
                self.client.set_registered_model_alias(f"{self.name}.{role}", CHAMPION, str(version))


def closed_by(kfp_run: str) -> list[Version]:
    """The versions of the rounds that a run of KFP has ended, in their order."""
    made = tracking.client()
    query = f"tags.`{TAG}kfp_run` = '{kfp_run}'"
    found = [_version(each) for each in _all(made, query)]
    by_round = {int(each.tag("round")): each for each in reversed(found) if each.tag("verdict") != "start"}
    return [by_round[number] for number in sorted(by_round)]


def _all(client: MlflowClient, query: str) -> list[Any]:
    """All versions that a query finds, in the order of their numbers.

    In any other order a version that somebody makes meanwhile would move others from page to page.
    """
    found: list[Any] = []
    token = None
    with tracking.reachable():
        while True:
            page = client.search_model_versions(query, PAGE, ["version_number ASC"], token)
            found += page
            token = page.token
            if not token:
                return found


def counted(moves: Iterable[Move], base: int = 0) -> list[Move]:
    """The moves that count, of all that were appended behind the move ``base``, which counts, in the order of their
    numbers.
    """
    chain: list[Move] = []
    for move in sorted(moves, key=lambda move: move.number):
        if move.base == (chain[-1].number if chain else base):
            chain.append(move)
    return chain


def counted_at_the_end(moves: Sequence[Move]) -> list[Move]:
    """The moves that count, of the last that were appended: from the first that is known to count, as the aliases were
    brought in line with it.
    """
    first = next((at for at, move in enumerate(moves) if move.applied), len(moves))
    return counted(moves[first:], moves[first].base) if moves[first:] else []


def _explained(named: int, moves: list[Move]) -> bool:
    """Whether the champion's alias names a version because of a move of ours: the last one's has not come, or an older
    one's comes late.
    """
    is_behind = not moves[-1].applied and named in [move.version for move in moves[-2:-1]]
    return is_behind or any(move.being_written for move in moves if move.version == named)


def is_step(moves: Sequence[Move]) -> bool:
    """Whether the last move went on, from another version: then what is before it is the one that it replaced."""
    return len(moves) > 1 and moves[-1].kind not in BACK and moves[-1].version != moves[-2].version


def previous(moves: Iterable[Move]) -> int | None:
    """What a rollback goes back to: the version that the champion replaced, step by step for several in a row."""
    stack: list[int] = []
    for move in moves:
        if move.kind in BACK and move.version in stack:
            del stack[stack.index(move.version) + 1 :]
        elif stack[-1:] != [move.version]:
            stack.append(move.version)
    return stack[-2] if len(stack) > 1 else None


def whoever() -> str:
    """Who moves a champion: a person at a machine, or a pod."""
    try:
        person = getpass.getuser()
    except (KeyError, OSError):
        person = str(os.getuid())
    return f"{person}@{socket.gethostname()}"


def _version(found: Any) -> Version:
    return Version(
        number=int(found.version),
        source=found.source,
        run_id=found.run_id or "",
        created=found.creation_timestamp / 1000,
        tags=dict(found.tags),
    )


def _move(found: Any) -> Move:
    tags = {name.removeprefix(TAG): value for name, value in found.tags.items()}
    return Move(
        number=int(found.version),
        version=int(tags.get("version", 0)),
        base=int(tags.get("base", -1)),
        kind=tags.get("kind", ""),
        reason=tags.get("reason", ""),
        by=tags.get("by", ""),
        created=found.creation_timestamp / 1000,
        writers={name.removeprefix(WRITER): text for name, text in tags.items() if name.startswith(WRITER)},
    )
