"""Small Python functions, and the verifier for every task with unit tests: ``Tested``.

``code`` describes a function step by step, as many steps as the level, over a list of numbers or a text. Its tests hold
what the reference solution returns. A completion's program is the last block of code in it that defines the function.

A data set with a column of tests needs only the metadata that ``metadata`` makes: the tests as ``assert`` statements,
also in HumanEval's ``def check(candidate)``, the function's name, and what stands before the program (imports, or the
signature that a completion continues from).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.environments import Environment, Grade
from selfloop.errors import UserError
from selfloop.programs import continued, program_in
from selfloop.records import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.sandbox.grading import Attempt, Example

FUNCTION, TESTS = "solve", 5


def metadata(tests: Sequence[str] | Sequence[Example], function: str = "", before: str = "") -> str:
    """A task's metadata, as JSON, of assert statements or of examples. The function is the one that the statements call
    first where none is named; examples without one are of programs that read standard input.

    Raises ``UserError`` for tests that cannot be judged outside the sandbox.
    """
    from selfloop.sandbox.grading import taken_apart

    asserts = tuple(test for test in tests if isinstance(test, str))
    if len(asserts) == len(tests):
        function = taken_apart(asserts, function).function
    return _kept(tests, function, before)


def _kept(tests: Sequence[str] | Sequence[Example], function: str, before: str = "") -> str:
    return json.dumps({"tests": list(tests), "function": function, "before": before})


class Tested(Environment):
    """Tasks whose completions are programs that have to pass tests, run in the sandbox.

    All tests of a program together have ``seconds``.
    """

    seconds: float = 5.0
    runs_code = True

    def check(self, task: Task, completion: str) -> Grade:
        """Run one program on its tests."""
        return next(self._grades([(task.id, task.metadata, completion)]))

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Run a batch of programs, each in a sandbox of its own, on all cores."""
        import pyarrow as pa

        columns = (tasks["id"].to_pylist(), tasks["metadata"].to_pylist(), completions.to_pylist())
        grades = list(self._grades(zip(*columns, strict=True)))
        ok, score, reason = zip(*grades, strict=True) if grades else ((), (), ())
        return pa.array(ok, pa.bool_()), pa.array(score, pa.float64()), pa.array(reason, pa.string())

    def _grades(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Grade]:
        from selfloop.sandbox import Limits
        from selfloop.sandbox.grading import graded

        limits = Limits(wall_s=self.seconds, cpu_s=self.seconds)
        return (Grade(*found) for found in graded((_attempt(*row) for row in rows), limits))


def _attempt(id: str, kept: str, completion: str) -> Attempt:
    from selfloop.sandbox.grading import Attempt, Example, Examples, taken_apart

    try:
        about = json.loads(kept)
        tests, function, before = about["tests"], about["function"], about["before"]
        examples = [Example(*each) for each in tests if isinstance(each, list)]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"Task {id} has no unit tests in its metadata: make it with {__name__}.metadata.") from None
    program = program_in(completion, about.get("class", function))
    suite = Examples(examples, function) if examples else taken_apart(tuple(tests), function)
    return Attempt(continued(before, program, function), suite)


class Step(NamedTuple):
    """One step of a function: what it does in words, as an expression in ``v``, and the range of its number ``n``."""

    words: str
    code: str
    numbers: range = range(1)


NUMBERS = (
    Step("add {n} to every number", "[x + {n} for x in v]", range(1, 20)),
    Step("subtract {n} from every number", "[x - {n} for x in v]", range(1, 20)),
    Step("multiply every number by {n}", "[x * {n} for x in v]", range(2, 10)),
    Step("replace every number by its remainder when divided by {n}", "[x % {n} for x in v]", range(3, 12)),
    Step("keep only the numbers greater than {n}", "[x for x in v if x > {n}]", range(-5, 30)),
    Step("keep only the even numbers", "[x for x in v if x % 2 == 0]"),
    Step("keep only the odd numbers", "[x for x in v if x % 2 == 1]"),
    Step("remove every number that is divisible by {n}", "[x for x in v if x % {n} != 0]", range(3, 8)),
    Step("reverse the list", "v[::-1]"),
    Step("sort the numbers from smallest to largest", "sorted(v)"),
    Step("sort the numbers from largest to smallest", "sorted(v, reverse=True)"),
    Step("drop the first {n} numbers", "v[{n}:]", range(2, 5)),
    Step("keep every second number, beginning with the first", "v[::2]"),
    Step("replace every number by the sum of it and all before it", "[sum(v[: i + 1]) for i in range(len(v))]"),
    Step("keep only the first occurrence of every number", "list(dict.fromkeys(v))"),
    Step("replace every negative number by zero", "[max(x, 0) for x in v]"),
)
TEXTS = (
    Step("reverse the text", "v[::-1]"),
    Step("turn every letter into a capital letter", "v.upper()"),
    Step("turn every letter into a small letter", "v.lower()"),
    Step("swap capital and small letters", "v.swapcase()"),
    Step("remove all vowels (a, e, i, o, u, small or capital)", "''.join(c for c in v if c not in 'aeiouAEIOU')"),
    Step("remove all spaces", "v.replace(' ', '')"),
    Step("write every character twice", "''.join(c + c for c in v)"),
    Step("drop the first {n} characters", "v[{n}:]", range(2, 6)),
    Step("keep only the first {n} characters", "v[:{n}]", range(4, 12)),
    Step("keep every second character, beginning with the first", "v[::2]"),
    Step("reverse the order of the words, which are separated by spaces", "' '.join(v.split()[::-1])"),
    Step("remove every character that occurred before", "''.join(dict.fromkeys(v))"),
    Step("replace every space by the digit {n}", "v.replace(' ', '{n}')", range(10)),
    Step("sort the characters by their code points", "''.join(sorted(v))"),
)


def _numbers(rng: random.Random) -> list[int]:
    return [rng.randrange(-20, 60) for _ in range(rng.randrange(4, 10))]


def _text(rng: random.Random) -> str:
    words = ("".join(rng.choices(ascii_lowercase, k=rng.randrange(1, 8))) for _ in range(rng.randrange(2, 5)))
    return " ".join(rng.choice((str.capitalize, str.lower))(word) for word in words)


KINDS: Mapping[str, tuple[str, Sequence[Step], Callable[[random.Random], Any]]] = {
    "list[int]": ("a list of integers", NUMBERS, _numbers),
    "str": ("a text", TEXTS, _text),
}


class Code(Tested):
    """Functions described step by step."""

    name = "code"
    summary = "a Python function with unit tests, run in the sandbox; the level is the number of its steps"
    levels = range(1, 21)

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Functions of ``level`` steps, each with tests that tell it from a constant."""
        rng = random.Random(f"{level} {seed}")  # else the tasks of a level would begin as those of the next do
        return [_task(f"code-{level}-{seed:x}-{number}", level, rng) for number in range(count)]


def _task(id: str, level: int, rng: random.Random) -> Task:
    kind = rng.choice(list(KINDS))
    what, steps, draw = KINDS[kind]
    outputs: list[Any] = []
    while len(set(map(repr, outputs))) < 3:  # else a constant would nearly do
        filled = [(step, rng.choice(step.numbers)) for step in rng.choices(steps, k=level)]
        codes = [step.code.format(n=number) for step, number in filled]
        inputs = [draw(rng) for _ in range(TESTS)]
        outputs = [_through(codes, value) for value in inputs]
    words = (f"{place}. {step.words.format(n=number)}" for place, (step, number) in enumerate(filled, 1))
    prompt = (
        f"Write a Python function `{FUNCTION}(v: {kind}) -> {kind}`. It takes {what}, does the following in this "
        f"order, and returns the result.\n{chr(10).join(words)}\nAnswer with the function in a ```python fence."
    )
    body = "".join(f"    v = {code}\n" for code in codes)
    answer = f"```python\ndef {FUNCTION}(v: {kind}) -> {kind}:\n{body}    return v\n```"
    tests = [f"assert {FUNCTION}({a!r}) == {b!r}" for a, b in zip(inputs, outputs, strict=True)]
    return Task(id, level, "", prompt, answer, metadata=_kept(tests, FUNCTION))


def _through(codes: Sequence[str], value: Any) -> Any:
    for code in codes:
        value = _compiled(code)(value)
    return value


@cache
def _compiled(code: str) -> Callable[[Any], Any]:
    return eval(f"lambda v: {code}")  # type: ignore[no-any-return]  # noqa: S307 (a step of this file)


environment = Code
