"""Tests whose verdict no program can forge: it only ever sees what its functions are called with, or what it reads.

A test is taken apart outside the sandbox: ``assert f(2) == 4`` becomes the call ``f(2)``, which goes in, and the
comparison with 4, which stays. What the program says that the call returned comes back as plain values (numbers, texts,
lists, ...), and the comparison is made on these, with nothing of the program in the process that makes it. A program
that knows nothing of the expected value can do no better than to return it.

Tests are ``assert`` statements, also in ``def check(candidate):``, in ``for`` loops over plain values, and on names
that were assigned before. A call that ``and``, ``or`` or a chain of comparisons may skip is made only where the others
do not decide. A test that does more than to compute with plain values, such as one that defines a function or expects
an exception, cannot be taken apart, and is refused.

Or they are examples, which need not be taken apart: a text on standard input and what is to be written, or arguments
and what is to be returned.

Taking apart and comparing is done by ``judging`` in a process of its own, which is killed where it takes too long or
too much memory: tests and answers that do no harm to anybody but themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from selfloop.errors import UserError
from selfloop.sandbox.running import Call, Limits, Outcome, Program, Sandbox
from selfloop.sandbox.zygote import unpack
from selfloop.workers import pool

SECONDS = 10.0
"""How long taking tests apart, or judging a program, may take."""
MEBIBYTES = 1024
"""The address space that it may take."""


class Suite(Protocol):
    """The tests of a task: what programs are asked, and what their replies are worth."""

    @property
    def sure(self) -> tuple[int, ...]:
        """The numbers of what programs are asked in any case."""

    def program(self, source: str, chosen: Sequence[int]) -> Program:
        """A program that is asked what was chosen."""

    def grade(self, outcome: Outcome, chosen: Sequence[int]) -> Graded | list[int]:
        """What a program is worth that was asked this, or the numbers of what it has to be asked, too."""


class Attempt(NamedTuple):
    """A program, and the tests that it has to pass."""

    source: str
    suite: Suite


class Graded(NamedTuple):
    """Whether all tests passed, the share that did, and what became of the first that did not: one of a closed set of
    reasons, in which nothing stands that the program chose.
    """

    ok: bool
    score: float
    reason: str


def graded(attempts: Iterable[Attempt], limits: Limits | None = None, workers: int | None = None) -> Iterator[Graded]:
    """Run each attempt in a sandbox of its own, on all cores, and judge it. Yields in order.

    Raises ``UserError`` where programs cannot be kept apart.
    """
    listed = list(attempts)
    if not listed:
        return
    with Sandbox(limits, workers) as sandbox:
        outcomes = sandbox.run(suite.program(source, suite.sure) for source, suite in listed)
        for (source, suite), outcome in zip(listed, outcomes, strict=True):
            yield _judged(sandbox, source, suite, outcome)


def _judged(sandbox: Sandbox, source: str, suite: Suite, outcome: Outcome) -> Graded:
    """What a program is worth; it runs again where a test comes to calls that were left out."""
    chosen = suite.sure
    while True:
        found = suite.grade(outcome, chosen)
        if isinstance(found, Graded):
            return found
        chosen = tuple(sorted({*chosen, *found}))
        [outcome] = sandbox.run([suite.program(source, chosen)])


class Asserts(NamedTuple):
    """Assert statements about a function, the calls that they make, and the numbers of those that they make in any
    case.
    """

    tests: tuple[str, ...]
    function: str
    calls: tuple[Call, ...]
    sure: tuple[int, ...]

    def program(self, source: str, chosen: Sequence[int]) -> Program:
        """A program with some of the calls."""
        return Program(source, calls=[self.calls[number] for number in chosen])

    def grade(self, outcome: Outcome, chosen: Sequence[int]) -> Graded | list[int]:
        """What a program is worth that made the chosen calls, or the calls that it has to make, too."""
        return _grade("grade", outcome, self.tests, self.function, list(chosen))


class Example(NamedTuple):
    """A text on standard input, or the arguments of a call, as JSON has them; and what is right to write or to return,
    one of several.
    """

    given: Any
    accepted: Sequence[Any]


class Examples:
    """Examples of one function, or where none is named, of a program that reads standard input."""

    def __init__(self, examples: Sequence[Example], function: str = "") -> None:
        self._examples, self._function = examples, function
        self.sure = tuple(range(len(examples)))

    def program(self, source: str, chosen: Sequence[int]) -> Program:
        """A program with some of the calls, or of the texts."""
        given = [self._examples[number].given for number in chosen]
        if self._function:
            return Program(source, calls=[Call(self._function, list(map(_argument, each))) for each in given])
        return Program(source, texts=given)

    def grade(self, outcome: Outcome, chosen: Sequence[int]) -> Graded | list[int]:
        """What a program is worth by its replies to those that were chosen."""
        accepted = [self._examples[number].accepted for number in chosen]
        return _grade("compare", outcome, accepted, not self._function)


def _argument(value: Any) -> Any:
    """An argument; keys of a dictionary that all look like whole numbers are some, for which JSON has only texts."""
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?\d{1,18}", str(key)) for key in value):
        return {int(key): each for key, each in value.items()}
    return value


@lru_cache(4096)
def taken_apart(tests: tuple[str, ...], function: str = "") -> Asserts:
    """A suite, made once for all the attempts at a task; the function is the one that its tests call first where none
    is named. Raises ``UserError`` for tests that cannot be taken apart.
    """
    found = _work("plan", tests, function)
    if found is None:
        raise UserError(
            f"The tests of '{function[:80]}' take too long or too much memory to be taken apart: write shorter ones."
        )
    if "refused" in found:
        raise UserError(found["refused"])
    calls = tuple(
        Call(found["function"], [unpack(each) for each in args], {name: unpack(each) for name, each in kwargs.items()})
        for args, kwargs, _ in found["calls"]
    )
    sure = tuple(number for number, (_, _, is_sure) in enumerate(found["calls"]) if is_sure)
    return Asserts(tests, found["function"], calls, sure or tuple(range(len(calls))))


def _grade(kind: str, outcome: Outcome, *tests: Any) -> Graded | list[int]:
    """What a program is worth by its tests, or the numbers of what it has to be asked, too."""
    found = _work(kind, *tests, outcome.status, outcome.replies.decode("utf-8", "replace"))
    if found is None:
        return Graded(False, 0.0, "not judged")
    return Graded(*found) if isinstance(found[0], bool) else found


def _work(*given: Any) -> Any:
    """What ``judging`` makes of this; none where it took too long or too much memory."""
    [outcome] = pool("selfloop.sandbox.judging:work", 1, SECONDS, MEBIBYTES).map([given])
    return outcome.value
