"""Loops in numbers: rounds drawn at random, watched by the shipped guards as the gate has them watch.

Only the reading of tables is left out: what a guard would read of them is drawn. A task's attempts are right with a
chance of its own (Beta), and a verifier is misled about all wrong attempts at a task or about none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from selfloop.guards import Evidence, Groups, Guard, Sample, watch
from selfloop.promote.gate import GateParams
from selfloop.records import ItemResult

GATE = GateParams()
TEXT = "x" * 10_000
NAMES = [f"{number}" for number in range(1000)]
Rng = np.random.Generator


@dataclass(frozen=True)
class Round:
    """What one round truly is, and how much of it is seen."""

    tasks: int = 60
    attempts: int = 4
    accuracy: float = 0.6
    precision: float = 0.95
    recall: float = 0.8
    apart: float = 0.05
    """Mean score less mean truth."""
    varied: float = 0.4
    """Chance that a further attempt says something new."""
    old: int = 60
    """Items of the old suite; a half of each of two levels."""
    kept: float = 0.7
    """The champion's accuracy on them."""
    longer: float = 0.0
    """Doublings of length, candidate over champion, and how much they vary from item to item."""
    spread: float = 0.7
    target: int = 60
    samples: int = 4
    narrower: float = 0.0
    """The candidate never solves items that the champion solves less often than this, and always the others."""
    prompts: int = 60
    contaminated: float = 0.0
    promoted: float = 0.6


class Drawn(Evidence):
    """What the guards see of a round, drawn where one of them looks."""

    def __init__(self, rng: Rng, round: Round, past: Sequence[Mapping[str, Any]], alpha: float) -> None:
        new = int(rng.binomial(round.prompts, round.contaminated))
        counts = {"newest": round.prompts}
        candidate = {"examples": counts, "contaminated": {"newest": new}, "prompts": {**counts, "contaminated": new}}
        super().__init__({}, candidate=candidate, past=past, audited=GATE.audited, seed=0, alpha=alpha)
        self._rng, self._round = rng, round

    @cached_property
    def sample(self) -> Sample:
        """The audit sample."""
        return audited(self._rng, self._round)

    @cached_property
    def groups(self) -> Groups:
        """What the attempts say."""
        return grouped(self._rng, self._round)

    @cached_property
    def answers(self) -> list[ItemResult]:
        """The answers to held-out items."""
        return answered(self._rng, self._round)


def audited(rng: Rng, round: Round) -> Sample:
    """The audit sample: every attempt at the tasks."""
    chance = rng.beta(4 * round.accuracy, 4 * (1 - round.accuracy), round.tasks)[:, None]
    truth = rng.random((round.tasks, round.attempts)) < chance
    wrong = round.recall * round.accuracy * (1 - round.precision) / round.precision / (1 - round.accuracy)
    misled = rng.random((round.tasks, 1)) < wrong
    ok = np.where(truth, rng.random(truth.shape) < round.recall, misled)
    score = np.where(rng.random(truth.shape) < round.apart / (1 - round.accuracy), 1.0, truth)
    unit = np.repeat([f"task {number}" for number in range(round.tasks)], round.attempts)
    return Sample(ok.ravel(), score.ravel(), truth.ravel(), unit.tolist())


def grouped(rng: Rng, round: Round) -> Groups:
    """What the attempts at the tasks say: the first one's answer, or one that no other gives."""
    number = round.attempts
    new = rng.binomial(number - 1, round.varied, round.tasks)
    same = number - new
    entropy = np.log(number) - same * np.log(same) / number
    return Groups(np.full(round.tasks, number), new + 1, entropy, [f"{task}" for task in range(round.tasks)])


def answered(rng: Rng, round: Round) -> list[ItemResult]:
    """Answers of champion and candidate to old items and to those of the target."""
    solved = (rng.random(round.old) < round.kept).tolist()
    size = np.maximum(np.round(2 ** rng.normal(6, 1, round.old)), 1)
    sizes = {"champion": size, "candidate": size * 2 ** rng.normal(round.longer, round.spread, round.old)}
    found = [
        ItemResult(policy, "old", item % 2, NAMES[item], 0, solved[item], TEXT[: int(length)])
        for policy, lengths in sizes.items()
        for item, length in enumerate(lengths.tolist())
    ]
    chance = rng.beta(1, 1, round.target)
    sharper = chance >= round.narrower if round.narrower else np.minimum(chance + 0.05, 1.0)
    for policy, each in (("champion", chance), ("candidate", sharper)):
        oks = (rng.random((round.target, round.samples)) < each[:, None]).tolist()
        found += [
            ItemResult(policy, "target", 1, NAMES[item], sample, ok, "")
            for item, of_item in enumerate(oks)
            for sample, ok in enumerate(of_item)
        ]
    return found


class Ended(NamedTuple):
    """The round in which a loop was halted, 0 where it never was, the guard that did so, and those that warned."""

    round: int
    guard: str
    warned: frozenset[str]


def watched(rng: Rng, rounds: Sequence[Round], guards: Sequence[Guard] = GATE.guards) -> Ended:
    """A loop, watched by some of the guards with the budget that each has among all of them."""
    past, warned = list[dict[str, Any]](), set[str]()
    for number, round in enumerate(rounds, start=1):
        alarms = watch(Drawn(rng, round, past, GATE.guard_alpha / len(GATE.guards)), guards)
        warned |= {name for name, alarm in alarms.items() if alarm.level == "yellow"}
        red = [name for name, alarm in alarms.items() if alarm.level == "red"]
        if red:
            return Ended(number, red[0], frozenset(warned))
        told = {name: alarm._asdict() for name, alarm in alarms.items()}
        past.append({"decision": {"promoted": bool(rng.random() < round.promoted), "guards": told}})
    return Ended(0, "", frozenset(warned))


HEALTHY = {
    "accuracy .7": Round(kept=0.7),
    "accuracy .6": Round(kept=0.6),
    "20 audited tasks": Round(tasks=20),
    "default sizes": Round(tasks=240, old=512, target=448, prompts=240, kept=0.9),
}
"""Loops in which nothing is wrong; where nothing else is said, 60 of everything."""
ON_THE_LINE = Round(kept=0.6, precision=0.7, apart=0.25, varied=0.12, contaminated=0.2)
"""What a loop as the first comes to that has lost as much as is allowed, but for what is counted over promotions."""
BEGINS, WITHIN = 4, 5
"""The round in which a fault begins, and the rounds within which it should be found."""
PLANTED: dict[str, dict[str, Any]] = {
    "precision": {"precision": 0.5},
    "gap": {"precision": 0.6, "recall": 1.0},
    "divergence": {"apart": 0.39},
    "distinct": {"varied": 0.03},
    "entropy": {"varied": 0.03},
    "coverage": {"narrower": 0.45, "promoted": 0.8},
    "length": {"longer": 1.0, "promoted": 0.8},
    "forgetting": {"kept": 0.4},
    "contamination": {"contaminated": 0.5},
}
"""What goes wrong with a loop of accuracy .7, by the guard that should see it."""
SIZES = {"small": Round(), "usual": Round(tasks=240, old=512, target=448, prompts=240)}


def planted(rng: Rng, guard: str, size: str) -> Ended:
    """A loop in which a fault begins, watched by the guard that should see it."""
    good = SIZES[size]
    bad = replace(good, **PLANTED[guard])
    return watched(rng, [good] * (BEGINS - 1) + [bad] * WITHIN, [Guard.parse(guard)])
