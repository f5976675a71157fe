"""Reversing a number: ``1234=4321``. Nothing but a second domain, which shows that recipes know of none.

Positions start again at the ``=``, so that the position of a digit and that of its copy add up to the same in a task.
Counted plainly, training on levels 1 to 8 solved none beyond in 5 rounds; so counted, it solved 3 of 4 of level 10.
"""

import random
from string import digits

from selfloop.environments import ExactAnswer, Restarts
from selfloop.records import Task


class Reverse(ExactAnswer):
    """Writing a number backwards."""

    name = "reverse"
    summary = "a number written backwards; the level is the number of digits"
    levels = range(1, 4_001)
    by_heart = (1, 2)
    alphabet = digits + "="
    restarts = Restarts(at="=", after="")

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Numbers of ``level`` random digits each, which may begin with zeros."""
        rng = random.Random(seed)
        return [
            _task(f"reverse-{level}-{seed:x}-{number}", level, rng.choices(digits, k=level)) for number in range(count)
        ]

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``repeats``: numbers of two different digits at most, in which a place is not told by its digit."""
        rng = random.Random(seed)
        made = []
        for number in range(count):
            given = rng.choices(rng.sample(digits, 2), k=level)
            made.append(_task(f"reverse-repeats-{level}-{seed:x}-{number}", level, given))
        return {"repeats": made}


def _task(id: str, level: int, given: list[str]) -> Task:
    return Task(id, level, "", f"{''.join(given)}=", "".join(reversed(given)), max_tokens=level + 1)


environment = Reverse
