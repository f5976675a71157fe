"""Programming problems: their tests, in the shapes that public data sets give them.

==============================  ==================================================================================
APPS (arXiv:2105.09938), TACO   ``{"inputs": [...], "outputs": [...], "fn_name": ...}``; an input is a text or a list of
                                lines, or with a function, the list of its arguments
LiveCodeBench (2403.07974)      ``[{"input": ..., "output": ..., "testtype": "stdin" or "functional"}, ...]``; what is
                                functional has a value in JSON a line
code_contests (2203.07814)      ``{"input": [...], "output": [...]}``
MBPP (2108.07732)               a list of assert statements
HumanEval (2107.03374)          a text with ``def check(candidate):``
==============================  ==================================================================================

Each stands there as a value, or as JSON. Nothing is unpickled, and nothing of the tests is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.datafiles import typed
from selfloop.sandbox.grading import Example
from selfloop.sandbox.judging import returns
from selfloop.sandbox.running import Limits

MOST_BYTES = 2**23
"""How large all inputs of a problem may be in JSON."""
PACKED = re.compile(r"[A-Za-z0-9+/=\s]{40,}")
DEFINITION = re.compile(r"^\s*(?:async\s+)?def\s+(?!__)(\w+)\s*\(", re.MULTILINE)
CHECK = re.compile(r"^def\s+check\s*\(", re.MULTILINE)
METHOD = re.compile(r"^class\s+Solution\b", re.MULTILINE)


CHECKERS = ("checker", "generated_checker", "special_judge", "is_special_judge", "interactor", "interaction_format")
"""Columns that say how outputs are judged of which several are right, as data sets of contests name them."""


class UnusableError(ValueError):
    """Tests that cannot be run, or that no program passes; the message goes on from the number of their row."""


NAMELESS = UnusableError("has tests of a function that nothing names: name its column with function=COLUMN")


class Problem(NamedTuple):
    """Assert statements, or examples. The function is empty where programs read standard input, and where only the
    statements name it.
    """

    function: str
    asserts: Sequence[str] = ()
    examples: Sequence[Example] = ()


class _Found(NamedTuple):
    """An example, whether it is a call, and the function where it is named beside it."""

    example: Example
    is_call: bool
    function: str = ""


def problem_of(values: Sequence[object], function: str = "") -> Problem:
    """The tests in one or several columns of a row; ``function`` is named by another column.

    Raises ``UnusableError`` for what is no such test, or can be passed by no program.
    """
    found = [part for value in values for part in _parts(_read(value))]
    examples = [part for part in found if isinstance(part, _Found)]
    asserts = [part for part in found if isinstance(part, str)]
    if not found:
        raise UnusableError("has no tests")
    if (asserts and examples) or len({example.is_call for example in examples}) > 1:
        raise UnusableError("has tests of more than one kind: give it those of one")
    if asserts and not function and any(CHECK.search(text) for text in asserts):
        raise NAMELESS
    if asserts:
        return Problem(function, asserts)
    named = next((example.function for example in examples if example.function), function)
    if examples[0].is_call and not named:
        raise NAMELESS
    shown, named = [each.example for each in examples], named if examples[0].is_call else ""
    _check_sizes(shown, Limits().answer_bytes if named else Limits().text_bytes)
    return Problem(named, (), shown)


def refuse_checker(row: Mapping[str, object]) -> None:
    """Raise ``UnusableError`` for a problem that is judged by more than a comparison with what its tests expect."""
    named = next((name for name in CHECKERS if row.get(name) not in (None, "", False, "False", "false", 0)), None)
    if named is not None:
        raise UnusableError(
            f"has a '{named}': outputs are compared with those of its tests here, and others are right, too"
        )


def defined_by(starter: str) -> str:
    """The function, or the method, that starter code begins; empty where it begins none."""
    found = DEFINITION.search(starter)
    return found[1] if found else ""


def is_method(starter: str) -> bool:
    """Whether starter code begins a ``class Solution``, as LeetCode's does."""
    return METHOD.search(starter) is not None


def solution_of(value: object) -> str:
    """The first solution of a column of them: a text, a list, or JSON; of several languages the first in Python 3."""
    match _read(value):
        case str(text):
            return text
        case [first, *_]:
            return solution_of(first)
        case {"language": list(languages), "solution": list(solutions)}:
            pairs = zip(map(str, languages), solutions, strict=False)
            return next((str(text) for language, text in pairs if language in ("3", "PYTHON3")), "")
    return ""


def _read(value: object) -> Any:
    """A value, read where it is a text in JSON."""
    if not isinstance(value, str):
        return typed(value)
    try:
        return json.loads(value) if value.lstrip()[:1] in ("[", "{") else value
    except (ValueError, RecursionError):
        return value


def _parts(value: Any) -> Iterator[str | _Found]:
    match value:
        case None:
            return
        case str():
            yield from _asserts(value)
        case {"inputs": list(inputs), "outputs": list(outputs)}:
            name = str(value.get("fn_name") or "")
            yield from (_apps(given, expected, name) for given, expected in _pairs(inputs, outputs))
        case {"input": list(inputs), "output": list(outputs)}:
            kinds = value.get("testtype") or ["stdin"] * len(inputs)
            for (given, expected), kind in zip(_pairs(inputs, outputs), kinds, strict=False):
                yield _live({"input": given, "output": expected, "testtype": kind})
        case list():
            for item in value:
                yield from _asserts(item) if isinstance(item, str) else [_live(item)]
        case _:
            raise _unknown(value)


def _asserts(text: str) -> Iterator[str]:
    if "assert" in text:
        yield text
    elif PACKED.fullmatch(text):
        raise UnusableError(
            "has packed tests, as LiveCodeBench packs its private ones with pickle, and to unpack these is to run what "
            "stands in them: name the column of the public tests, or write them as JSON"
        )
    elif text.strip():
        raise _unknown(text)


def _unknown(value: object) -> UnusableError:
    return UnusableError(
        f"has {str(value)[:40]!r} for tests: give assert statements, or inputs and outputs in a shape of APPS, "
        "LiveCodeBench or code_contests"
    )


def _pairs(inputs: Sequence[Any], outputs: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    if len(inputs) != len(outputs):
        raise UnusableError(f"has {len(inputs)} inputs and {len(outputs)} outputs: each input needs its output")
    return zip(inputs, outputs, strict=True)


def _apps(given: Any, expected: Any, function: str) -> _Found:
    """An example of APPS, whose value to be returned may stand in a list of its own; arguments that are a text are as
    LiveCodeBench has them.
    """
    if not function:
        return _Found(Example(_text(given), [_text(expected)]), False)
    if isinstance(given, str):
        return _functional(given, _text(expected), function)
    if not isinstance(given, list):
        raise UnusableError(f"has {str(given)[:40]!r} for the arguments of '{function}', which are a list")
    is_wrapped = isinstance(expected, list) and len(expected) == 1
    accepted = [expected, expected[0]] if is_wrapped else [expected]
    return _Found(Example(given, _possible(accepted)), True, function)


def _live(item: Any) -> _Found:
    match item:
        case {"input": given, "output": expected} if item.get("testtype") == "functional":
            return _functional(_text(given), _text(expected))
        case {"input": given, "output": expected}:
            return _Found(Example(_text(given), [_text(expected)]), False)
    raise _unknown(item)


def _functional(given: str, expected: str, function: str = "") -> _Found:
    """A call whose arguments stand in JSON on lines of their own."""
    try:
        arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
        return _Found(Example(arguments, _possible([json.loads(expected)])), True, function)
    except (json.JSONDecodeError, RecursionError):
        shown = f"{given[:40]!r} and {expected[:40]!r}"
        raise UnusableError(f"has {shown} for arguments and value, which are to be JSON, one on a line") from None


def _text(value: Any) -> str:
    """A text, or its lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise UnusableError(f"has {str(value)[:40]!r} for what is read or written, which is a text")
    return value


def _possible(accepted: Sequence[Any]) -> Sequence[Any]:
    if not returns(accepted[0], accepted[0]):
        raise UnusableError(f"expects {str(accepted[0])[:40]}, which no value is equal to")
    return accepted


def _check_sizes(examples: Sequence[Example], most: int) -> None:
    given = sum(len(json.dumps(each.given)) for each in examples)
    right = sum(len(json.dumps({"call": number, "value": each.accepted[0]})) for number, each in enumerate(examples))
    for what, size, room in (("inputs", given, MOST_BYTES), ("expected outputs", right + len(examples), most)):
        if size > room:
            raise UnusableError(f"has {what} of {size} bytes, and programs are run with {room} at most: shorten them")
