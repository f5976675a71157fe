"""Countdown: ``3,7,8=29:3*7+8``, every given number once, with + - * / and parentheses, to the target.

A task is made backwards from a random expression, so that it can be solved; any other expression that is exactly the
target is as right. A problem is its target and its numbers, in any order.
"""

import ast
import operator
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

from selfloop.environments import Environment, Grade, distinct
from selfloop.errors import UserError
from selfloop.records import Task

NUMBERS, LARGE_NUMBERS = range(1, 10), range(10, 20)
TARGETS, LARGE_TARGETS = range(1, 100), range(100, 1000)
EXPRESSION = re.compile(r"[0-9+*/() -]{1,200}")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Term(NamedTuple):
    """A positive number, how it is written, and the operation it was made by last; none for a given number."""

    value: int
    text: str
    made_by: str = ""


class Countdown(Environment):
    """Reaching a number from others."""

    name = "countdown"
    summary = "numbers and a target, for which an expression is sought; the level is the number of operations"
    levels = range(1, 6)
    suites_apart = True
    alphabet = "0123456789+-*/(),=:"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Problems of ``level`` + 1 numbers, no prompt twice; fewer than ``count`` where there are no more."""
        problems = _problems(level, seed, NUMBERS, TARGETS)
        return _named(f"countdown-{level}-{seed:x}", level, _distinct(problems, count))

    def content(self, task: Task) -> str:
        """The numbers in their order, and the target."""
        numbers, target = given_in(task)
        return f"{sorted(numbers)}={target}"

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``numbers``: given numbers of two digits. ``targets``: targets of three digits, from level 2 on."""
        ranges = {"numbers": (LARGE_NUMBERS, TARGETS), "targets": (NUMBERS, LARGE_TARGETS)}
        if level == 1:  # two numbers of one digit do not come to a hundred
            del ranges["targets"]
        return {
            name: _named(f"countdown-{name}-{level}-{seed:x}", level, _distinct(_problems(level, seed, *wanted), count))
            for name, wanted in ranges.items()
        }

    def check(self, task: Task, completion: str) -> Grade:
        """Work the expression out exactly; it uses each of the prompt's numbers once."""
        numbers, target = given_in(task)
        try:
            value, used = worked_out(completion)
        except ValueError as error:
            return Grade(False, 0.0, str(error))
        if sorted(used) != sorted(numbers):
            return Grade(False, 0.0, "not the given numbers")
        if value != target:
            return Grade(False, 0.0, "not the target")
        return Grade(True, 1.0, "correct")


def worked_out(expression: str) -> tuple[Fraction, list[int]]:
    """The exact value of an expression and the numbers in it; nothing is run. Raises ``ValueError`` with the reason."""
    if not EXPRESSION.fullmatch(expression):
        raise ValueError("not an expression")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError("not an expression") from None
    used: list[int] = []
    return _value(tree, used), used


def _value(node: ast.expr, used: list[int]) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            used.append(number)
            return Fraction(number)
        case ast.BinOp(left, op, right) if type(op) in OPERATIONS:
            try:
                return OPERATIONS[type(op)](_value(left, used), _value(right, used))
            except ZeroDivisionError:
                raise ValueError("division by zero") from None
    raise ValueError("not an expression")


def _problems(level: int, seed: int, numbers: range, targets: range) -> Iterator[tuple[list[int], Term]]:
    """Numbers in a random order with a solution, without end. Raises ``UserError`` for a level that there is not."""
    if level not in Countdown.levels:
        raise UserError(f"countdown has levels 1 to {Countdown.levels[-1]}, not {level}.")
    rng = random.Random(seed)
    while True:
        given = [rng.choice(numbers) for _ in range(level + 1)]
        solution = expression(given, rng)
        if solution.value in targets:
            yield given, solution


def expression(given: list[int], rng: random.Random) -> Term:
    """The numbers joined two by two, in any order, by operations that keep every step a positive whole number."""
    terms = [Term(number, str(number)) for number in given]
    while len(terms) > 1:
        a = terms.pop(rng.randrange(len(terms)))
        b = terms.pop(rng.randrange(len(terms)))
        possible = "+*" + "-" * (a.value > b.value) + "/" * (a.value % b.value == 0)
        terms.append(_joined(a, rng.choice(possible), b))
    return terms[0]


def _joined(a: Term, sign: str, b: Term) -> Term:
    value = {"+": a.value + b.value, "-": a.value - b.value, "*": a.value * b.value, "/": a.value // b.value}[sign]
    binds = {"+": 0, "-": 0, "*": 1, "/": 1, "": 2}
    left = a.text if binds[a.made_by] >= binds[sign] else f"({a.text})"
    # Behind - and / parentheses matter between equals too; elsewhere they would say nothing.
    bare = binds[b.made_by] > binds[sign] or (binds[b.made_by] == binds[sign] and sign in "+*")
    return Term(value, left + sign + (b.text if bare else f"({b.text})"), sign)


def given_in(task: Task) -> tuple[list[int], int]:
    """The numbers and the target of a problem."""
    numbers, target = task.prompt.removesuffix(":").split("=")
    return [int(number) for number in numbers.split(",")], int(target)


def _distinct(problems: Iterator[tuple[list[int], Term]], count: int) -> list[tuple[list[int], Term]]:
    return distinct(problems, count, lambda problem: f"{problem[0]}={problem[1].value}")


def _named(stem: str, level: int, problems: list[tuple[list[int], Term]]) -> list[Task]:
    made = []
    for number, (given, solution) in enumerate(problems):
        prompt = f"{','.join(map(str, given))}={solution.value}:"
        # Digits, operations, a pair of parentheses for each operation but one, and the end token.
        longest = sum(len(str(value)) for value in given) + level + 2 * (level - 1) + 1
        made.append(Task(f"{stem}-{number}", level, "", prompt, solution.text, max_tokens=longest))
    return made


environment = Countdown
