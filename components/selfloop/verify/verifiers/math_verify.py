"""``math-verify``: whether an answer means the same as the task's, by the library of that name.

Numbers, fractions, LaTeX, intervals and sets are compared as mathematics. Completions are parsed by grammar; only text
of digits and operators reaches Python's ``eval``, by way of sympy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from selfloop.errors import UserError
from selfloop.verify.contract import Verifier
from selfloop.verify.workers import Outcome, pool

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged, Timings

TARGET = "selfloop.verify.verifiers.math_verify:same"
WARM = ("$x^2+1$", "$1+x^2$")
REASONS = {
    "right": (True, "correct"),
    "wrong": (False, "wrong answer"),
    "no answer": (False, "no answer in it"),
    "timeout": (False, "timeout"),
    "out of memory": (False, "out of memory"),
    "crashed": (False, "crashed"),
    "no gold": (None, "the task's answer cannot be read"),
}


class MathVerify(Verifier):
    """Good is what equals the task's answer as mathematics and was ended by the policy.

    Each comparison has ``time_limit`` seconds and ``memory_limit`` MiB; one that exceeds them is not good, and its
    reason says so: an answer that cannot be checked in bounded time is not one that a policy shall learn to give.
    A task whose own answer cannot be read is one of which there is no opinion.
    """

    name = "math-verify"
    needs = "the library math-verify, which comes with selfloop[run]"
    workers: int = Field(2, ge=1, description="Processes that check answers.")
    time_limit: float = Field(5.0, gt=0, description="Seconds for one answer, then its process is killed.")
    memory_limit: int = Field(1024, ge=256, description="MiB of address space of each process.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Compare each finished answer in a process that can be killed."""
        import pyarrow as pa

        rows = list(zip(*(rollouts[name].to_pylist() for name in ("completion", "finished")), strict=True))
        asked = [number for number, (_, finished) in enumerate(rows) if finished]
        answers = tasks["answer"].to_pylist()
        outcomes = self.compared([(answers[number], rows[number][0]) for number in asked], context.timings)
        said: list[tuple[bool | None, str]] = [(False, "no end token")] * len(rows)
        for number, outcome in zip(asked, outcomes, strict=True):
            what = outcome.failure or outcome.value
            said[number] = REASONS.get(what, (None, f"cannot be compared ({what})"))
        ok = pa.array([each for each, _ in said], pa.bool_())
        score = pa.array([float(each or False) for each, _ in said], pa.float64())
        return ok, score, pa.array([reason for _, reason in said], pa.string())

    def compared(self, pairs: Sequence[tuple[str, str]], timings: Timings) -> list[Outcome]:
        """What becomes of each pair of a task's answer and a completion; each different pair is compared once."""
        different = list(dict.fromkeys(pairs))
        _check_installed()
        outcomes = pool(TARGET, self.workers, self.time_limit, self.memory_limit, WARM).map(different)
        timings.slowest = max([timings.slowest, *(outcome.seconds for outcome in outcomes)])
        known = dict(zip(different, outcomes, strict=True))
        found = [known[pair] for pair in pairs]
        timings.timeouts += sum(outcome.failure == "timeout" for outcome in found)
        return found


def same(answer: str, completion: str) -> str:
    """In a child: ``right``, ``wrong``, ``no answer`` where the completion holds none, or ``no gold``."""
    from math_verify import parse, verify

    gold = _gold(answer)
    if not gold:
        return "no gold"
    given: Any = parse(completion, parsing_timeout=None)
    if not given:
        return "no answer"
    return "right" if verify(gold, given, timeout_seconds=None) else "wrong"


@lru_cache(maxsize=1024)
def _gold(answer: str) -> Any:
    """A task's answer as mathematics: as it stands, or else as LaTeX without its dollars."""
    from math_verify import LatexExtractionConfig, parse

    latex = parse(f"${answer}$", [LatexExtractionConfig()], parsing_timeout=None)
    return parse(answer, parsing_timeout=None) if "$" in answer or "\\(" in answer or not latex else latex


def _check_installed() -> None:
    from importlib.util import find_spec

    if find_spec("math_verify") is None:
        raise UserError("The verifier 'math-verify' needs its library: pip install 'selfloop[run]'.")
