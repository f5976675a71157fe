"""Reversed addition: ``321+654=9750``, least significant digit first, both numbers of exactly ``level`` digits.

The answer always has one digit more than the numbers. Position ids couple each digit of the answer with the digits it
depends on (after Cho et al., position coupling, arXiv:2405.20671): both numbers count from 1, and so does the answer.
"""

import random
from functools import cache

from selfloop.environments import ExactAnswer, Restarts
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.roles import AGAIN, BETTER, JUDGE, WORSE, WRONG


class Addition(ExactAnswer):
    """Adding two numbers, written backwards."""

    name = "addition"
    summary = "reversed addition; the level is the number of digits"
    levels = range(1, 4_001)
    by_heart = (1,)
    alphabet = "0123456789+="
    restarts = Restarts(at="=", after="+")
    roles = (JUDGE, BETTER, AGAIN, WRONG, WORSE)
    closing = "="
    has_views = True

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Sums of two random numbers of ``level`` digits each; one digit may be zero."""
        rng = random.Random(seed)
        low = 10 ** (level - 1) if level > 1 else 0
        made = []
        for number in range(count):
            a, b = rng.randrange(low, 10**level), rng.randrange(low, 10**level)
            made.append(_task(f"addition-{level}-{seed:x}-{number}", level, a, b))
        return made

    def view(self, task: Task) -> Task:
        """The numbers changed about."""
        one, other = task.prompt.removesuffix("=").split("+")
        return task._replace(prompt=f"{other}+{one}=")

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """The answer with so many digits changed; each digit is a step."""
        if not 1 <= errors <= len(task.answer):
            raise UserError(f"An answer of {len(task.answer)} digits has no {errors} wrong ones: ask for as many.")
        rng, digits = random.Random(seed), list(task.answer)
        for place in rng.sample(range(len(digits)), errors):
            digits[place] = str((int(digits[place]) + rng.randrange(1, 10)) % 10)
        return "".join(digits)

    def steps(self, completion: str) -> list[int]:
        """Behind each digit."""
        return list(range(1, len(completion) + 1))

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``carries``: sums in which every digit carries; random sums of 20 digits hardly ever do."""
        rng = random.Random(seed)
        made = []
        for number in range(count):
            pairs = [rng.choice(_pairs(first=n == 0, last=n == level - 1)) for n in range(level)]
            a, b = (sum(pair[side] * 10**n for n, pair in enumerate(pairs)) for side in (0, 1))
            made.append(_task(f"addition-carries-{level}-{seed:x}-{number}", level, a, b))
        return {"carries": made}


def _task(id: str, level: int, a: int, b: int) -> Task:
    return Task(id, level, "", f"{str(a)[::-1]}+{str(b)[::-1]}=", f"{a + b:0{level + 1}}"[::-1], max_tokens=level + 2)


@cache
def _pairs(first: bool, last: bool) -> list[tuple[int, int]]:
    """Pairs of digits that carry: the first of a sum by themselves, others with what is carried; the last, no zeros."""
    return [(a, b) for a in range(last, 10) for b in range(last, 10) if a + b >= 9 + first]


environment = Addition
