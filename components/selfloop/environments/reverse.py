"""Reversing a word: ``selfloop=poolfles``. Nothing but a second domain, which shows that recipes know of none.

Positions are counted plainly: the letter to copy next always stands two further back than the one before.
"""

import random
from string import ascii_lowercase

from selfloop.environments import ExactAnswer
from selfloop.records import Task


class Reverse(ExactAnswer):
    """Writing a word backwards."""

    name = "reverse"
    summary = "a word written backwards; the level is its length"
    levels = range(1, 4_001)
    alphabet = ascii_lowercase + "="

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Words of ``level`` random letters."""
        rng = random.Random(seed)
        made = []
        for number in range(count):
            word = "".join(rng.choices(ascii_lowercase, k=level))
            made.append(
                Task(f"reverse-{level}-{seed:x}-{number}", level, "", f"{word}=", word[::-1], max_tokens=level + 1)
            )
        return made


environment = Reverse
