"""The split: each problem of an environment is in one of four parts, for good.

``train`` is what policies learn from, ``gate`` what a first look and the suites of old skills are drawn from,
``confirm`` what a second look is; the vault is opened by ``measure_policy`` alone. The part follows from the problem
itself: it is the same in every round, run, fork and schedule, whatever the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from hashlib import blake2b
from typing import Literal, TypeVar

from selfloop.environments import Environment, say_once
from selfloop.records import Task

Drawn = TypeVar("Drawn")
Part = Literal["train", "gate", "confirm", "vault"]
TRAIN: Part = "train"
GATE: Part = "gate"
CONFIRM: Part = "confirm"
VAULT: Part = "vault"
HELD_OUT: tuple[Part, ...] = (GATE, CONFIRM, CONFIRM, VAULT)
"""What the held-out problems are parted into, an equal share for each."""
PROBLEMS = 12
"""Of so many problems those are held out that ``HELD_OUT`` names, where an environment keeps none apart."""
SURE = 32
"""Problems of a part that draws should have brought, before a part that brings no more counts as exhausted."""
MOST = 4
"""How many times as many draws as should be enough are made."""


def part_of(environment: Environment, task: Task) -> Part:
    """The part that a problem is in; all problems of a cluster are in one. Where an environment keeps what it holds out
    apart, the part that one of those is in.
    """
    whole = task.cluster or environment.content(task)
    number = int.from_bytes(blake2b(whole.encode(), digest_size=8).digest(), "big") % PROBLEMS
    place = number % len(HELD_OUT) if environment.apart else number
    return HELD_OUT[place] if place < len(HELD_OUT) else TRAIN


def trains(environment: Environment, task: Task) -> bool:
    """Whether a problem may be learnt from."""
    return environment.apart or is_in(environment, task, TRAIN)


def is_in(environment: Environment, task: Task, part: Part) -> bool:
    """Whether a problem may be drawn for a part: one that is learnt by heart for every part."""
    return task.level in environment.by_heart or part_of(environment, task) == part


def share_of(environment: Environment, part: Part, level: int) -> float:
    """The share of what an environment draws of a level that is in a part."""
    if level in environment.by_heart or (part == TRAIN and environment.apart):
        return 1.0
    if part == TRAIN:
        return 1 - len(HELD_OUT) / PROBLEMS
    return HELD_OUT.count(part) / (len(HELD_OUT) if environment.apart else PROBLEMS)


def draw_training(environment: Environment, level: int, count: int, seed: int) -> list[Task]:
    """``count`` tasks of a level to learn from, as the environment draws them; fewer where there are no more."""
    found = _chosen(
        lambda number: environment.tasks(level, number, seed),
        lambda drawn: [task for task in drawn if trains(environment, task)],
        count,
        share_of(environment, TRAIN, level),
    )
    if len(found) < count:
        say_once(
            f"{environment.source} has {len(found)} tasks of level {level} to learn from, fewer than the {count} asked "
            "for."
        )
    return found


def first_prompt(environment: Environment) -> str:
    """A prompt of the easiest level, none of a held-out task: it shows how a policy of the environment is asked."""
    level = environment.levels[0] if environment.levels else 1
    return next((task.prompt for task in draw_training(environment, level, 1, 0)), "")


def draw_proposals(environment: Environment, level: int, count: int, seed: int) -> list[str]:
    """``count`` texts as a proposer should write them, of tasks to learn from; fewer where there are no more."""
    return _chosen(
        lambda number: environment.proposals(level, number, seed),
        lambda drawn: [text for text in drawn if trains(environment, environment.parse_proposal(text, ""))],
        count,
        share_of(environment, TRAIN, level),
    )


def draw_items(
    environment: Environment, part: Part, level: int, count: int, seed: int, known: Container[str] = ()
) -> list[Task]:
    """``count`` problems of a level out of a part that is held out, no problem twice and none whose id is ``known``;
    fewer where there are no more. Their ids are the part, the level and a digest of the problem.
    """
    return _chosen(
        lambda number: environment.held_out(level, number, seed),
        lambda drawn: named(environment, part, (task for task in drawn if is_in(environment, task, part)), known),
        count,
        share_of(environment, part, level),
    )


def draw_suite(
    environment: Environment, name: str, level: int, count: int, seed: int, known: Container[str] = ()
) -> list[Task]:
    """The same of a guard suite that an environment declares: of problems that tasks may be, those in ``gate``."""
    every = environment.suites_apart
    return _chosen(
        lambda number: environment.guard_suites(level, number, seed).get(name, []),
        lambda drawn: named(
            environment, name, (task for task in drawn if every or is_in(environment, task, GATE)), known
        ),
        count,
        1.0 if every else share_of(environment, GATE, level),
    )


def named(environment: Environment, name: str, tasks: Iterable[Task], known: Container[str]) -> list[Task]:
    """Tasks, each problem once, with an id that begins with a name and says which problem it is; without those whose id
    is ``known``.
    """
    found: dict[str, Task] = {}
    for task in tasks:
        digest = blake2b(environment.content(task).encode(), digest_size=8).hexdigest()
        id = f"{name}-{task.level}-{digest}"
        if id not in known:
            found.setdefault(id, task._replace(id=id))
    return list(found.values())


def _chosen(
    draw: Callable[[int], list[Drawn]],
    choose: Callable[[list[Drawn]], list[Drawn]],
    count: int,
    share: float,
) -> list[Drawn]:
    """The first ``count`` that are chosen, of as many draws as that takes where about a ``share`` is; fewer where there
    are no more, or where the later half of the draws brought nothing new.
    """
    enough, found = math.ceil((count + 3 * math.sqrt(count) * (share < 1)) / share), list[Drawn]()
    number = enough
    while count and number <= max(MOST * enough, 2 * SURE / share):
        drawn = draw(number)
        found = choose(drawn)
        if len(found) >= count or len(drawn) < number:
            break
        if number * share > SURE and len(choose(drawn[: number // 2])) == len(found):
            break
        number *= 2
    return found[:count]
