"""Every task equally often."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from selfloop.propose.curricula import Curriculum, Probe, TaskPool
from selfloop.records import Task
from selfloop.seeds import seed_of


class InTurn(Curriculum):
    """Every task once, in an order of its own, then again in another one."""

    name = "in-turn"

    def choose(self, state: Any, pool: TaskPool, draw: int, groups: int, probe: Probe) -> tuple[list[Task], Any]:
        """The next tasks."""
        numbers = range(draw * groups, (draw + 1) * groups)
        return [pool.tasks[place] for place in turns(numbers, len(pool.tasks), pool.seed("order"))], state


def turns(numbers: Iterable[int], length: int, seed: int) -> list[int]:
    """Which of ``length`` things are taken at some numbers: each once, in a new random order every time around."""
    return [order(length, seed, number // length)[number % length] for number in numbers]


@lru_cache(maxsize=2)
def order(length: int, seed: int, around: int) -> list[int]:
    """A random order of ``length`` things, the same for a seed and a time around."""
    import numpy as np

    made: list[int] = np.random.default_rng(seed_of(seed, "around", around)).permutation(length).tolist()
    return made
