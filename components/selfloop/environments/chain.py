"""Chain: ``57+3*8-2=``, worked out from left to right modulo 97, each value on the way written out: ``609290``.

A number begins with two digits, each operation is a sign and a digit, each value has two digits again, so that every
step can be checked by itself. A policy that gets a step wrong with a chance of its own solves k steps with about that
chance to the k-th power: levels are graded, and so are the tasks of a level. A wrong value is carried on, so that wrong
answers scatter over 97. Positions start again at the ``=``: the i-th operation and the i-th value stand equally far
behind each other in every task.
"""

import operator
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from string import digits

from selfloop.environments import Environment, Grade, Restarts, distinct
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.roles import ATTEMPTS

MODULUS = 97
LEVELS = range(1, 41)
SIGNS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
UNDOING = {"+": operator.sub, "-": operator.add}
OPERATION = r"[+*-][1-9]"
CHAIN = re.compile(rf"([0-9]{{2}})((?:{OPERATION})+)")


class Chain(Environment):
    """Working out a chain of operations step by step."""

    name = "chain"
    summary = f"a chain of + - * modulo {MODULUS}, each step written out; the level is the number of steps"
    levels = LEVELS
    alphabet = digits + "+-*="
    special_tokens = ("<new>",)
    restarts = Restarts(at="=", after="")
    proposal_prompt = "<new>"
    roles = tuple(ATTEMPTS)
    closing = "="

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Chains of ``level`` operations, no prompt twice; fewer than ``count`` where there are no more."""
        return _named(f"chain-{level}-{seed:x}", distinct(_chains(level, seed), count))

    def demonstration(self, task: Task) -> str:
        """The value after each operation, of two digits each."""
        return _written(values(task.prompt.removesuffix("=")))

    def extract_answer(self, completion: str) -> str:
        """The last value."""
        return completion[-2:]

    def check(self, task: Task, completion: str) -> Grade:
        """Right is what has a value for each operation and ends on the right one; else the first wrong step is told."""
        right = self.demonstration(task)
        if not re.fullmatch(rf"(?:[0-9]{{2}}){{{task.level}}}", completion):
            return Grade(False, 0.0, "not a value for each step")
        if self.extract_answer(completion) == task.answer:
            return Grade(True, 1.0, "correct")
        first = next(place for place in range(0, len(right), 2) if completion[place:][:2] != right[place:][:2])
        return Grade(False, 0.0, f"wrong from step {first // 2 + 1} on")

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """The values where so many steps, each from the value that is written before it, come to another one."""
        if not 1 <= errors <= task.level:
            raise UserError(f"A chain of {task.level} steps has no {errors} wrong ones: ask for as many.")
        rng, chain = random.Random(seed), task.prompt.removesuffix("=")
        wrong, value, written = set(rng.sample(range(task.level), errors)), int(chain[:2]), list[int]()
        for number, (operation, right) in enumerate(zip(re.findall(OPERATION, chain), values(chain), strict=True)):
            value = _after(value, operation)
            if number in wrong:  # two errors must not undo each other: no later step brings different values together
                value = rng.choice([other for other in range(MODULUS) if other not in (value, right)])
            written.append(value)
        return _written(written)

    def recomputed(self, task: Task, attempt: str) -> str:
        """The value after each operation on the value that is written before it; none after what is no value."""
        chain = task.prompt.removesuffix("=")
        begun = re.match(r"(?:[0-9]{2})*", chain[:2] + attempt)
        written = [int(value) for value in re.findall("..", begun[0] if begun else "")]
        return _written([_after(*each) for each in zip(written, re.findall(OPERATION, chain), strict=False)])

    def steps(self, completion: str) -> list[int]:
        """Behind each value."""
        return list(range(2, len(completion) + 1, 2))

    def restating(self, task: Task, attempt: str) -> str:
        """The number that it begins with, and the values."""
        return f"{task.prompt[:2]}={attempt}"

    def restated(self, task: Task) -> str:
        """Its operations."""
        return task.prompt[2:].removesuffix("=")

    def retold(self, task: Task, text: str) -> str:
        """The operations behind the number that it begins with."""
        return f"{task.prompt[:2]}{text}="

    def check_restated(self, task: Task, attempt: str, text: str) -> Grade:
        """Right are operations that lead from value to value."""
        chain = f"{task.prompt[:2]}{text}"
        ok = CHAIN.fullmatch(chain) is not None and _written(values(chain)) == attempt
        return Grade(ok, float(ok), "correct" if ok else "another chain")

    def worked_back(self, task: Task, place: int, answer: str) -> str:
        """The values before the masked number, then those from the answer back to it; none where that is no value."""
        if not re.fullmatch("[0-9]{2}", answer) or int(answer) >= MODULUS:
            return ""
        chain = task.prompt.removesuffix("=")
        operations = re.findall(OPERATION, chain)
        back = list(accumulate(reversed(operations[max(place, 1) :]), _before, initial=int(answer)))[1:]
        return _written([*values(chain)[: max(place - 1, 0)], *back])

    def proposals(self, level: int, count: int, seed: int) -> list[str]:
        """Chains, also the same again."""
        return list(islice(_chains(level, seed), count))

    def parse_proposal(self, text: str, id: str) -> Task:
        """The chain that a text is."""
        if not CHAIN.fullmatch(text) or int(text[:2]) >= MODULUS:
            raise ValueError("not a chain")
        if len(text) // 2 - 1 not in LEVELS:
            raise ValueError("too many steps")
        [task] = _named(id, [text])
        return task._replace(id=id)


def values(chain: str) -> list[int]:
    """The value after each operation of a chain, from 0 to 96."""
    operations = re.findall(OPERATION, chain)
    return list(accumulate(operations, _after, initial=int(chain[:2])))[1:]


def _written(reached: Sequence[int]) -> str:
    return "".join(f"{value:02}" for value in reached)


def _after(value: int, operation: str) -> int:
    return SIGNS[operation[0]](value, int(operation[1:])) % MODULUS


def _before(value: int, operation: str) -> int:
    """The value that an operation leads from to this one: modulo a prime there is one."""
    number = int(operation[1:])
    return (value * pow(number, -1, MODULUS) if operation[0] == "*" else UNDOING[operation[0]](value, number)) % MODULUS


def _chains(level: int, seed: int) -> Iterator[str]:
    """Random chains without end. Raises ``UserError`` for a level that there is not."""
    if level not in LEVELS:
        raise UserError(f"chain has levels 1 to {LEVELS[-1]}, not {level}.")
    rng = random.Random(seed)
    while True:
        operations = (rng.choice("+-*") + rng.choice(digits[1:]) for _ in range(level))
        yield f"{rng.randrange(MODULUS):02}{''.join(operations)}"


def _named(stem: str, chains: list[str]) -> list[Task]:
    made = []
    for number, text in enumerate(chains):
        reached = values(text)
        answer, longest = f"{reached[-1]:02}", 2 * len(reached) + 1
        made.append(Task(f"{stem}-{number}", len(reached), "", f"{text}=", answer, max_tokens=longest))
    return made


environment = Chain
