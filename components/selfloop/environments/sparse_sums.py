"""Sparse sums: ``2:3141592653=3``, the sum of some of ten digits modulo 10, always of the same places.

The level says how many places count, the first of a fixed order; nothing in a task says which. What solves a level is
part of what solves the next: a policy must find one place more. After the sparse modular addition of Odonnat et al.,
"Easing Optimization Paths: a Circuit Perspective", where training on sub-circuits first makes the whole easy to find.
The number before the digits is the level, so that one policy can hold all of them.
"""

import random
from string import digits

from selfloop.environments import ExactAnswer
from selfloop.errors import UserError
from selfloop.records import Task

PLACES = (6, 1, 8, 3, 9, 0)
"""The places that count, counted from 0; a level has the first so many of them."""
LENGTH, MODULUS = 10, 10


class SparseSums(ExactAnswer):
    """Adding some of ten digits."""

    name = "sparse-sums"
    summary = f"the sum of some of {LENGTH} digits modulo {MODULUS}; the level is how many, always of the same places"
    levels = range(1, len(PLACES) + 1)
    alphabet = digits + ":="

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Rows of random digits behind their level. Raises ``UserError`` for a level that there is not."""
        if level not in self.levels:
            raise UserError(f"sparse-sums has levels 1 to {len(PLACES)}, not {level}.")
        rng = random.Random(seed)
        drawn = ([rng.randrange(MODULUS) for _ in range(LENGTH)] for _ in range(count))
        return [
            Task(
                f"sparse-sums-{level}-{seed:x}-{number}",
                level,
                "",
                f"{level}:{''.join(map(str, row))}=",
                str(sum(row[place] for place in PLACES[:level]) % MODULUS),
                max_tokens=2,
            )
            for number, row in enumerate(drawn)
        ]


environment = SparseSums
