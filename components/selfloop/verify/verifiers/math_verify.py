"""``math-verify``: whether an answer means the same as the task's, by the library of that name.

Numbers, fractions, LaTeX, intervals and sets are compared as mathematics, as ``selfloop.answers`` does for the check
``math``: here with limits of one's own, in any environment, and without an opinion where the task's answer is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.answers import NO_GOLD, RIGHT, UNANSWERED, UNREADABLE, WRONG, as_mathematics
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged

REASONS: dict[str, tuple[bool | None, str]] = {
    RIGHT: (True, "correct"),
    NO_GOLD: (None, NO_GOLD),
    **{what: (False, what) for what in (WRONG, UNANSWERED, UNREADABLE, "timeout", "out of memory", "crashed")},
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
        pairs = [(answers[number], rows[number][0]) for number in asked]
        outcomes = as_mathematics(pairs, self.workers, self.time_limit, self.memory_limit)
        context.timings.slowest = max([context.timings.slowest, *(outcome.seconds for outcome in outcomes)])
        context.timings.timeouts += sum(outcome.failure == "timeout" for outcome in outcomes)
        said: list[tuple[bool | None, str]] = [(False, "no end token")] * len(rows)
        for number, outcome in zip(asked, outcomes, strict=True):
            what = outcome.failure or outcome.value
            said[number] = REASONS.get(what, (None, f"cannot be compared ({what})"))
        ok = pa.array([each for each, _ in said], pa.bool_())
        score = pa.array([float(each or False) for each, _ in said], pa.float64())
        return ok, score, pa.array([reason for _, reason in said], pa.string())
