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
    alphabet = digits + "="
    restarts = Restarts(at="=", after="")

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Numbers of ``level`` random digits each, which may begin with zeros."""
        rng = random.Random(seed)
        made = []
        for number in range(count):
            given = "".join(rng.choices(digits, k=level))
            prompt, answer = f"{given}=", given[::-1]
            made.append(Task(f"reverse-{level}-{seed:x}-{number}", level, "", prompt, answer, max_tokens=level + 1))
        return made


environment = Reverse
