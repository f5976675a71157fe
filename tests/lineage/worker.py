"""Processes that promote, are killed at a step of it, or race. Run as a program: it prints what it saw as JSON.

Each attempt is a child of its own, forked before MLflow was used, so that a kill takes nothing else with it.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import mlflow
from kfp.dsl import Artifact
from mlflow import MlflowClient
from selfloop.artifacts import MANIFEST, manifest_of, seal, write_json
from selfloop.errors import UserError
from selfloop.lineage import decisions
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import record_round
from selfloop.loop import state_of
from selfloop.recipe import find_recipe

NAME = os.environ.get("SELFLOOP_RACE_NAME", "adder")
WRITES = [
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "create_run",
    "log_batch",
    "set_tag",
    "set_terminated",
]
REGISTERING = ["create_model_version", "set_registered_model_alias"]
BETWEEN = [(2, True), (3, True), (5, True), (9, True), (10, True)]
"""After the first role's version, the second's, the bundle's, the first role's alias; and when all is done."""
FIRST = [(6, False), (8, False)]
"""After the version of what a loop begins with, and after the move to it: a model is made once one lacks it."""


def started(work: Callable[[], Any]) -> tuple[int, int]:
    """A forked process that does some work, and where it tells what it returned."""
    receiver, sender = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(receiver)
        status = 1
        try:
            os.write(sender, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(sender)
    return process, receiver


def ended(process: int, receiver: int) -> tuple[int, Any]:
    """The exit status of such a process, and what it returned."""
    with os.fdopen(receiver, "rb") as told:
        said = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), json.loads(said) if said else None


def child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do some work in a forked process: its exit status, and what it returned."""
    return ended(*started(work))


def killed_at(step: int, before: bool, writes: Sequence[str]) -> None:
    """From now on, die at the n-th write to MLflow: before it, or after it was done."""
    done = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*words: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == step and before:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*words, **named)
            finally:
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        return write

    for name in writes:
        setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))


def use(place: Path) -> None:
    """Use the registry in a folder."""
    uri = os.environ.get("SELFLOOP_RACE_URI") or f"sqlite:///{place}/mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def seen(place: Path) -> dict[str, Any]:
    """What a reader of the registry finds, before and after it is settled."""
    use(place)
    registry = Registry(NAME)
    alias = registry.aliases().get("champion")
    moves = [move.version for move in registry.moves()]
    head = registry.settle()
    return {"alias": alias, "moves": moves, "head": head and head.version, "settled": registry.aliases()["champion"]}


def kills(
    prepared: Path,
    work: Callable[[], Any],
    look: Callable[[Path], Any],
    writes: Sequence[str] = WRITES,
    moments: Iterable[tuple[int, bool]] = tuple(product(range(1, 60), (True, False))),
) -> list[dict[str, Any]]:
    """Kill the work at each of its writes, in a fresh copy of a registry, and look; then let it be done."""
    found: list[dict[str, Any]] = []
    for step, before in moments:
        place = prepared.parent / f"killed-{step}-{before}"
        shutil.copytree(prepared, place)

        def dies(place: Path = place, step: int = step, before: bool = before) -> Any:
            use(place)
            os.chdir(place)
            killed_at(step, before, writes)
            return work()

        def again(place: Path = place) -> Any:
            first = look(place)
            os.chdir(place)
            try:
                said = work()
            except UserError as error:
                said = str(error)
            return {"seen": first, "again": said, "then": look(place)}

        status, _ = child(dies)
        ended, told = child(again)
        assert ended == 0
        found.append({"status": status} | told)
        if status == 0:
            return found
    return found


def promotes() -> int:
    """A person's promotion of version 4."""
    return decisions.promote(NAME, "4", "better").version


def ended_round(place: Path, number: int) -> list[str]:
    """The promotion at the end of a round of two roles whose policies are a word each: what the loop continues with."""
    recipe = find_recipe(str(Path(__file__).with_name("two_roles.py")))
    before, after = (
        {name: word(place, f"{name} {at}", kind) for name, kind in state_of(recipe).items()}
        for at in (number - 1, number)
    )
    decision = {"promoted": True, "verdict": "promoted", "reason": "better"}
    carried = record_round(recipe, recipe.resolve({}).for_round(number), before, after, decision)
    return [manifest_of(carried[role].path).digest for role in recipe.roles]


def word(place: Path, text: str, kind: type[Artifact]) -> Artifact:
    """An artifact that holds a word."""
    folder = place / text
    if not (folder / MANIFEST).exists():
        write_json(folder, text)
        seal(folder, kind.__name__)
    return kind(uri=str(folder))


def bundle(place: Path) -> dict[str, Any]:
    """What a reader finds of a loop with two roles, once it is settled."""
    use(place)
    pair, *roles = (Registry(name) for name in ("pair", "pair.solver", "pair.proposer"))
    head = pair.settle()
    assert head is not None
    version = pair.find("champion")
    numbers = json.loads(version.tag("roles"))
    return {
        "head": head.version,
        "moves": [move.version for move in pair.moves()],
        "digests": version.tag("digests").split(","),
        "named": [each.find(str(number)).tag("digest") for each, number in zip(roles, numbers.values(), strict=True)],
        "in_force": [each.find("champion").tag("digest") for each in roles],
        "versions": [len(each.versions()) for each in (pair, *roles)],
    }


def races(place: Path, number: int) -> list[Any]:
    """Two people promote different versions at the same moment, over and over; what each was told, and who won."""
    rounds = []
    for _ in range(number):
        (ready, go), (looked, look) = os.pipe(), os.pipe()

        def contends(version: int, ready: int = ready, look: int = look) -> Any:
            use(place)
            registry = Registry(NAME)
            head = registry.settle()
            os.write(look, b".")
            os.read(ready, 1)  # both have seen the same champion, and now go
            try:
                return {"won": registry.move(version, "promote", "a race", head).version}
            except UserError as error:
                return {"lost": str(error)}

        both = [started(partial(contends, version)) for version in child(partial(next_two, place))[1]]
        for _ in both:
            os.read(looked, 1)
        os.write(go, b"go")
        told = [ended(*each)[1] for each in both]
        rounds.append({"told": told, **child(partial(seen, place))[1]})
    return rounds


def crowd(place: Path, racers: int, turns: int) -> dict[str, Any]:
    """Many processes that promote one version after the other, each from the champion that it finds; what each was
    told of its moves, and the moves that count.
    """
    ready, go = os.pipe()

    def contends(racer: int) -> dict[str, str]:
        use(place)
        registry, told = Registry(NAME), {}
        os.close(go)
        os.read(ready, 1)
        for turn in range(turns):
            head = registry.settle()
            assert head is not None
            others = [number for number in (1, 2, 3, 4, 5) if number != head.version]
            reason = f"{racer}.{turn}"
            try:
                registry.move(others[(racer + turn) % 4], "promote", reason, head)
                told[reason] = "won"
            except UserError as error:
                told[reason] = str(error)
        return told

    all_of_them = [started(partial(contends, racer)) for racer in range(racers)]
    os.close(go)
    found = [ended(*each) for each in all_of_them]
    assert {status for status, _ in found} == {0}
    return {
        "told": {reason: said for _, told in found for reason, said in told.items()},
        "moves": child(partial(log_of, place))[1],
    }


def log_of(place: Path) -> list[tuple[str, str, int]]:
    """The moves that count, once the registry is settled: kind, reason and version."""
    use(place)
    registry = Registry(NAME)
    head = registry.settle()
    moves = registry.moves()
    assert head == moves[-1]
    assert registry.aliases()["champion"] == head.version
    return [(move.kind, move.reason, move.version) for move in moves]


def next_two(place: Path) -> list[int]:
    """Two versions that are not in force."""
    use(place)
    registry = Registry(NAME)
    head = registry.settle()
    assert head is not None
    return [number for number in registry.versions() if number != head.version][:2]


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    asked: dict[str, Callable[[], Any]] = {
        "kills": lambda: kills(folder, promotes, seen),
        "bundles": lambda: kills(folder, partial(ended_round, Path(sys.argv[3]), 2), bundle, REGISTERING, BETWEEN),
        "beginnings": lambda: kills(folder, partial(ended_round, Path(sys.argv[3]), 1), bundle, REGISTERING[:1], FIRST),
        "crowd": lambda: crowd(folder, int(sys.argv[3]), int(sys.argv[4])),
        "races": lambda: races(folder, int(sys.argv[3])),
    }
    print(json.dumps(asked[what]()))
