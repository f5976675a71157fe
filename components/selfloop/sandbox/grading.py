"""Unit tests whose verdict no program can forge: it only ever sees what its functions are called with.

A test is taken apart here, outside the sandbox: ``assert f(2) == 4`` becomes the call ``f(2)``, which goes in, and the
comparison with 4, which stays. What the program says that the call returned comes back as plain values (numbers, texts,
lists, ...), and the comparison is made on these, with nothing of the program in the process that makes it. A program
that knows nothing of the expected value can do no better than to return it.

Tests are ``assert`` statements, also in ``def check(candidate):``, in ``for`` loops over plain values, and on names
that were assigned before. A test that does more than to compute with plain values, such as one that defines a function
or expects an exception, cannot be taken apart, and is refused.
"""

from __future__ import annotations

import ast
import copy
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from selfloop.errors import UserError
from selfloop.sandbox.running import Answer, Call, Limits, Outcome, Program, Sandbox

MOST_ROUNDS = 1000
"""How often a loop in a test may turn."""
MOST_BITS = 100_000
"""How large a power in a test may be."""
MOST_ITEMS = 1_000_000
"""How long a repeated list or text in a test may be."""

OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def _range(*bounds: Any) -> range:
    numbers = range(*bounds)
    if len(numbers) > MOST_ITEMS:
        raise ValueError("a huge range")
    return numbers


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(abs, all, any, bool, dict, float, frozenset, int, isinstance, len, list, max, min),
        *(round, set, sorted, str, sum, tuple),
    )
} | {"range": _range}
MATHEMATICS: Mapping[str, Any] = {
    name: getattr(math, name) for name in ("isclose", "sqrt", "floor", "ceil", "isnan", "gcd", "pi", "e", "inf", "nan")
}
PLAIN = (
    *(ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.Dict, ast.List, ast.Name, ast.Set, ast.Slice),
    *(ast.Subscript, ast.Tuple, ast.UnaryOp),
)
FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What computing with plain values may raise."""


class Attempt(NamedTuple):
    """A program, the tests of the function that it defines, and the function's name."""

    source: str
    tests: Sequence[str]
    function: str


class Graded(NamedTuple):
    """Whether all tests passed, the share that did, and what became of the first that did not."""

    ok: bool
    score: float
    reason: str


def graded(attempts: Iterable[Attempt], limits: Limits | None = None, workers: int | None = None) -> Iterator[Graded]:
    """Run each attempt in a sandbox of its own, on all cores, and judge it. Yields in order.

    Raises ``UserError`` where programs cannot be kept apart, and for a test that cannot be taken apart.
    """
    listed = [(attempt.source, taken_apart(tuple(attempt.tests), attempt.function)) for attempt in attempts]
    if not listed:
        return
    with Sandbox(limits, workers) as sandbox:
        outcomes = sandbox.run(Program(source, calls=suite.calls) for source, suite in listed)
        for (_, suite), outcome in zip(listed, outcomes, strict=True):
            yield suite.grade(outcome)


def tested(tests: Sequence[str]) -> str:
    """The name of the function that tests call first. Raises ``UserError`` where they call none."""
    for text in tests:
        with suppress(SyntaxError, *FAILURES):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
                    return node.func.id
    raise UserError("The tests call no function: give assert statements that call one, or its name.")


class _Test(NamedTuple):
    """A condition, and the numbers of the answers that it is about."""

    condition: ast.expr
    answers: list[int]


class _RefusedError(Exception):
    """A test cannot be taken apart."""


class _Answered(ast.expr):
    """Stands for the answer to a call, by its number."""

    _fields = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Suite:
    """The tests of one function, taken apart into calls and conditions on what they return."""

    def __init__(self, tests: Sequence[str], function: str) -> None:
        """Raises ``UserError`` for a test that cannot be taken apart."""
        self.calls: list[Call] = []
        self._tests: list[_Test] = []
        self._function = function
        for text in tests:
            try:
                self._walk(ast.parse(text).body, {}, function)
            except (_RefusedError, SyntaxError, *FAILURES) as error:
                shown = text.strip() if len(text) <= 60 else f"{text.strip()[:60]}..."
                raise UserError(
                    f"The test {shown!r} of '{function}' cannot be judged outside the sandbox ({error}): write it as "
                    "assert statements that compare what the function returns with plain values."
                ) from None
        if not self._tests or not self.calls:
            raise UserError(f"There is no test of '{function}': give assert statements that call it.")

    def grade(self, outcome: Outcome) -> Graded:
        """What the answers of a program are worth."""
        failures = [_failure(test, outcome, number) for number, test in enumerate(self._tests, 1)]
        reason = next(filter(None, failures), "correct" if outcome.status == "ok" else _why_silent(outcome, "the end"))
        return Graded(reason == "correct", failures.count("") / len(failures), reason)

    def _walk(self, statements: Iterable[ast.stmt], names: dict[str, ast.expr], alias: str) -> None:
        for statement in statements:
            match statement:
                case ast.Assert(test=condition):
                    planned = self._planned(condition, names, alias)
                    about = [node.number for node in ast.walk(planned) if isinstance(node, _Answered)]
                    self._tests.append(_Test(planned, sorted(about)))
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name] = self._planned(value, names, alias)
                case ast.For(target=ast.Name(id=name), iter=iterable, body=body, orelse=[]):
                    for turn in _turns(self._planned(iterable, names, alias)):
                        names[name] = ast.Constant(turn)
                        self._walk(body, names, alias)
                case ast.FunctionDef(name="check", args=ast.arguments(args=[parameter])):
                    self._walk(statement.body, dict(names), parameter.arg)
                case ast.Pass() | ast.Import(names=[ast.alias(name="math", asname=None)]):
                    continue
                case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="check" | "print"))):
                    continue
                case _:
                    raise _RefusedError(f"line {statement.lineno} is no assert statement")

    def _planned(self, expression: ast.expr, names: Mapping[str, ast.expr], alias: str) -> ast.expr:
        planned: ast.expr = _Planner(names, alias, self._function, self.calls).visit(copy.deepcopy(expression))
        return planned


taken_apart = lru_cache(4096)(Suite)
"""A suite, made once for all the attempts at a task."""


class _Planner(ast.NodeTransformer):
    """Writes an expression anew: names stand for what they were assigned, and calls of the function for answers."""

    def __init__(self, names: Mapping[str, ast.expr], alias: str, function: str, calls: list[Call]) -> None:
        self._names, self._alias, self._function, self._calls = names, alias, function, calls

    def visit(self, node: ast.AST) -> Any:
        match node:
            case ast.Name(id=name) if name in self._names:
                return self._names[name]
            case ast.Name(id=name) if name in FUNCTIONS:
                return node
            case ast.Call(func=ast.Name(id=name)) if name in (self._alias, self._function):
                return self._asked(node)
            case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
                return self.generic_visit(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr=name)) if name in MATHEMATICS:
                return self.generic_visit(node)
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATHEMATICS:
                return ast.Constant(MATHEMATICS[name])
            case ast.Name() | ast.Call() | ast.Attribute() | ast.Starred():
                raise _RefusedError(f"{ast.unparse(node)} is not known there")
            case ast.expr() if not isinstance(node, PLAIN):
                raise _RefusedError(f"{ast.unparse(node)} is no plain expression")
            case ast.operator() if type(node) not in OPERATORS and not isinstance(node, ast.Mult | ast.Pow):
                raise _RefusedError(f"{type(node).__name__} is no plain operation")
        return self.generic_visit(node)

    def _asked(self, node: ast.Call) -> _Answered:
        args = [_value(self.visit(argument), ()) for argument in node.args]
        if any(keyword.arg is None for keyword in node.keywords):
            raise _RefusedError("it calls with **")
        kwargs = {str(keyword.arg): _value(self.visit(keyword.value), ()) for keyword in node.keywords}
        self._calls.append(Call(self._function, args, kwargs))
        return _Answered(len(self._calls) - 1)


def _turns(iterable: ast.expr) -> list[Any]:
    turns = list(_value(iterable, ()))
    if len(turns) > MOST_ROUNDS:
        raise _RefusedError(f"a loop turns more than {MOST_ROUNDS} times")
    return turns


def _failure(test: _Test, outcome: Outcome, number: int) -> str:
    """Why a test is not passed; empty if it is."""
    if test.answers and test.answers[-1] >= len(outcome.answers):
        return _why_silent(outcome, f"test {number}")
    error = next((outcome.answers[about].error for about in test.answers if outcome.answers[about].error), "")
    if error:
        return error if error.startswith("no function ") else f"{error.partition(':')[0][:60]} on test {number}"
    try:
        passed = bool(_value(test.condition, outcome.answers))
    except (_RefusedError, *FAILURES):  # what was planned is refused only for being huge
        passed = False
    return "" if passed else f"wrong answer on test {number}"


def _why_silent(outcome: Outcome, point: str) -> str:
    match outcome.status:
        case "timeout" | "memory":
            return outcome.status
        case "output":
            return "too much output"
        case "syntax":
            return "syntax error"
        case "error":
            return f"died before {point}"
    return f"ended before {point}"


def _value(node: ast.AST, answers: Sequence[Answer]) -> Any:  # noqa: C901 (one case a kind of expression)
    """Compute with plain values. Raises one of ``FAILURES``, or ``_RefusedError`` for what is no plain expression."""
    match node:
        case _Answered(number=number):
            if number >= len(answers):
                raise _RefusedError("it calls the function on what the function returned")
            return answers[number].value
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item, answers) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, answers) for item in items)
        case ast.Set(elts=items):
            return {_value(item, answers) for item in items}
        case ast.Dict(keys=keys, values=values):
            if None in keys:
                raise _RefusedError("a dictionary with **")
            return {_value(k, answers): _value(v, answers) for k, v in zip(keys, values, strict=True) if k}
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, answers))
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, _value(left, answers), _value(right, answers))
        case ast.BoolOp(op=op, values=[*others, last]):
            for other in others:
                found = _value(other, answers)
                if bool(found) is isinstance(op, ast.Or):
                    return found
            return _value(last, answers)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            compared = [_value(each, answers) for each in (left, *rest)]
            return all(OPERATORS[type(op)](a, b) for op, a, b in zip(ops, compared[:-1], compared[1:], strict=True))
        case ast.Subscript(value=value, slice=index):
            return _value(value, answers)[_value(index, answers)]
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(each and _value(each, answers) for each in (lower, upper, step)))
        case ast.Name(id=name):
            return FUNCTIONS[name]
        case ast.Call(func=function, args=args, keywords=keywords):
            kwargs = {str(keyword.arg): _value(keyword.value, answers) for keyword in keywords}
            return _value(function, answers)(*(_value(arg, answers) for arg in args), **kwargs)
    raise _RefusedError(f"{type(node).__name__} is no plain expression")


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    """One operation on two values; a huge power or repetition is refused."""
    match op:
        case ast.Pow():
            if isinstance(right, int) and isinstance(left, int) and abs(right) * left.bit_length() > MOST_BITS:
                raise _RefusedError("a huge power")
            return left**right
        case ast.Mult():
            for items, times in ((left, right), (right, left)):
                if hasattr(items, "__len__") and isinstance(times, int) and len(items) * times > MOST_ITEMS:
                    raise _RefusedError("a huge repetition")
            return left * right
        case ast.Mod() if not isinstance(left, int | float):
            raise _RefusedError("the formatting of a text")
    return OPERATORS[type(op)](left, right)
