"""Notation: ``3+4*(5-2)=``, translated into the notation of a stack, ``3452-*+``.

An expression of + - * over numbers of one digit, as those of ``arithmetic``, is written anew with each operation behind
what it is of. As in a translation, several texts are right: all that are the same polynomial of the same numbers in
the same order, such as ``34+5+`` and ``345++`` of ``3+4+5``, whatever the numbers come to.
"""

import ast
import random
from collections import Counter
from itertools import product

from selfloop.environments import Environment, Grade
from selfloop.environments.arithmetic import LEVELS, SIGNS, Arithmetic
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.roles import JUDGE

Polynomial = Counter[frozenset[int]]
"""Of numbers that are each there once: the coefficient of each product, by the places of its factors."""


class Notation(Environment):
    """Writing an expression for a stack."""

    name = "notation"
    summary = "an expression of + - * in the notation of a stack, 3+4= as 34+; the level is the number of operations"
    levels = LEVELS
    alphabet = "0123456789+-*()="
    roles = (JUDGE,)
    closing = "="

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Expressions of ``level`` operations, no prompt twice; fewer than ``count`` where there are no more."""
        return [
            task._replace(
                id=f"{self.name}{task.id.removeprefix(Arithmetic.name)}",
                answer=translated(task.prompt),
                max_tokens=2 * level + 2,
            )
            for task in Arithmetic("plain").tasks(level, count, seed)
        ]

    def check(self, task: Task, completion: str) -> Grade:
        """Right is what has the same numbers in the same order, and is the same polynomial of them."""
        try:
            numbers, meant = read(completion)
        except ValueError as error:
            return Grade(False, 0.0, str(error))
        of_task, asked = read(task.answer)
        if numbers != of_task:
            return Grade(False, 0.0, "other numbers")
        return Grade(True, 1.0, "correct") if meant == asked else Grade(False, 0.0, "another expression")

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """A translation in which one operation is another, or stands elsewhere; it is one step."""
        if errors != 1:
            raise UserError(f"A translation of one step has no {errors} wrong ones: ask for as many.")
        rng, right = random.Random(seed), task.answer
        while True:
            place, sign = rng.choice([place for place, each in enumerate(right) if each in "+-*"]), rng.choice("+-*")
            rest = right[:place] + right[place + 1 :]
            place = rng.choice([place, rng.randrange(len(rest) + 1)])
            text = f"{rest[:place]}{sign}{rest[place:]}"
            if not self.check(task, text).ok:
                return text


def translated(prompt: str) -> str:
    """The expression of a prompt in the notation of a stack, operation by operation as its brackets say."""
    return _postfix(ast.parse(prompt.removesuffix("="), mode="eval").body)


def _postfix(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_postfix(node.left)}{_postfix(node.right)}{SIGNS[type(node.op)]}"
    return ast.unparse(node)


def read(text: str) -> tuple[list[int], Polynomial]:
    """Numbers of a text for a stack, and the polynomial of these that it is. Raises ``ValueError`` where it is none."""
    numbers, stack = list[int](), list[Polynomial]()
    for each in text:
        if each in "0123456789":
            stack.append(Counter({frozenset([len(numbers)]): 1}))
            numbers.append(int(each))
        elif each in SIGNS.values() and len(stack) > 1:
            right, left = stack.pop(), stack.pop()
            stack.append(_joined(left, each, right))
        else:
            raise ValueError("not for a stack")
    if len(stack) != 1:
        raise ValueError("not one expression")
    return numbers, stack[0]


def _joined(left: Polynomial, sign: str, right: Polynomial) -> Polynomial:
    """The sum, difference or product of two polynomials of different numbers."""
    if sign == "*":
        pairs = product(left.items(), right.items())
        return Counter({one | other: times * more for (one, times), (other, more) in pairs})
    return Counter({**left, **{term: times if sign == "+" else -times for term, times in right.items()}})


environment = Notation
