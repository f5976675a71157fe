"""Reversed addition: ``321+654=9750``, least significant digit first, both numbers of exactly ``level`` digits.

The answer always has one digit more than the numbers. Position ids couple each digit of the answer with the digits it
depends on (after Cho et al., position coupling, arXiv:2405.20671): both numbers count from 1, and so does the answer.
"""

import random

from selfloop.environments import ExactAnswer, Restarts
from selfloop.records import Task


class Addition(ExactAnswer):
    """Adding two numbers, written backwards."""

    name = "addition"
    summary = "reversed addition; the level is the number of digits"
    levels = range(1, 4_001)
    alphabet = "0123456789+="
    restarts = Restarts(at="=", after="+")

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Sums of two random numbers of ``level`` digits each; one digit may be zero."""
        rng = random.Random(seed)
        low = 10 ** (level - 1) if level > 1 else 0
        made = []
        for number in range(count):
            a, b = rng.randrange(low, 10**level), rng.randrange(low, 10**level)
            prompt, answer = f"{str(a)[::-1]}+{str(b)[::-1]}=", f"{a + b:0{level + 1}}"[::-1]
            made.append(Task(f"addition-{level}-{seed:x}-{number}", level, "", prompt, answer, max_tokens=level + 2))
        return made


environment = Addition
