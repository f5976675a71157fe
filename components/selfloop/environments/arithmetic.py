"""Arithmetic: ``(3+4)*2=``, the value of an expression of + - * over numbers of one digit.

An expression is worked out operation by operation, each left to a tool, and written anew with the result in its place
(``arithmetic``: ``<op>3+4</op><result>7</result>7*2=``...), or in the head (``arithmetic:plain``). ``arithmetic:both``
shows the tool in one text of three and the bare answer in the others: what is worth more is left to a loop to find out.
A policy may propose tasks: it writes an expression, and behind ``=`` the answer that it claims; ``arithmetic:claims``
is ``both``, and shows how to work a claim out with the tool. A problem is its value and its numbers, in any order.
"""

import ast
import json
import operator
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count, islice
from typing import Any, NamedTuple
from zlib import crc32

from selfloop.environments import ExactAnswer, Grade, distinct
from selfloop.errors import UserError
from selfloop.generate.tools.op import REFUSAL
from selfloop.lookup import unknown
from selfloop.records import Task
from selfloop.roles import AGAIN, BACKWARD, BETTER, JUDGE, RESTATE, WORSE, WRONG

NUMBERS, LARGE_NUMBERS = range(1, 10), range(10, 20)
BOUND = 1000
"""No value on the way, nor the answer, is as large."""
LEVELS = range(1, 13)
TOOL_SHARE = 3
EXPRESSION = re.compile(r"[0-9+*() -]{1,200}")
INTEGER = re.compile(r"-?[0-9]{1,18}")
RESULT = re.compile(r"<result>.*?</result>", re.DOTALL)
SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
BINDS = {"+": 0, "-": 0, "*": 1, "": 2}
NO_SLIPS: Mapping[int, int] = {}
FLAVOURS = ("tools", "plain", "both", "claims")


class Term(NamedTuple):
    """How an expression is written, and the operation it was made by last; none for a number."""

    text: str
    made_by: str = ""


class Step(NamedTuple):
    """One operation on two whole numbers."""

    left: int
    sign: str
    right: int

    @property
    def value(self) -> int:
        """What it comes to."""
        return OPERATIONS[self.sign](self.left, self.right)


class Arithmetic(ExactAnswer):
    """Working out an expression."""

    name = "arithmetic"
    summary = "an expression of + - *, solved by one tool call an operation; the level is the number of operations"
    levels = LEVELS
    suites_apart = True
    alphabet = "0123456789+-*()="
    special_tokens = ("<op>", "</op>", "<result>", "</result>", "<new>", REFUSAL)
    proposal_prompt = "<new>"
    roles = (JUDGE, BETTER, AGAIN, WRONG, WORSE, RESTATE, BACKWARD)
    closing = "="

    def __init__(self, flavour: str = "tools") -> None:
        if flavour not in FLAVOURS:
            raise unknown("flavour of arithmetic", flavour, FLAVOURS)
        self._flavour, self.claims = flavour, flavour == "claims"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Expressions of ``level`` operations, no prompt twice; fewer than ``count`` where there are no more."""
        return self._named(f"arithmetic-{level}-{seed:x}", distinct(_expressions(level, seed, NUMBERS), count))

    def content(self, task: Task) -> str:
        """The numbers in their order, and the value."""
        return f"{sorted(numbers_in(task.prompt))}={task.answer}"

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``numbers``: numbers of two digits. ``zeros``: a zero among the numbers. Tasks have neither."""
        with_zero = (text for text in _expressions(level, seed, range(10)) if 0 in numbers_in(text))
        suites = {"numbers": _expressions(level, seed, LARGE_NUMBERS), "zeros": with_zero}
        return {
            name: self._named(f"arithmetic-{name}-{level}-{seed:x}", distinct(drawn, count))
            for name, drawn in suites.items()
        }

    def demonstration(self, task: Task) -> str:
        """The operations, innermost and leftmost first, each answered by the tool ``op``, and what is then left of the
        expression, at last the answer; or the bare answer.
        """
        return _solution(task.prompt.removesuffix("=")) if self._shows_tool(task.prompt) else task.answer

    def non_policy_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tool's results stand."""
        return [found.span() for found in RESULT.finditer(text)]

    def proposals(self, level: int, count: int, seed: int) -> list[str]:
        """Expressions, also the same again; under ``claims`` with ``=`` and their solution behind."""
        texts = list(islice(_expressions(level, seed, NUMBERS), count))
        return [f"{text}={_solution(text)}" for text in texts] if self._flavour == "claims" else texts

    def parse_proposal(self, text: str, id: str) -> Task:
        """The expression before the first ``=``, without needless brackets; the claim is what the rest comes to."""
        expression, _, rest = text.partition("=")
        shown = _shown(_parsed(expression)).text
        claimed = self.extract_answer(rest).strip()
        if claimed and not INTEGER.fullmatch(claimed):
            raise ValueError("the claimed answer is no whole number")
        [task] = self._named(id, [_accepted(shown)])
        return task._replace(id=id, metadata=json.dumps({"claimed": str(int(claimed))} if claimed else {}))

    def check(self, task: Task, completion: str) -> Grade:
        """Compare what stands behind the last result with the answer."""
        return super().check(task, self.extract_answer(completion))

    def check_batch(self, tasks: Any, completions: Any) -> tuple[Any, Any, Any]:
        """Compare a batch at once."""
        import pyarrow.compute as pc

        return super().check_batch(tasks, pc.replace_substring_regex(completions, "(?s)^.*</result>", ""))

    def extract_answer(self, completion: str) -> str:
        """The text behind the last result."""
        return completion.rpartition("</result>")[2]

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """A solution in which so many values that are carried on are not those that the tool gave; a bare answer that
        is another number. Each operation that the text shows is a step.
        """
        expression, number = task.prompt.removesuffix("="), task.level if self._shows_tool(task.prompt) else 1
        if not 1 <= errors <= number:
            raise UserError(f"A solution of {number} steps has no {errors} wrong ones: ask for as many.")
        rng = random.Random(seed)
        while True:  # errors may undo each other, as what is multiplied by zero
            slips = {place: rng.choice([-3, -2, -1, 1, 2, 3]) for place in rng.sample(range(number), errors)}
            bare = not self._shows_tool(task.prompt)
            text = str(int(task.answer) + slips[0]) if bare else _solution(expression, slips)
            if not self.check(task, text).ok:
                return text

    def steps(self, completion: str) -> list[int]:
        """Behind what each result leaves of the expression; one step where nothing was worked out."""
        results = [found.start() for found in re.finditer("<op>", completion)]
        return [*results[1:], len(completion)] if completion else []

    def restating(self, task: Task, attempt: str) -> str:
        """The answer."""
        return self.extract_answer(attempt)

    def restated(self, task: Task) -> str:
        """Its expression."""
        return task.prompt.removesuffix("=")

    def retold(self, task: Task, text: str) -> str:
        """The expression."""
        return f"{text}="

    def check_restated(self, task: Task, attempt: str, text: str) -> Grade:
        """Right is an expression of as many operations with this value."""
        try:
            done = steps(_accepted(text))
        except ValueError as error:
            return Grade(False, 0.0, str(error))
        ok = len(done) == task.level and str(done[-1].value) == self.extract_answer(attempt)
        return Grade(ok, float(ok), "correct" if ok else "another expression")

    def _shows_tool(self, prompt: str) -> bool:
        if self._flavour in ("tools", "plain"):
            return self._flavour == "tools"
        return crc32(prompt.encode()) % TOOL_SHARE == 0

    def _named(self, stem: str, expressions: list[str]) -> list[Task]:
        made = []
        for number, text in enumerate(expressions):
            done = steps(text)
            answer, limit = str(done[-1].value), self._longest_turn(text)
            made.append(Task(f"{stem}-{number}", len(done), "", f"{text}=", answer, max_tokens=limit))
        return made

    def _longest_turn(self, expression: str) -> int:
        """Tokens of a turn at most: what is left of the expression, which never grows, with ``=``, and a call of two
        marks and two numbers of three digits with signs and the operation between them; if plain a number, and the end.
        """
        longest = len(str(-BOUND))
        return longest + 1 if self._flavour == "plain" else len(expression) + 2 * longest + 4


def steps(expression: str) -> list[Step]:
    """The operations of an expression, innermost and leftmost first. Raises ``ValueError`` where it is none."""
    return [step for step, _ in _worked_out(_parsed(expression))]


def numbers_in(expression: str) -> list[int]:
    """The numbers of an expression, from left to right."""
    return [int(number) for number in re.findall("[0-9]+", expression)]


def _parsed(expression: str) -> ast.expr:
    if EXPRESSION.fullmatch(expression):
        with suppress(SyntaxError):
            node = ast.parse(expression.strip(), mode="eval").body
            if _is_one(node):
                return node
    raise ValueError("not an expression")


def _is_one(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=int()):
            return True
        case ast.BinOp(left, op, right):
            return type(op) in SIGNS and _is_one(left) and _is_one(right)
    return False


def _worked_out(left: ast.expr, slips: Mapping[int, int] = NO_SLIPS) -> Iterator[tuple[Step, ast.expr]]:
    """Each operation, innermost and leftmost first, and what is left with its value in its place; ``slips`` are what is
    added to that value at some of them.
    """
    for number in count():
        if not isinstance(left, ast.BinOp):
            return
        step, left = _reduced(left, slips.get(number, 0))
        yield step, left


def _reduced(node: ast.BinOp, slip: int) -> tuple[Step, ast.expr]:
    if isinstance(node.left, ast.BinOp):
        step, left = _reduced(node.left, slip)
        return step, ast.BinOp(left, node.op, node.right)
    if isinstance(node.right, ast.BinOp):
        step, right = _reduced(node.right, slip)
        return step, ast.BinOp(node.left, node.op, right)
    step = Step(_number(node.left), SIGNS[type(node.op)], _number(node.right))
    return step, ast.Constant(step.value + slip)


def _number(node: ast.expr) -> int:
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return node.value


def _shown(node: ast.expr) -> Term:
    if isinstance(node, ast.BinOp):
        return _joined(_shown(node.left), SIGNS[type(node.op)], _shown(node.right))
    return Term(str(_number(node)))


def _joined(a: Term, sign: str, b: Term) -> Term:
    left = a.text if BINDS[a.made_by] >= BINDS[sign] else f"({a.text})"
    # Behind - brackets matter between equals too; elsewhere they would say nothing.
    bare = BINDS[b.made_by] > BINDS[sign] or (BINDS[b.made_by] == BINDS[sign] and sign in "+*")
    return Term(left + sign + (b.text if bare else f"({b.text})"), sign)


def _accepted(expression: str) -> str:
    """The expression. Raises ``ValueError`` with the reason where it is no task."""
    done = steps(expression)
    if not done:
        raise ValueError("no operation")
    if len(done) > LEVELS[-1]:
        raise ValueError("too many operations")
    if not set(numbers_in(expression)) <= set(NUMBERS):
        raise ValueError("a number out of range")
    if any(abs(step.value) >= BOUND for step in done):
        raise ValueError("a value out of bound on the way")
    return expression


def _solution(expression: str, slips: Mapping[int, int] = NO_SLIPS) -> str:
    """What the protocol ``tools`` lays out for the tool ``op``: behind each result stands what is left to work out."""
    written = ""
    for step, left in _worked_out(_parsed(expression), slips):
        more = "=" if isinstance(left, ast.BinOp) else ""
        written += f"<op>{step.left}{step.sign}{step.right}</op><result>{step.value}</result>{_shown(left).text}{more}"
    return written


def _expressions(level: int, seed: int, numbers: range) -> Iterator[str]:
    """Random expressions without end. Raises ``UserError`` for a level that there is not."""
    if level not in LEVELS:
        raise UserError(f"arithmetic has levels 1 to {LEVELS[-1]}, not {level}.")
    rng = random.Random(seed)
    while True:
        terms = [Term(str(rng.choice(numbers))) for _ in range(level + 1)]
        while len(terms) > 1:
            a = terms.pop(rng.randrange(len(terms)))
            b = terms.pop(rng.randrange(len(terms)))
            terms.append(_joined(a, rng.choice("+-*"), b))
        if all(abs(step.value) < BOUND for step in steps(terms[0].text)):
            yield terms[0].text


environment = Arithmetic
