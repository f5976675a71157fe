"""What tests ask of a program, and whether its answers pass them; run where it can be killed, by ``grading``.

Tests are assert statements, which are taken apart here, or examples: what is right for each thing that was asked.

Neither the tests nor the answers are to be trusted to be small or quick: nothing here knows how long they take. What is
computed, is computed with plain values alone, and nothing that either of them holds is ever called.
"""

from __future__ import annotations

import ast
import builtins
import copy
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import zip_longest
from typing import Any, NamedTuple

from selfloop.sandbox.replies import FAILURES, Answer, read_replies
from selfloop.sandbox.zygote import pack

MOST_ROUNDS = 1000
"""How often a loop in a test may turn."""
MOST_CALLS = 10_000
"""How many calls the tests of a function may make."""
MOST_BITS = 100_000
"""How large a power, or a product, in a test may be."""
MOST_ITEMS = 1_000_000
"""How long a repeated list or text in a test may be."""
SHOWN = 80
"""Characters that a sentence shows of a test."""

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


FUNCTIONS: Mapping[str, Any] = {
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
EXCEPTIONS = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
)
"""The exceptions that a reason may name: a program may call its own whatever it likes."""
SILENT: Mapping[str, str] = {
    "timeout": "timeout",
    "memory": "memory",
    "output": "too much output",
    "syntax": "syntax error",
}
"""The reasons of programs that were ended, by their status."""
TOLERANCE = 1e-6
"""How far a number may be from one that is expected as a decimal fraction: absolute, or relative to one above 1."""
FRACTION = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=e))(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


class RefusedError(Exception):
    """Tests cannot be taken apart."""


class _FailedError(Exception):
    """A test gets no answer; what the program says why."""


class _WantedError(Exception):
    """A test goes on to a call that was not made, because most programs need not make it: its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Planned(NamedTuple):
    """A call of the function, packed; ``is_sure`` where its test makes it whatever other calls return."""

    args: list[Any]
    kwargs: dict[str, Any]
    is_sure: bool


class _Answered(ast.expr):
    """Stands for the answer to a call, by its number."""

    _fields = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Bound(_Answered):
    """Stands for a name that was assigned what a call returned, by the number of the assignment."""


class Suite:
    """The tests of one function, taken apart into calls and conditions on what they return."""

    def __init__(self, tests: Sequence[str], function: str) -> None:
        """Raises ``RefusedError``, in a sentence, for a test that cannot be taken apart."""
        self.calls: list[Planned] = []
        self._conditions: list[ast.expr] = []
        self._assigned: list[ast.expr] = []
        self._function = function
        if not function.isidentifier():
            raise RefusedError(f"{_shown(function)} is no name of a function: give that of the function under test.")
        for text in tests:
            try:
                self._walk(ast.parse(text).body, {}, function)
            except (RefusedError, SyntaxError, *FAILURES) as error:
                raise RefusedError(
                    f"The test {_shown(text.strip())} of '{function}' cannot be judged outside the sandbox "
                    f"({str(error)[:SHOWN] or type(error).__name__}): write it as assert statements that compare what "
                    "the function returns with plain values."
                ) from None
        if not self._conditions or not self.calls:
            raise RefusedError(f"There is no test of '{function}': give assert statements that call it.")

    def grade(self, chosen: Sequence[int], status: str, replies: bytes) -> tuple[bool, float, str] | list[int]:
        """What a program is worth that made the ``chosen`` calls; or the numbers of those that it has to make, too."""
        run = _Run(self._assigned, dict(zip(chosen, read_replies(replies), strict=False)), frozenset(chosen))
        reasons, wanted = [], []
        for number, condition in enumerate(self._conditions, 1):
            try:
                reasons.append("" if run.holds(condition) else f"wrong answer on test {number}")
            except _FailedError as error:
                reasons.append(_why_failed(str(error), number) or _why_silent(status, f"test {number}"))
            except _WantedError as error:
                wanted.append(error.number)
        if wanted and status == "ok":
            return wanted
        return _verdict(status, reasons + [_why_silent(status, "the end")] * len(wanted))

    def _walk(self, statements: Iterable[ast.stmt], names: dict[str, ast.expr], alias: str) -> None:
        for statement in statements:
            match statement:
                case ast.Assert(test=condition):
                    planned = self._planned(condition, names, alias)
                    if isinstance(planned, ast.Constant) and not planned.value:
                        raise RefusedError("no program passes it")
                    self._conditions.append(planned)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name] = self._named(self._planned(value, names, alias))
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
                    raise RefusedError(f"line {statement.lineno} is no assert statement")

    def _planned(self, expression: ast.expr, names: Mapping[str, ast.expr], alias: str) -> ast.expr:
        planned: ast.expr = _Planner(names, alias, self._function, self.calls).visit(copy.deepcopy(expression))
        return planned

    def _named(self, planned: ast.expr) -> ast.expr:
        """What stands for a name from now on: a value, or what will be computed once."""
        if isinstance(planned, ast.Constant):
            return planned
        self._assigned.append(planned)
        return _Bound(len(self._assigned) - 1)


class _Planner(ast.NodeTransformer):
    """Writes an expression anew: names stand for what they were assigned, calls of the function for answers, and what
    needs no answer for its value.
    """

    def __init__(self, names: Mapping[str, ast.expr], alias: str, function: str, calls: list[Planned]) -> None:
        self._names, self._alias, self._function, self._calls = names, alias, function, calls
        self._is_sure = True

    def visit(self, node: ast.AST) -> Any:
        match node:
            case ast.Name():
                return self._named(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Call(func=ast.Name(id=name)) if name in (self._alias, self._function):
                return self._asked(node)
            case ast.Call(func=func) if not isinstance(func, ast.Name | ast.Attribute):
                raise RefusedError(f"{ast.unparse(func)} is not known there")
            case ast.BoolOp(values=[first, *others]):
                node.values = [self.visit(first), *self._perhaps(others)]
                return _folded(node)
            case ast.Compare(left=left, comparators=[first, *others]):
                node.left = self.visit(left)
                node.comparators = [self.visit(first), *self._perhaps(others)]
                return _folded(node)
            case ast.expr() if not isinstance(node, PLAIN):
                raise RefusedError(f"{ast.unparse(node)} is no plain expression")
            case ast.operator() if type(node) not in OPERATORS and not isinstance(node, ast.Mult | ast.Pow):
                raise RefusedError(f"{type(node).__name__} is no plain operation")
        visited = self.generic_visit(node)
        if (
            isinstance(visited, ast.BinOp)
            and isinstance(visited.op, ast.Mod)
            and isinstance(visited.left, ast.Constant)
        ):
            _refuse_formatting(visited.left.value)
        return _folded(visited) if isinstance(visited, ast.expr) else visited

    def _named(self, node: ast.Name) -> ast.expr:
        """What a name stands for: what was assigned to it, or one of the functions that are known here."""
        if node.id in self._names:
            return self._names[node.id]
        if node.id not in FUNCTIONS:
            raise RefusedError(f"{node.id} is not known there")
        return ast.Constant(FUNCTIONS[node.id])

    def _attribute(self, node: ast.Attribute) -> ast.Constant:
        match node:
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATHEMATICS:
                return ast.Constant(MATHEMATICS[name])
        raise RefusedError(f"{ast.unparse(node)} is not known there")

    def _perhaps(self, nodes: Sequence[ast.expr]) -> list[ast.expr]:
        """Expressions that are computed only where those before them say so."""
        before, self._is_sure = self._is_sure, False
        try:
            return [self.visit(node) for node in nodes]
        finally:
            self._is_sure = before

    def _asked(self, node: ast.Call) -> _Answered:
        if any(keyword.arg is None for keyword in node.keywords):
            raise RefusedError("it calls with **")
        args = [self._given(argument) for argument in node.args]
        kwargs = {str(keyword.arg): self._given(keyword.value) for keyword in node.keywords}
        if len(self._calls) == MOST_CALLS:
            raise RefusedError(f"there are more than {MOST_CALLS} calls")
        self._calls.append(Planned(args, kwargs, self._is_sure))
        return _Answered(len(self._calls) - 1)

    def _given(self, node: ast.expr) -> Any:
        planned = self.visit(node)
        if _needs_answers(planned):
            raise RefusedError("it calls the function on what the function returned")
        return pack(_value(planned, NOTHING))


def _folded(node: ast.expr) -> ast.expr:
    """The value of an expression that needs no answer; any other as it is."""
    if isinstance(node, ast.Slice) or _needs_answers(node):
        return node
    return ast.Constant(_value(node, NOTHING))


def _needs_answers(node: ast.expr) -> bool:
    return any(isinstance(each, _Answered) for each in ast.walk(node))


def _turns(iterable: ast.expr) -> list[Any]:
    if not isinstance(iterable, ast.Constant):
        raise RefusedError("a loop turns over what the function returned")
    turns = list(_value(iterable, NOTHING))
    if len(turns) > MOST_ROUNDS:
        raise RefusedError(f"a loop turns more than {MOST_ROUNDS} times")
    return turns


class _Run:
    """The answers of a program, and what names stand for, each computed once."""

    def __init__(self, assigned: Sequence[ast.expr], answers: Mapping[int, Answer], chosen: frozenset[int]) -> None:
        self._assigned, self._answers, self._chosen = assigned, answers, chosen
        self._known: dict[int, Any] = {}

    def holds(self, condition: ast.expr) -> bool:
        """Whether a condition is met. Raises ``_FailedError`` where the program gave no answer to it."""
        try:
            return bool(_value(condition, self))
        except (RefusedError, *FAILURES):  # what was planned is refused only for being huge
            return False

    def stands_for(self, node: _Answered) -> Any:
        """The value of an answer, or of a name."""
        number = node.number
        if isinstance(node, _Bound):
            if number not in self._known:
                self._known[number] = _value(self._assigned[number], self)
            return self._known[number]
        if number not in self._chosen:
            raise _WantedError(number)
        if number not in self._answers:
            raise _FailedError("")
        answer = self._answers[number]
        if answer.error:
            raise _FailedError(answer.error)
        return answer.value


NOTHING = _Run((), {}, frozenset())


def _verdict(status: str, reasons: Sequence[str]) -> tuple[bool, float, str]:
    """What a program is worth, of the reasons why it does not pass its tests, empty for those that it passes."""
    reason = next(filter(None, reasons), "correct" if status == "ok" else _why_silent(status, "the end"))
    return reason == "correct", reasons.count("") / len(reasons), reason


def compare(accepted: Sequence[Sequence[Any]], is_text: bool, status: str, replies: str) -> tuple[bool, float, str]:
    """What the replies of a program are worth where each is right that is one of those ``accepted`` in its place:
    texts, or values that JSON has.
    """
    answers, same, reasons = read_replies(replies.encode()), writes if is_text else returns, []
    for number, (answer, wanted) in enumerate(zip_longest(answers[: len(accepted)], accepted), 1):
        if answer is None:
            reasons.append(_why_silent(status, f"test {number}"))
        elif answer.error:
            reasons.append(_why_failed(answer.error, number))
        else:
            is_right = any(same(one, answer.value) for one in wanted)
            reasons.append("" if is_right else f"wrong answer on test {number}")
    return _verdict(status, reasons)


def writes(wanted: str, written: Any) -> bool:
    """Whether a text says what is wanted: the same words in every line, however they are spaced, and whatever empty
    lines at the end. Where a decimal fraction is wanted, a number that is as near as ``TOLERANCE`` is the same.
    """
    if not isinstance(written, str):
        return False
    lines, found = wanted.rstrip().split("\n"), written.rstrip().split("\n")
    return len(lines) == len(found) and all(map(_same_line, lines, found))


def _same_line(wanted: str, written: str) -> bool:
    words, found = wanted.split(), written.split()
    return len(words) == len(found) and all(map(_same_word, words, found))


def _same_word(wanted: str, written: str) -> bool:
    if wanted == written:
        return True
    return bool(FRACTION.fullmatch(wanted) and NUMBER.fullmatch(written)) and _is_near(float(wanted), float(written))


def _is_near(wanted: float, found: float) -> bool:
    """Whether a number is the one that is wanted. It is not where either is infinite, or none."""
    return abs(wanted - found) <= TOLERANCE * max(1.0, abs(wanted)) and math.isfinite(wanted)


def returns(wanted: Any, value: Any) -> bool:
    """Whether a value is the one that is wanted, of those that JSON has: tuples are lists, the keys of a dictionary are
    texts, and a number is as near to a decimal fraction as in a text. Raises nothing.
    """
    try:
        return _same_value(wanted, value)
    except FAILURES:
        return False


def _same_value(wanted: Any, value: Any) -> bool:
    match wanted:
        case float():
            return isinstance(value, int | float | Decimal | Fraction) and _is_near(wanted, float(value))
        case list():
            is_list = isinstance(value, list | tuple) and len(value) == len(wanted)
            return is_list and all(map(_same_value, wanted, value))
        case dict():
            found = {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}
            is_dict = isinstance(value, dict) and found.keys() == wanted.keys() and len(found) == len(value)
            return is_dict and all(_same_value(wanted[key], found[key]) for key in wanted)
    return bool(wanted == value)


def _why_failed(error: str, number: int) -> str:
    """The reason for an error that the program says; empty where it says none."""
    if error.startswith("no function "):
        return "no such function"
    kind = error.partition(":")[0]
    return f"{kind if kind in EXCEPTIONS else 'exception'} on test {number}" if error else ""


def _why_silent(status: str, point: str) -> str:
    return SILENT.get(status) or f"{'died' if status == 'error' else 'ended'} before {point}"


def _value(node: ast.AST, run: _Run) -> Any:  # noqa: C901 (one case a kind of expression)
    """Compute with plain values. Raises one of ``FAILURES``, or ``RefusedError`` for what is no plain expression."""
    match node:
        case _Answered():
            return run.stands_for(node)
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item, run) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, run) for item in items)
        case ast.Set(elts=items):
            return {_value(item, run) for item in items}
        case ast.Dict(keys=keys, values=values):
            if None in keys:
                raise RefusedError("a dictionary with **")
            return {_value(k, run): _value(v, run) for k, v in zip(keys, values, strict=True) if k}
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, run))
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, _value(left, run), _value(right, run))
        case ast.BoolOp(op=op, values=[*others, last]):
            for other in others:
                found = _value(other, run)
                if bool(found) is isinstance(op, ast.Or):
                    return found
            return _value(last, run)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _compared(_value(left, run), ops, comparators, run)
        case ast.Subscript(value=value, slice=index):
            return _value(value, run)[_value(index, run)]
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(each and _value(each, run) for each in (lower, upper, step)))
        case ast.Call(func=function, args=args, keywords=keywords):
            kwargs = {str(keyword.arg): _value(keyword.value, run) for keyword in keywords}
            return _value(function, run)(*(_value(arg, run) for arg in args), **kwargs)
    raise RefusedError(f"{type(node).__name__} is no plain expression")


def _compared(left: Any, ops: Sequence[ast.cmpop], comparators: Sequence[ast.expr], run: _Run) -> Any:
    found: Any = True
    for op, comparator in zip(ops, comparators, strict=True):
        right = _value(comparator, run)
        found = OPERATORS[type(op)](left, right)
        if not found:
            break
        left = right
    return found


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    """One operation on two values; a huge power or repetition is refused."""
    match op:
        case ast.Pow():
            if isinstance(right, int) and abs(right) * _bits(left) > MOST_BITS:
                raise RefusedError("a huge power")
            return left**right
        case ast.Mult():
            for items, times in ((left, right), (right, left)):
                if hasattr(items, "__len__") and isinstance(times, int) and len(items) * times > MOST_ITEMS:
                    raise RefusedError("a huge repetition")
            if _bits(left) and _bits(right) and _bits(left) + _bits(right) > MOST_BITS:
                raise RefusedError("a huge product")
            return left * right
        case ast.Mod():
            _refuse_formatting(left)
    return OPERATORS[type(op)](left, right)


def _refuse_formatting(left: Any) -> None:
    if not isinstance(left, int | float):
        raise RefusedError("the formatting of a text")


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


_suite = lru_cache(4096)(Suite)


def plan(tests: Sequence[str], function: str) -> dict[str, Any]:
    """The calls of tests, or the sentence with which they are refused. The function is the first that they call where
    none is named.
    """
    try:
        function = function or _first_called(tests)
        return {"function": function, "calls": _suite(tuple(tests), function).calls}
    except RefusedError as error:
        return {"refused": str(error)}


def grade(
    tests: Sequence[str], function: str, chosen: Sequence[int], status: str, replies: str
) -> tuple[bool, float, str] | list[int]:
    """What the replies of a program are worth, or the numbers of the calls that it has to make before one can say."""
    return _suite(tuple(tests), function).grade(chosen, status, replies.encode())


def work(kind: str, *given: Any) -> Any:
    """One of these, by its name."""
    kinds: Mapping[str, Callable[..., Any]] = {"plan": plan, "grade": grade, "compare": compare}
    return kinds[kind](*given)


def _first_called(tests: Sequence[str]) -> str:
    for text in tests:
        with suppress(SyntaxError, *FAILURES):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
                    return node.func.id
    raise RefusedError("The tests call no function: give assert statements that call one, or its name.")
