"""Comparing mathematics, in a process of its own that can be killed: nothing else imports this.

math-verify reads and compares; known faults of it are guarded here. It is imported at the top, so that a process which
says that it is ready has done so. Answers are read as LaTeX alone: of plain expressions, sympy would have Python
evaluate them. Only where an answer has to be looked for in a text, digits and operators reach that.
"""

import re
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
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
OPENING = re.compile(r"\s*(?:\\[bB]ig+l?|\\left)?\s*(\\\{|\\lbrace(?![a-z])|[(\[])")
CLOSING = re.compile(r"(\\\}|\\rbrace|[)\]])\s*[.,;]?\s*$")
OPENINGS = ("\\{", "\\lbrace", "(", "[")
BRACKET = re.compile(r"\\[{}]|\\[lr]brace(?![a-z])|[()\[\]]")
SAYS = re.compile(r"=|\\in(?![a-z])|∈")
IN_BASE = re.compile(
    r".*[\dA-F]\s*(?:\}\s*)?_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\d+|[a-z]+)\s*\}?\s*\}|(\d))\s*", re.DOTALL
)
BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
         "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16"}  # fmt: skip
WORD = re.compile(r"[A-Za-z]{4,}(?:[\s~-]+[A-Za-z]+)*")
"""Letters that are a word, and not a product of variables."""
REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}")
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
    if said is not None and (answer_in_words := _words(answer)) and (words := _words(said)):
        return RIGHT if words == answer_in_words else WRONG
    if said is not None and _are_other_things(answer, said):
        return WRONG
    is_interval = re.search(r"[\[\]]|\\infty|∞", answer) is not None  # and so no point, which no inequality says
    is_same = verify(wanted, given, allow_set_relation_comp=is_interval, timeout_seconds=None)
    return RIGHT if is_same else WRONG


def _words(text: str) -> str:
    """The words that are all of a text, in small letters; empty where it is anything else."""
    plain = re.sub(r"\\(?:text\w*|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", text).strip()
    return re.sub(r"[\s~-]+", " ", plain).lower() if WORD.fullmatch(plain) else ""


def _are_other_things(answer: str, said: str) -> bool:
    """Whether the two differ in what the library does not see: a set is no pair, and a number has one base."""
    return {_brackets(answer), _brackets(said)} == {"set", "pair"} or _base(said) not in (_base(answer), "")


def _brackets(text: str) -> str:
    """Whether a text says a set, or a pair or an interval: what stands in one pair of brackets, with a comma."""
    text = SAYS.split(text)[-1].strip().strip("$").strip()
    opening, closing = OPENING.match(text), CLOSING.search(text)
    if opening is None or closing is None:
        return "set" if re.search(r"\\pm(?![a-z])|±", text) else ""
    depths = list(accumulate(1 if each in OPENINGS else -1 for each in BRACKET.findall(text)))
    if 0 in depths[:-1] or "," not in text:
        return ""
    return "set" if opening[1].startswith("\\") else "pair"


def _base(text: str) -> str:
    """The base that a number is written in, where that is said and not ten."""
    found = IN_BASE.fullmatch(text)
    base = (found[1] or found[2]) if found else ""
    return "" if base in ("10", "ten") else BASES.get(base, base)


@lru_cache(maxsize=1024)
def _read(text: str) -> list[Any]:
    for dress in ("\\$", "$", "\\(", "\\)", "\\[", "\\]"):
        text = text.replace(dress, "")
    text = re.sub(r"\\([lr])brace(?![a-z])", lambda found: "\\{" if found[1] == "l" else "\\}", text)
    text = REPEATING.sub(_as_fraction, text)
    return list(parse(f"\\boxed{{{_without_unit(text)}}}", [WITH_UNITS], parsing_timeout=None))


def _as_fraction(found: re.Match[str]) -> str:
    """A decimal whose last digits repeat, exactly."""
    whole, before, repeated = found[1] or "0", found[2], found[3]
    above = int(whole + before + repeated) - int(whole + before)
    return rf"\frac{{{above}}}{{{'9' * len(repeated)}{'0' * len(before)}}}"


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
