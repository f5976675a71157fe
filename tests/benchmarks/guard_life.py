"""How often guards halt a healthy loop, and one that goes wrong: simulated rounds, the shipped guards, two processes.

``healthy``: loops of ten rounds in which nothing is wrong; how many any guard halts, or warns of. ``on the line``:
loops that from the fourth round on have lost as much as the halt lines allow. ``planted``: loops in which a fault
begins in the fourth round; how many the guard that should see it halts within five rounds.

The lines, the sizes of the faults and the bets were settled with seeds 0 and 1. The seeds here were used for nothing
else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from measuring import console, publish, wants_small
from scipy import stats

from tests.guards.simulated import BEGINS, GATE, HEALTHY, ON_THE_LINE, PLANTED, SIZES, WITHIN, Ended, planted, watched

SEED, ROUNDS, CORES = 20_261_130, 10, 2
NUMBER = {"healthy": 1000, "default sizes": 100, "planted": 100}
LOOPS = sorted([*HEALTHY, "on the line"], key=lambda name: name == "default sizes")  # the long one last


def rate(hits: int, number: int) -> dict[str, float]:
    """A share with its exact interval at 95 %."""
    interval = stats.binomtest(hits, number).proportion_ci(0.95)
    return {"rate": hits / number, "low": float(interval.low), "high": float(interval.high)}


def told(loops: Sequence[Ended]) -> dict[str, Any]:
    """How many loops were halted, by which guard, and how many a guard warned of."""
    by_guard = Counter(loop.guard for loop in loops if loop.round)
    warned = Counter(name for loop in loops for name in loop.warned)
    return {
        **rate(sum(by_guard.values()), len(loops)),
        "by_guard": dict(by_guard),
        "warned": sum(bool(loop.warned) for loop in loops) / len(loops),
        "warned_by_guard": dict(warned),
    }


def healthy(name: str, number: int) -> dict[str, Any]:
    """Loops in which nothing is wrong, or those that come to the line."""
    before = HEALTHY.get(name, HEALTHY["accuracy .7"])
    rounds = [before] * (BEGINS - 1) + [HEALTHY.get(name, ON_THE_LINE)] * (ROUNDS - BEGINS + 1)
    rng = np.random.default_rng([SEED, LOOPS.index(name)])
    return {"loop": name, "loops": number, **told([watched(rng, rounds) for _ in range(number)])}


def faulty(guard: str, size: str, number: int) -> dict[str, Any]:
    """Loops that go wrong."""
    rng = np.random.default_rng([SEED, 100, list(PLANTED).index(guard), list(SIZES).index(size)])
    loops = [planted(rng, guard, size) for _ in range(number)]
    early, late = (sum(0 < loop.round < BEGINS for loop in loops), sum(loop.round >= BEGINS for loop in loops))
    rounds = [loop.round - BEGINS + 1 for loop in loops if loop.round >= BEGINS]
    median = float(np.median(rounds)) if rounds else None
    return {"guard": guard, "size": size, "loops": number, **rate(late, number), "early": early, "rounds": median}


def done(case: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """One case in a process: ``healthy`` or ``planted``, and its numbers."""
    kind, *about = case
    return kind, healthy(*about) if kind == "healthy" else faulty(*about)


def main() -> None:
    """Simulate, print, write."""
    small = wants_small(__doc__)
    number = {"healthy": 2, "default sizes": 2, "planted": 2} if small else NUMBER
    cases: list[tuple[Any, ...]] = [("healthy", name, number.get(name, number["healthy"])) for name in LOOPS]
    cases += [("planted", guard, size, number["planted"]) for guard in PLANTED for size in SIZES]
    found: dict[str, list[dict[str, Any]]] = {"healthy": [], "planted": []}
    sizes = {name: {"tasks": each.tasks, "old": each.old, "target": each.target} for name, each in SIZES.items()}
    about: dict[str, Any] = {"alpha": GATE.guard_alpha, "rounds": ROUNDS, "begins": BEGINS, "within": WITHIN}
    about |= {"sizes": sizes, "faults": PLANTED}
    began = time.perf_counter()
    with ProcessPoolExecutor(CORES) as pool:
        for kind, case in pool.map(done, cases):
            found[kind].append(case)
            console.print(f"[dim]{case.get('loop', case.get('guard'))} {case.get('size', '')}: {case['rate']:.2%}[/]")
            publish("guard_life", small, {**about, "seconds": time.perf_counter() - began, **found})


if __name__ == "__main__":
    main()
