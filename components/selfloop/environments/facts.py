"""Facts: ``[qd=17][ab=40]?ab`` asks what ``ab`` stands for, and is answered ``40``.

Level n has n passages, one of which says it. Names and numbers of levels 1 to 3 are drawn anew for each task, so that
they must be read. Those of levels 4 and 5 are of a domain, the same 60 facts for everybody: level 4 asks with three of
its passages, as if they had been retrieved, and level 5 with none, ``?ab``, so that its facts must be known. No fact of
the domain stands in a task of levels 1 to 3. After the retrieval of Kang et al., "Self-Specialization"
(arXiv:2310.00160).
"""

import random
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from string import ascii_lowercase, digits

from selfloop.environments import ExactAnswer, distinct
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of

MADE_UP, RETRIEVED, KNOWN = range(1, 4), 4, 5
"""Levels: their passages are drawn anew; they are of the domain; there are none."""
PASSAGES = 3
"""Passages of a question about the domain."""
DOMAIN = 60
"""Facts of the domain."""
ASKS = "?"


class Facts(ExactAnswer):
    """What a name stands for, by what is read or by what is known."""

    name = "facts"
    summary = "what a name stands for, which passages say (levels 1 to 4) or nothing does (5): facts of a domain"
    levels = range(1, KNOWN + 1)
    by_heart = (RETRIEVED, KNOWN)
    has_views = True
    alphabet = digits + ascii_lowercase + f"=[]{ASKS}"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Questions of a level, no prompt twice; of level 5 there are as many as facts."""
        drawn = distinct(_questions(level, random.Random(seed)), count)
        return [
            Task(f"facts-{level}-{seed:x}-{number}", level, "", prompt, answer, max_tokens=3)
            for number, (prompt, answer) in enumerate(drawn)
        ]

    def view(self, task: Task) -> Task:
        """The passages from the last to the first."""
        passages, _, name = task.prompt.rpartition(ASKS)
        return task._replace(prompt=f"{''.join(f'[{each}' for each in passages.split('[')[:0:-1])}{ASKS}{name}")

    def content(self, task: Task) -> str:
        """The passages in any order, and the name; of the domain the name alone."""
        passages, _, name = task.prompt.rpartition(ASKS)
        return name if task.level in self.by_heart else f"{''.join(sorted(passages.split('[')))}{ASKS}{name}"


@cache
def domain() -> Mapping[str, str]:
    """What the names of the domain stand for."""
    rng = random.Random(seed_of("facts"))
    return {name: f"{rng.randrange(100):02}" for name in rng.sample(_names(), DOMAIN)}


def _names() -> list[str]:
    return ["".join(letters) for letters in product(ascii_lowercase, repeat=2)]


def _questions(level: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Prompts and answers, without end. Raises ``UserError`` for a level that there is not."""
    if level not in Facts.levels:
        raise UserError(f"facts has levels 1 to {KNOWN}, not {level}.")
    others = [name for name in _names() if name not in domain()]
    while True:
        if level in MADE_UP:
            says = {name: f"{rng.randrange(100):02}" for name in rng.sample(others, level)}
        else:
            says = {name: domain()[name] for name in rng.sample(list(domain()), PASSAGES)}
        name = rng.choice(list(says))
        shown = "" if level == KNOWN else "".join(f"[{each}={said}]" for each, said in says.items())
        yield f"{shown}{ASKS}{name}", says[name]


environment = Facts
