r"""Answers: where the final one stands in a text, and when two say the same.

The final answer is what stands in the last ``\boxed{}``, or behind the last ``####``, or else the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec

from selfloop.environments import Grade
from selfloop.errors import UserError

IN_A_BOX = "Think step by step, then put the final answer in \\boxed{}."
LONGEST = 400
"""Characters of an answer that is read as mathematics; what is longer is none."""
SECONDS, PROCESSES, MEBIBYTES = 5.0, 2, 1024
"""What mathematics may take: for one answer, in how many processes, and the address space of each."""
GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
DRESS = re.compile(r"\\(?:text|mathrm|textbf)\{[^{}]*\}|\\[$%,!; ]|[$€£%\s]|\{,\}(?=\d{3})")
NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:/\d{1,300})?", re.ASCII)


def boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{}``, braces balanced; none where there is no box, or the last is not closed."""
    start = text.rfind("\\boxed{") + len("\\boxed{")
    if start < len("\\boxed{"):
        return None
    depth, at = 1, start
    while at < len(text):
        if text[at] == "\\":
            at += 1  # an escaped brace is a character like others
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return text[start:at].strip()
        at += 1
    return None


def final_answer(text: str) -> str:
    """The final answer of a text."""
    inside = boxed(text)
    if inside is not None:
        return inside
    _, mark, behind = text.rpartition("####")
    return behind.strip() if mark else text.strip()


def number_of(text: str) -> Fraction | None:
    """The number that a text says, in whatever currency and with or without commas; none where it says something else.

    A fraction is read as ``3/4``; a unit only where it is set as text.
    """
    bare = GROUPED.sub("", DRESS.sub("", text.replace("−", "-"))).removesuffix(".")
    if not NUMBER.fullmatch(bare):
        return None
    above, _, below = bare.partition("/")
    return None if below and not int(below) else Fraction(above) / int(below or 1)


def same_number(answer: str, completion: str) -> Grade:
    """Whether the final answer is exactly this number."""
    wanted, said = number_of(answer), number_of(final_answer(completion))
    if wanted is None:
        raise UserError(f"The answer {answer!r} is no number: choose another check, such as 'math'.")
    return graded(said == wanted, "no number as the final answer" if said is None else "wrong answer")


def same_mathematics(answer: str, completion: str) -> Grade:
    """Whether the final answer is worth the same, as math-verify sees it."""
    return compared([(answer, completion)])[0]


def compared(pairs: Sequence[tuple[str, str]]) -> list[Grade]:
    """Grades of answers and completions as mathematics. Each takes 5 seconds at most, in a process that is killed then.

    Raises ``UserError`` where math-verify is not installed.
    """
    known = {pair: _as_written(*pair) for pair in pairs}
    asked = [pair for pair, grade in known.items() if grade is None]
    if asked:
        if find_spec("math_verify") is None:
            raise UserError("Mathematics is compared by math-verify: install it with pip install 'selfloop[run]'.")
        from selfloop.verify.workers import pool

        workers = pool("selfloop.mathematics:equal", PROCESSES, SECONDS, MEBIBYTES)
        outcomes = workers.map([(answer, final_answer(completion)) for answer, completion in asked])
        for pair, outcome in zip(asked, outcomes, strict=True):
            known[pair] = graded(bool(outcome.value), outcome.failure or "wrong answer")
    return [grade for pair in pairs if (grade := known[pair]) is not None]


def _as_written(answer: str, completion: str) -> Grade | None:
    """What can be said of a completion without reading its answer as mathematics."""
    said = final_answer(completion)
    if said == answer.strip():
        return graded(True)
    if not said or len(said) > LONGEST:
        return graded(False, "no final answer")
    if boxed(f"\\boxed{{{said}}}") != said:  # it would not stay within the box that it is read in
        return graded(False, "unreadable answer")
    return None


def same_text(answer: str, completion: str) -> Grade:
    """Whether the completion is the answer, but for spaces around it."""
    return graded(completion.strip() == answer.strip())


def holds(answer: str, completion: str) -> Grade:
    """Whether the answer stands in the completion, as words of its own."""
    return graded(re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", completion) is not None)


def graded(is_right: bool, otherwise: str = "wrong answer") -> Grade:
    """All or nothing."""
    return Grade(is_right, float(is_right), "correct" if is_right else otherwise)


CHECKS: dict[str, Callable[[str, str], Grade]] = {
    "exact": same_text,
    "number": same_number,
    "math": same_mathematics,
    "contains": holds,
}
"""When a completion is right, by name: functions of the answer and the completion."""
