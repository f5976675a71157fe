"""How often guards halt a healthy loop, and one that goes wrong: simulated rounds, the shipped guards, two processes.

``healthy``: loops of ten rounds in which nothing is wrong; how many any guard halts, or warns of. ``on the line``:
loops that from the fourth round on have lost as much as the halt lines allow. ``planted``: loops in which a fault
begins in the fourth round; how many the guard that should see it halts within five rounds.

The lines, the sizes of the faults and the bets were settled with seeds 0 and 1. The seeds here were used for nothing
else.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
from measuring import publish, wants_small
from scipy import stats

from tests.guards.simulated import BEGINS, GATE, HEALTHY, ON_THE_LINE, PLANTED, SIZES, WITHIN, Ended, planted, watched

SEED, ROUNDS, CORES, PARTS = 20_261_130, 10, 2, 10
LOOPS = [*HEALTHY, "on the line"]
NUMBER = {"default sizes": 10}
"""Loops of a part where they are not ``HEALTHY_LOOPS`` or ``FAULTY_LOOPS``: these cost more."""
HEALTHY_LOOPS, FAULTY_LOOPS = 100, 20


def rate(hits: int, number: int) -> dict[str, float]:
    """A share with its exact interval at 95 %."""
    interval = stats.binomtest(hits, number).proportion_ci(0.95)
    return {"rate": hits / number, "low": float(interval.low), "high": float(interval.high)}


def healthy(name: str, part: int, number: int) -> list[Ended]:
    """Loops in which nothing is wrong, or those that come to the line."""
    before = HEALTHY.get(name, HEALTHY["accuracy .7"])
    rounds = [before] * (BEGINS - 1) + [HEALTHY.get(name, ON_THE_LINE)] * (ROUNDS - BEGINS + 1)
    rng = np.random.default_rng([SEED, LOOPS.index(name), part])
    return [watched(rng, rounds) for _ in range(number)]


def faulty(guard: str, size: str, part: int, number: int) -> list[Ended]:
    """Loops that go wrong."""
    rng = np.random.default_rng([SEED, 100, list(PLANTED).index(guard), list(SIZES).index(size), part])
    return [planted(rng, guard, size) for _ in range(number)]


def of_healthy(name: str, loops: Sequence[Ended]) -> dict[str, Any]:
    """How many loops were halted, by which guard, and how many a guard warned of."""
    by_guard = Counter(loop.guard for loop in loops if loop.round)
    warned = Counter(each for loop in loops for each in loop.warned)
    return {
        "loop": name,
        "loops": len(loops),
        **rate(sum(by_guard.values()), len(loops)),
        "by_guard": dict(by_guard),
        "warned": sum(bool(loop.warned) for loop in loops) / len(loops),
        "warned_by_guard": dict(warned),
    }


def of_faulty(guard: str, size: str, loops: Sequence[Ended]) -> dict[str, Any]:
    """How many loops were halted within five rounds of the fault, and before it."""
    late = [loop.round - BEGINS + 1 for loop in loops if loop.round >= BEGINS]
    early, median = sum(0 < loop.round < BEGINS for loop in loops), float(np.median(late)) if late else None
    case = {"guard": guard, "size": size, "loops": len(loops)}
    return {**case, **rate(len(late), len(loops)), "early": early, "rounds": median}


def done(case: tuple[str, ...], part: int, number: int) -> list[Ended]:
    """A part of a case: the name of a healthy loop, or a guard and a size."""
    return healthy(case[0], part, number) if len(case) == 1 else faulty(case[0], case[1], part, number)


def main() -> None:
    """Simulate part after part, print, write what there is after each."""
    small, began = wants_small(__doc__), time.perf_counter()
    cases: dict[tuple[str, ...], int] = {(name,): NUMBER.get(name, HEALTHY_LOOPS) for name in LOOPS}
    cases |= {(guard, size): FAULTY_LOOPS for guard in PLANTED for size in SIZES}
    sizes = {name: {"tasks": each.tasks, "old": each.old, "target": each.target} for name, each in SIZES.items()}
    about: dict[str, Any] = {"alpha": GATE.guard_alpha, "rounds": ROUNDS, "begins": BEGINS, "within": WITHIN}
    about |= {"sizes": sizes, "faults": PLANTED}
    loops = defaultdict[tuple[str, ...], list[Ended]](list)
    with ProcessPoolExecutor(CORES) as pool:
        for part in range(1 if small else PARTS):
            numbers = [2 if small else number for number in cases.values()]
            for case, ended in zip(cases, pool.map(done, cases, repeat(part), numbers), strict=True):
                loops[case] += ended
            found = {
                "healthy": [of_healthy(name, loops[name,]) for name in LOOPS],
                "planted": [of_faulty(case[0], case[1], ended) for case, ended in loops.items() if len(case) == 2],
            }
            publish("guard_life", small, {**about, "seconds": time.perf_counter() - began, **found})


if __name__ == "__main__":
    main()
