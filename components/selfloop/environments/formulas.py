"""Formulas: ``<chain>a=1,b=0:(a|!b)&a=``, the value of a Boolean formula, worked out in one of three ways.

``<chain>`` replaces one part after another by its value, innermost and leftmost first (``(1|!0)&1;(1|1)&1;1&1;1``);
``<program>`` writes it for a machine with a stack, which is run (``ab!|a&=1``); ``<table>`` gives its value in every
row of the truth table, and then in the row that is asked (``0011=1``). What a task asks for goes by turns, the same
problem in all three; ``formulas:chain`` and the like ask for one way alone. Right is what has the form of its way and
ends on the right value: one of two, so that half of what is guessed is right. After the modalities of Zheng et al.,
"Learning to Reason via Mixture-of-Thought for Logical Reasoning" (arXiv:2505.15817).
"""

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from selfloop.environments import Environment, Grade, distinct
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.records import Task

WAYS = ("chain", "program", "table")
NAMES = "abc"
LEVELS = range(1, 9)
PROMPT = re.compile(r"<(\w+)>((?:[a-c]=[01],?)+):(.+)=")


class Formula(NamedTuple):
    """A name, or a value; a negation has one part, a connective two."""

    sign: str
    parts: tuple["Formula", ...] = ()

    @property
    def text(self) -> str:
        """With brackets around every connective that is a part."""
        written = [f"({part.text})" if len(part.parts) == 2 else part.text for part in self.parts]
        return {0: self.sign, 1: f"!{''.join(written)}", 2: self.sign.join(written)}[len(self.parts)]

    @property
    def program(self) -> str:
        """In reverse Polish notation."""
        return "".join(part.program for part in self.parts) + self.sign

    @property
    def names(self) -> set[str]:
        """The names in it."""
        return {self.sign} & set(NAMES) | {name for part in self.parts for name in part.names}

    def under(self, row: Mapping[str, str]) -> "Formula":
        """With values in the place of names."""
        return Formula(row.get(self.sign, self.sign), tuple(part.under(row) for part in self.parts))

    def reduced(self) -> "Formula":
        """With the leftmost of its innermost parts replaced by its value."""
        for number, part in enumerate(self.parts):
            if part.parts:
                return self._replace(parts=(*self.parts[:number], part.reduced(), *self.parts[number + 1 :]))
        return Formula(applied(self.sign, [part.sign for part in self.parts]))

    def value(self, row: Mapping[str, str]) -> str:
        """What it comes to."""
        return run(self.under(row).program, {})


def applied(sign: str, values: list[str]) -> str:
    """A connective of one or two values."""
    bits = [value == "1" for value in values]
    return "01"[{"!": not bits[0], "&": all(bits), "|": any(bits)}[sign]]


def run(program: str, row: Mapping[str, str]) -> str:
    """What a program leaves on the stack. Raises ``ValueError`` where that is not one value."""
    stack: list[str] = []
    for sign in program:
        if sign in "01":
            stack.append(sign)
        elif sign in row:
            stack.append(row[sign])
        elif sign in "!&|" and len(stack) >= 1 + (sign != "!"):
            taken = [stack.pop() for _ in range(1 + (sign != "!"))]
            stack.append(applied(sign, taken))
        else:
            raise ValueError("not a program")
    if len(stack) != 1:
        raise ValueError("not a program")
    return stack[0]


class Formulas(Environment):
    """Working out a Boolean formula."""

    name = "formulas"
    summary = (
        "a Boolean formula, by a chain of steps, a program or a truth table; the level is the number of operations"
    )
    levels = LEVELS
    alphabet = "01abc=,:;()!&|"
    special_tokens = tuple(f"<{way}>" for way in WAYS)

    def __init__(self, way: str = "") -> None:
        if way and way not in WAYS:
            raise unknown("way of formulas", way, WAYS)
        self._ways = (way,) if way else WAYS

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Formulas of ``level`` operations, each asked for in every way, no prompt twice."""
        problems = distinct(_problems(level, seed), -(-count // len(self._ways)))
        asked = [f"<{way}>{problem}=" for problem in problems for way in self._ways][:count]
        return [self._named(f"formulas-{level}-{seed:x}-{number}", level, text) for number, text in enumerate(asked)]

    def content(self, task: Task) -> str:
        """The formula and its row: in whichever way it is asked for, it is one problem."""
        return task.prompt.partition(">")[2]

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``negated``: formulas that are one negation."""
        problems = (problem for problem in _problems(level, seed) if problem.partition(":")[2].startswith("!"))
        made = distinct(problems, count)
        return {
            "negated": [
                self._named(
                    f"formulas-negated-{level}-{seed:x}-{number}",
                    level,
                    f"<{self._ways[number % len(self._ways)]}>{problem}=",
                )
                for number, problem in enumerate(made)
            ]
        }

    def demonstration(self, task: Task) -> str:
        """The way that is asked for."""
        return _shown(*_parsed(task.prompt))

    def extract_answer(self, completion: str) -> str:
        """The last character."""
        return completion[-1:]

    def check(self, task: Task, completion: str) -> Grade:
        """Its form, then its value; a program is run."""
        way, row, formula = _parsed(task.prompt)
        if reason := _misshapen(way, row, formula, completion):
            return Grade(False, 0.0, reason)
        ok = completion[-1] == task.answer
        return Grade(ok, float(ok), "correct" if ok else "wrong value")

    @staticmethod
    def _named(id: str, level: int, prompt: str) -> Task:
        way, row, formula = _parsed(prompt)
        longest = len(_shown(way, row, formula)) + 3
        return Task(id, level, "", prompt, formula.value(row), max_tokens=longest, cluster=prompt.partition(">")[2])


def _misshapen(way: str, row: Mapping[str, str], formula: Formula, completion: str) -> str:
    """Why a completion is not of the way that is asked for; nothing where it is."""
    if way == "chain":
        return "" if re.fullmatch(r"(?:[01()!&|]+;)*[01]", completion) else "not a chain"
    said, _, value = completion.partition("=")
    if way == "table":
        number = int("".join(row.values()), 2)
        fits = re.fullmatch(f"[01]{{{2 ** len(row)}}}=[01]", completion)
        return "" if fits and said[number] == value else "not a table"
    try:
        return "" if run(said, row) == value else "not what the program leaves"
    except ValueError as error:
        return str(error)


def _shown(way: str, row: Mapping[str, str], formula: Formula) -> str:
    if way == "program":
        return f"{formula.program}={formula.value(row)}"
    if way == "table":
        rows = (dict(zip(row, values, strict=True)) for values in itertools.product("01", repeat=len(row)))
        return f"{''.join(formula.value(each) for each in rows)}={formula.value(row)}"
    steps = [formula.under(row)]
    while steps[-1].parts:
        steps.append(steps[-1].reduced())
    return ";".join(step.text for step in steps)


def _parsed(prompt: str) -> tuple[str, dict[str, str], Formula]:
    """The way, the row and the formula of a prompt."""
    found = PROMPT.fullmatch(prompt)
    assert found, prompt
    row = dict(each.split("=") for each in found[2].split(","))
    return found[1], row, _read(found[3])


def _read(text: str) -> Formula:
    """A formula as ``Formula.text`` writes it."""
    signs = iter(text)
    return _rest(signs)


def _rest(signs: Iterator[str]) -> Formula:
    """A formula, up to its end or its closing bracket."""
    first = _part(signs)
    sign = next(signs, ")")
    if sign == ")":
        return first
    whole = Formula(sign, (first, _part(signs)))
    next(signs, None)  # its closing bracket
    return whole


def _part(signs: Iterator[str]) -> Formula:
    sign = next(signs)
    if sign == "!":
        return Formula("!", (_part(signs),))
    return _rest(signs) if sign == "(" else Formula(sign)


def _problems(level: int, seed: int) -> Iterator[str]:
    """Random rows and formulas of so many operations. Raises ``UserError`` for a level that is not there."""
    if level not in LEVELS:
        raise UserError(f"formulas has levels 1 to {LEVELS[-1]}, not {level}.")
    rng = random.Random(seed)
    while True:
        formula = _random(level, rng)
        row = ",".join(f"{name}={rng.choice('01')}" for name in sorted(formula.names))
        yield f"{row}:{formula.text}"


def _random(operations: int, rng: random.Random) -> Formula:
    if not operations:
        return Formula(rng.choice(NAMES))
    sign = rng.choice("!&|")
    if sign == "!":
        return Formula("!", (_random(operations - 1, rng),))
    left = rng.randrange(operations)
    return Formula(sign, (_random(left, rng), _random(operations - 1 - left, rng)))


environment = Formulas
