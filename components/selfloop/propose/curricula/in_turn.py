"""Every task equally often."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field

from selfloop.errors import UserError
from selfloop.propose.curricula import Curriculum, Probe, TaskPool
from selfloop.records import Task
from selfloop.seeds import seed_of


class InTurn(Curriculum):
    """Every task once, in an order of its own, then again in another one."""

    name = "in-turn"
    together: str = Field("", description="A word of tasks' metadata: those with the same are tried in one draw.")

    def choose(self, state: Any, pool: TaskPool, draw: int, groups: int, probe: Probe) -> tuple[list[Task], Any]:
        """The next tasks, or the next lots of them. Raises ``UserError`` for lots that do not fill a draw."""
        lots = by_word(pool.tasks, self.together) if self.together else [[task] for task in pool.tasks]
        size = len(lots[0]) if lots else 0
        if not size or groups % size:
            raise UserError(
                f"The curriculum '{self}' finds no lots of tasks that fill a draw of {groups} groups: draw tasks that "
                f"have '{self.together}' in their metadata, such as those of views:addition, or change batch_size."
            )
        numbers = range(draw * groups // size, (draw + 1) * groups // size)
        return [task for place in turns(numbers, len(lots), pool.seed("order")) for task in lots[place]], state


def by_word(tasks: Sequence[Task], word: str) -> list[list[Task]]:
    """Tasks that say the same for a word in their metadata, as many as the most that do."""
    found: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if said := json.loads(task.metadata).get(word):
            found[str(said)].append(task)
    most = max(map(len, found.values()), default=0)
    return [each for each in found.values() if len(each) == most]


def turns(numbers: Iterable[int], length: int, seed: int) -> list[int]:
    """Which of ``length`` things are taken at some numbers: each once, in a new random order every time around."""
    return [order(length, seed, number // length)[number % length] for number in numbers]


@lru_cache(maxsize=2)
def order(length: int, seed: int, around: int) -> list[int]:
    """A random order of ``length`` things, the same for a seed and a time around."""
    import numpy as np

    made: list[int] = np.random.default_rng(seed_of(seed, "around", around)).permutation(length).tolist()
    return made
