"""Reversed addition: ``321+654=9750``, least significant digit first, both numbers of exactly ``level`` digits.

The answer always has one digit more than the numbers. Position ids couple each digit of the answer with the digits it
depends on (after Cho et al., position coupling, arXiv:2405.20671): both numbers count from 1, and so does the answer.
"""

import random
from functools import cache

from selfloop.environments import ExactAnswer, Restarts
from selfloop.errors import UserError
from selfloop.records import Task

JUDGED = "judged"
"""The member of the family in which a policy is asked to judge sums, too: ``321+654=9750?`` is ``1`` or ``0``."""


class Addition(ExactAnswer):
    """Adding two numbers, written backwards."""

    name = "addition"
    summary = "reversed addition; the level is the number of digits"
    levels = range(1, 4_001)
    by_heart = (1,)
    alphabet = "0123456789+="
    restarts = Restarts(at="=", after="+")

    def __init__(self, member: str = "") -> None:
        if member not in ("", JUDGED):
            raise UserError(f"There is no environment '{self.name}:{member}': write 'addition' or 'addition:judged'.")
        if member:
            self.roles, self.alphabet = ("judge",), f"{type(self).alphabet}?"

    def asked(self, role: str, task: Task, attempt: str) -> str:
        """The whole sum, and a question mark."""
        if role not in self.roles:
            raise self._without(role)
        return f"{task.prompt}{''.join(letter for letter in attempt if letter in '0123456789')}?"

    def demonstrated(self, role: str, task: Task, attempt: str) -> str:
        """1 where the attempt is right, else 0."""
        return str(int(self.check(task, attempt).ok))

    def heard(self, role: str, text: str) -> float | None:
        """The mark: 1 or 0."""
        return float(text) if text in ("0", "1") else None

    def spoilt(self, task: Task, seed: int) -> str:
        """The answer with one digit changed."""
        rng = random.Random(seed)
        place = rng.randrange(len(task.answer))
        digit = (int(task.answer[place]) + rng.randrange(1, 10)) % 10
        return f"{task.answer[:place]}{digit}{task.answer[place + 1 :]}"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Sums of two random numbers of ``level`` digits each; one digit may be zero."""
        rng = random.Random(seed)
        low = 10 ** (level - 1) if level > 1 else 0
        made = []
        for number in range(count):
            a, b = rng.randrange(low, 10**level), rng.randrange(low, 10**level)
            made.append(_task(f"addition-{level}-{seed:x}-{number}", level, a, b))
        return made

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
