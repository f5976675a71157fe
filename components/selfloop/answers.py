r"""Answers: where the final one stands in a text, and when two say the same.

The final answer is what stands in the last ``\boxed{}``, or on the line behind the last ``####``, or else the whole
text. As mathematics, where a text marks no answer, it is what math-verify finds in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING
from unicodedata import normalize

from selfloop.environments import Grade
from selfloop.errors import UserError
from selfloop.numerals import number_of, numbers_in

if TYPE_CHECKING:
    from selfloop.workers import Outcome

IN_A_BOX = "Think step by step, then put the final answer in \\boxed{}."
LONGEST = 400
"""Characters of an answer that is read as mathematics; what is longer is none."""
SECONDS, PROCESSES, MEBIBYTES = 5.0, 2, 1024
"""What mathematics may take: for one answer, in how many processes, and the address space of each."""
TARGET, WARM = "selfloop.mathematics:same", ("x^2+1", "1+x^2", "")
"""What compares mathematics in a process of its own, and what it begins with."""
RIGHT, WRONG, UNANSWERED, UNREADABLE = "right", "wrong answer", "no final answer", "unreadable answer"
NO_GOLD = "the task's answer cannot be read"
BARE = re.compile(r"[+−-]?[\d,.]*\d(?:/\d+)?")
PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}\s+[A-Za-z]{2,}|\n|\$|\\[(\[]")
NOTHING = re.compile(r"(?:\\text|[\s{}().?!*_-]|\\[lc]?dots)*(?:none|null|nan|n/a)?[\s{}().?!*_-]*", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
PAIR = re.compile(r"[\[(][^()\[\]]*,[^()\[\]]*[\])]")
"""What may be two numbers, or marks of thousands in brackets."""
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
NEAR = Fraction(1, 10**5)
"""How far apart two numbers are of which one cannot be the other, rounded; nearer ones math-verify tells apart."""


def boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{}``, braces balanced; none where there is no box, or the last is not closed."""
    *_, last = [None, *BOX.finditer(text)]
    if last is None:
        return None
    depth, start = 1, last.end()
    at = start
    while at < len(text):
        if text[at] == "\\":
            at += 1  # an escaped brace is a character like others
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return text[start:at].strip()
        at += 1
    return None


def marked(text: str) -> str | None:
    """What a text marks as its final answer: what stands in its last box, or on the line behind its last ``####``."""
    inside = boxed(text)
    if inside is not None:
        return inside
    _, mark, behind = text.rpartition("####")
    return behind.strip().partition("\n")[0].strip() if mark else None


def final_answer(text: str) -> str:
    """The final answer of a text."""
    found = marked(text)
    return text.strip() if found is None else found


def bare_answer(text: str) -> str | None:
    """The final answer of a text without words around it: marked, or all of it; none where it has to be looked for."""
    found = marked(text)
    return text.strip() if found is None and not PROSE.search(text.strip()) else found


def stated(completion: str, check: str) -> str:
    """The answer that a completion gives, numbers in one form: what votes are counted on.

    It is empty where the completion gives none, or one that a check of this name takes for nothing.
    """
    if check in ("exact", "contains"):
        return completion.strip() if check == "exact" else final_answer(completion)
    number = number_of(final_answer(completion))
    if number is not None:
        return str(number)
    said = bare_answer(completion) or ""
    return said if check == "math" and len(said) <= LONGEST and not NOTHING.fullmatch(said) else ""


def agreeing(pairs: Sequence[tuple[str, str]], check: str) -> list[bool]:
    """Whether the two of each pair, as ``stated`` gives them, are one answer to a check of this name."""
    if check == "math":
        return [grade.ok for grade in compared([(first, f"\\boxed{{{other}}}") for first, other in pairs])]
    if check == "number":
        pairs = [(stated(first, check) or first, stated(other, check) or other) for first, other in pairs]
    return [first == other for first, other in pairs]


def same_number(answer: str, completion: str) -> Grade:
    """Whether the final answer is exactly this number."""
    wanted, said = number_of(answer), number_of(final_answer(completion))
    if wanted is None:
        raise UserError(f"The answer {answer!r} is no number: choose another check, such as 'math'.")
    return graded(said == wanted, "no number as the final answer" if said is None else WRONG)


def same_mathematics(answer: str, completion: str) -> Grade:
    """Whether the final answer is worth the same, as math-verify sees it."""
    return compared([(answer, completion)])[0]


def compared(pairs: Sequence[tuple[str, str]]) -> list[Grade]:
    """Grades of answers and completions as mathematics. Each takes 5 seconds at most, in a process that is killed then.

    Raises ``UserError`` where math-verify is not installed.
    """
    outcomes = as_mathematics(pairs, PROCESSES, SECONDS, MEBIBYTES)
    return [graded(outcome.value == RIGHT, outcome.failure or outcome.value) for outcome in outcomes]


def as_mathematics(pairs: Sequence[tuple[str, str]], processes: int, seconds: float, mebibytes: int) -> list[Outcome]:
    """What becomes of each pair of an answer and a completion: ``RIGHT``, or why not.

    Plain numbers are compared here and now. Everything else is read in processes that are killed after so many seconds;
    each different pair is compared once. Raises ``UserError`` where math-verify is not installed.
    """
    from selfloop.workers import Outcome, pool

    known = {pair: Outcome(settled(*pair), "", 0.0) for pair in pairs}
    asked = [pair for pair, outcome in known.items() if outcome.value is None]
    if asked:
        if find_spec("math_verify") is None:
            raise UserError("Mathematics is compared by math-verify: install it with pip install 'selfloop[run]'.")
        items = [(answer, bare_answer(text), text) for answer, text in asked]
        workers = pool(TARGET, processes, seconds, mebibytes, WARM)
        known |= zip(asked, workers.map(items), strict=True)
    return [known[pair] for pair in pairs]


def settled(answer: str, completion: str) -> str | None:
    """What can be said of a completion without reading its answer as mathematics."""
    said, bare, answer = final_answer(completion), bare_answer(completion), answer.strip()
    if said == answer and said:
        return RIGHT
    if not said or len(bare or "") > LONGEST:
        return UNANSWERED
    if bare is not None and boxed(f"\\boxed{{{bare}}}") != bare:  # it would not stay within the box that it is read in
        return UNREADABLE
    wanted, given = number_of(answer), number_of(said)
    if wanted is None or given is None or PAIR.fullmatch(answer) or PAIR.fullmatch(said):
        return None
    if wanted == given:
        return RIGHT
    is_near = abs(wanted - given) <= NEAR * max(abs(wanted), abs(given))
    return None if is_near or "%" in answer + said else WRONG


def same_text(answer: str, completion: str) -> Grade:
    """Whether the completion is the answer, but for spaces around it."""
    return graded(completion.strip() == answer.strip())


def holds(answer: str, completion: str) -> Grade:
    """Whether the answer stands in the completion: a number as one of its numbers, a text as words of its own.

    Any white space is one space. A script that leaves none between words has no words here.
    """
    answer = answer.strip()
    number = number_of(answer) if BARE.fullmatch(answer) else None
    if number is not None:
        return graded(number in numbers_in(completion))
    answer, completion = (" ".join(normalize("NFC", text).split()) for text in (answer, completion))
    before = r"(?<![\w.−-])(?<!\d[,:/])" if answer[:1].isdigit() else r"(?<!\w)"
    behind = r"(?!\w|[.,:/]\d)" if answer[-1:].isdigit() else r"(?!\w)"
    before, behind = (
        "" if UNSPACED.match(end) else edge for end, edge in ((answer[:1], before), (answer[-1:], behind))
    )
    return graded(re.search(f"{before}{re.escape(answer)}{behind}", completion) is not None)


def graded(is_right: bool, otherwise: str = WRONG) -> Grade:
    """All or nothing."""
    return Grade(is_right, float(is_right), "correct" if is_right else otherwise)


CHECKS: dict[str, Callable[[str, str], Grade]] = {
    "exact": same_text,
    "number": same_number,
    "math": same_mathematics,
    "contains": holds,
}
"""When a completion is right, by name: functions of the answer and the completion."""
