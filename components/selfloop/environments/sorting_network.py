"""Sorting networks: ``4:01,23>01,23,02,13,12``, comparators of a network that is to be better than the one given.

A comparator ``ab`` puts the smaller of wires a < b onto a. A network sorts every input where it sorts all inputs of
zeros and ones (the 0-1 principle: Knuth, The Art of Computer Programming 3, 5.3.4, theorem Z), so that a completion is
checked exactly; its score is the share of these inputs that it sorts.
"""

import random
import re
from collections.abc import Sequence
from functools import cache
from itertools import product

from selfloop.environments import Environment, Grade
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of

Comparator = tuple[int, int]
LONGEST = 20
"""Comparators of a network at most: 8 wires can be sorted with 19."""
NETWORK = re.compile(r"(\d\d(,\d\d)*)?")


class SortingNetwork(Environment):
    """Finding networks that sort."""

    name = "sorting-network"
    summary = "networks of comparators, each to be varied from another; the level is one less than the number of wires"
    levels = range(1, 8)
    alphabet = "0123456789,:>"
    varies = True

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Random networks of ``level`` + 1 wires, of any length, to be improved on."""
        rng, known = random.Random(seed), _comparators(level + 1)
        given = [rng.choices(known, k=rng.randrange(2 * level + 2)) for _ in range(count)]
        return [self.variation(spelt(each), level, f"network-{level}-{seed:x}-{n}") for n, each in enumerate(given)]

    def variation(self, text: str, level: int, id: str) -> Task:
        """The task to write another network that is close to this one."""
        if level not in self.levels:
            raise UserError(f"{self.name} has levels {self.levels[0]} to {self.levels[-1]}, not {level}.")
        return Task(id, level, "", f"{level + 1}:{text}>", "", max_tokens=3 * LONGEST)

    def demonstration(self, task: Task) -> str:
        """The network given with one comparator put in, taken out or changed, drawn by the task's id."""
        made = read(task.prompt.partition(":")[2].removesuffix(">"), task.level + 1)
        rng, known = random.Random(seed_of(task.id)), _comparators(task.level + 1)
        if not made or (len(made) < LONGEST and rng.random() < 0.6):
            made.insert(rng.randrange(len(made) + 1), rng.choice(known))
        elif rng.random() < 0.5:
            made[rng.randrange(len(made))] = rng.choice(known)
        else:
            del made[rng.randrange(len(made))]
        return spelt(made)

    def check(self, task: Task, completion: str) -> Grade:
        """Try the network on every input of zeros and ones."""
        try:
            network = read(completion, task.level + 1)
        except ValueError as error:
            return Grade(False, 0.0, str(error))
        inputs = list(product((0, 1), repeat=task.level + 1))
        share = sum(sorts(network, each) for each in inputs) / len(inputs)
        return Grade(share == 1, share, "sorts everything" if share == 1 else "leaves inputs unsorted")

    def applied(self, text: str, item: Task) -> Grade:
        """Whether a network sorts the permutation that an item stands for, which its id draws."""
        wires = item.level + 1
        ok = sorts(read(text, wires), random.Random(seed_of(item.id)).sample(range(wires), wires))
        return Grade(ok, float(ok), "sorted" if ok else "not sorted")


def read(text: str, wires: int) -> list[Comparator]:
    """The comparators that a text names. Raises ``ValueError`` with the reason where it is no network."""
    if not NETWORK.fullmatch(text):
        raise ValueError("not a network")
    network = [(int(pair[0]), int(pair[1])) for pair in text.split(",") if pair]
    if len(network) > LONGEST:
        raise ValueError("too long")
    if any(not a < b < wires for a, b in network):
        raise ValueError("not its wires")
    return network


def spelt(network: Sequence[Comparator]) -> str:
    """Comparators as a network is written."""
    return ",".join(f"{a}{b}" for a, b in network)


def sorts(network: Sequence[Comparator], values: Sequence[int]) -> bool:
    """Whether a network brings these values into order."""
    wires = list(values)
    for a, b in network:
        if wires[a] > wires[b]:
            wires[a], wires[b] = wires[b], wires[a]
    return wires == sorted(wires)


@cache
def _comparators(wires: int) -> list[Comparator]:
    return [(a, b) for b in range(wires) for a in range(b)]


environment = SortingNetwork
