"""Comparing mathematics, in a process of its own that can be killed: nothing else imports this.

math-verify reads and compares; known faults of it are guarded here. It is imported at the top, so that a process which
says that it is ready has done so. Answers are read as LaTeX alone: of plain expressions, sympy would have Python
evaluate them. Only where an answer has to be looked for in a text, digits and operators reach that.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, grader, parse, verify

from selfloop.answers import NO_GOLD, RIGHT, UNANSWERED, WRONG
from selfloop.numerals import is_unit

LATEX = LatexExtractionConfig()
WITH_UNITS = replace(LATEX, normalization_config=replace(LATEX.normalization_config, units=False))
"""Without the library's own list of units, which has letters in it that are variables: 5t would be 5."""
UNIT = re.compile(
    r"(?P<before>.*\S)(?:\s*\\(?:text(?:rm)?|mathrm|mbox)\s*\{[^{}]*\}|(?:(?<=[\d}])|\s)\s*(?P<short>[A-Za-z]{2})"
    r"|\s+(?P<word>mph|sec|min|deg|day|hrs|lbs|[A-Za-z]{4,}))(?:\s*\^\s*\{?\d\}?)?\s*",
    re.DOTALL,
)
CLOSE = 1e-6
"""How far apart two numbers may be, as a share of them, where one is a decimal."""
EXACT = 1e-12
"""The same where neither is."""


def same(answer: str, said: str | None, text: str) -> str:
    """Whether what is said is worth the answer, or else what stands somewhere in the text; in a word or two.

    Time and memory are limited by who calls.
    """
    wanted = _read(answer) or parse(answer, parsing_timeout=None)
    if not wanted:
        return NO_GOLD
    given = parse(text, parsing_timeout=None) if said is None else _read(said)
    if not given:
        return UNANSWERED
    return RIGHT if verify(wanted, given, timeout_seconds=None) else WRONG


@lru_cache(maxsize=1024)
def _read(text: str) -> list[Any]:
    for dress in ("\\$", "$", "\\(", "\\)", "\\[", "\\]"):
        text = text.replace(dress, "")
    return list(parse(f"\\boxed{{{_without_unit(text)}}}", [WITH_UNITS], parsing_timeout=None))


def _without_unit(text: str) -> str:
    """An expression without the words of a unit behind it."""
    found = UNIT.fullmatch(text)
    word = found and (found["short"] or found["word"])
    return text if found is None or (word and not is_unit(word)) else _without_unit(found["before"])


_tolerant = grader.sympy_numeric_eq


def _close(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
    """The library's comparison of numbers, which takes any two small ones for one; here small is a share of them."""
    if not _tolerant(a, b, float_rounding, numeric_precision):
        return False
    if grader.get_pct_val(a) is not None or grader.get_pct_val(b) is not None:
        return True  # 9 and 9 % are one to it
    return not _apart(a, b)


def _apart(a: Any, b: Any) -> bool:
    a, b = (grader.safe_sympy_doit(each) for each in (a, b))
    if not (getattr(a, "is_number", False) and getattr(b, "is_number", False)):
        return False
    if a.is_Rational and b.is_Rational:
        return bool(a != b)
    share = CLOSE if a.has(grader.Float) or b.has(grader.Float) else EXACT
    return bool(abs((a - b).evalf(30)) > share * max(abs(a.evalf(30)), abs(b.evalf(30))))


grader.sympy_numeric_eq = _close
