"""``calc``: numbers, ``+ - * / // % **``, signs and brackets. It reads the syntax tree and runs no code."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from selfloop.generate.tools import Tool

LONGEST = 200
LARGEST_EXPONENT = 64
MOST_BITS = 4096

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class Calc(Tool):
    """A calculator: numbers, + - * / // % **, signs and brackets."""

    name = "calc"
    at_once = True

    def __call__(self, argument: str) -> str:
        """The value of an arithmetic expression, or ``error:`` and why there is none."""
        if len(argument) > LONGEST:
            return f"error: longer than {LONGEST} characters"
        try:
            return _shown(_value(ast.parse(argument.strip(), mode="eval").body))
        except SyntaxError:
            return "error: not an expression"
        except (ArithmeticError, ValueError, RecursionError) as error:
            return f"error: {error}"


def _shown(value: float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return _combined(node.op, _value(node.left), _value(node.right))
    raise ValueError(f"{type(node).__name__} is not arithmetic")


def _combined(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Pow) and abs(right) > LARGEST_EXPONENT:
        raise ValueError(f"an exponent above {LARGEST_EXPONENT}")
    value = BINARY[type(op)](left, right)
    if isinstance(value, complex):
        raise ValueError("no real number")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("too large a number")
    return value
