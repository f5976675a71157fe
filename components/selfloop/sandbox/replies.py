"""What a program says that its functions returned: plain values, or nothing at all."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from selfloop.sandbox.zygote import unpack

FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What computing with plain values may raise."""
SHOWN = 200
"""Characters of an error that are kept."""


class Answer(NamedTuple):
    """What the program says that a call returned, always a plain value; or why it returned nothing."""

    value: Any
    error: str = ""


def read_replies(written: bytes) -> tuple[Answer, ...]:
    """The answers to calls, in order; none at all where there is anything else among them."""
    try:
        return tuple(_answer(json.loads(line), number) for number, line in enumerate(written.split(b"\n")[:-1]))
    except FAILURES:
        return ()


def _answer(reply: Any, number: int) -> Answer:
    if type(reply) is not dict or len(reply) != 2 or type(reply["call"]) is not int or reply["call"] != number:
        raise ValueError("answers are out of order")
    if "missing" in reply:
        return Answer(None, f"no function {_readable(reply['missing'])}")
    if "error" in reply:
        return Answer(None, _readable(reply["error"]) or "exception")
    return Answer(unpack(reply["value"]))


def _readable(text: object) -> str:
    """A short text that can be stored."""
    return str(text)[:SHOWN].encode("utf-8", "replace").decode()
