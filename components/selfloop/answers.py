r"""Answers: where the final one stands in a text, and when two say the same.

The final answer is what stands in the last ``\boxed{}``, or behind the last ``####``, or else the whole text.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from fractions import Fraction

from selfloop.environments import Grade
from selfloop.errors import UserError

IN_A_BOX = "Think step by step, then put the final answer in \\boxed{}."
LONGEST = 400
"""Characters of an answer that is read as mathematics; what is longer is none."""
SECONDS = 5
GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
DRESS = re.compile(r"\\(?:text|mathrm|textbf)\{[^{}]*\}|\\[$%,!; ]|[$€£%\s]|\{,\}(?=\d{3})")
NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:/\d{1,300})?")


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
    """Whether the final answer is worth the same, as math-verify sees it; each step of it is cut off after 5 seconds.

    Only LaTeX is read: of its plain expressions, sympy would have Python evaluate them.
    """
    said = final_answer(completion)
    if said == answer.strip():
        return graded(True)
    if not said or len(said) > LONGEST:
        return graded(False, "no final answer")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("math-verify keeps its time limit by a signal, which only the main thread can take.")
    try:
        return graded(_equal(answer, said))
    except TimeoutError:
        return graded(False, "timeout")
    except UserError:
        raise
    except Exception as error:
        _equal(answer, answer)  # raises if the fault is not in the completion
        return graded(False, f"unreadable answer ({type(error).__name__})")


def _equal(answer: str, said: str) -> bool:
    try:
        from math_verify import LatexExtractionConfig, parse, verify
        from math_verify.errors import TimeoutException
    except ModuleNotFoundError as error:
        raise UserError(f"Install math-verify with pip install 'selfloop[data]' ({error}).") from None
    reading = {"extraction_config": [LatexExtractionConfig()], "parsing_timeout": SECONDS, "raise_on_error": True}
    try:
        wanted, given = (parse(f"\\boxed{{{text}}}", **reading) for text in (answer, said))
        return bool(verify(wanted, given, timeout_seconds=SECONDS, raise_on_error=True))
    except TimeoutException as error:
        raise TimeoutError(str(error)) from None


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
