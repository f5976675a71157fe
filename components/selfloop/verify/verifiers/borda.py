"""``borda``: a vote in which the attempts that the policy is surest of weigh most (Kang et al., arXiv:2502.18581)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from selfloop.verify.contract import Verifier
from selfloop.verify.verifiers.self_certainty import certainty_of

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Score
    from selfloop.verify.contract import Context, Judged


class Borda(Verifier):
    """Good is the answer with the most votes among the attempts at a task; a lone voter and a tie have no winner.

    The score is the answer's share of all votes. What gives no answer has no vote.
    """

    name = "borda"
    notes: ClassVar[Score] = "self_certainty"
    needs = "generate.score=self_certainty"
    power: float = Field(0.5, ge=0, description="The votes of rank r of N are (N - r + 1) to this power.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Count the votes of each task."""
        import pyarrow as pa

        groups: dict[str, list[int]] = defaultdict(list)
        answers, certainty = context.votes(rollouts).to_pylist(), certainty_of(rollouts).to_pylist()
        for row, task in enumerate(rollouts["task"].to_pylist()):
            if answers[row]:
                groups[task].append(row)
        finished = rollouts["finished"].to_pylist()
        ok, score = [False] * len(answers), [0.0] * len(answers)
        for rows in groups.values():
            shares = voted([answers[row] for row in rows], [certainty[row] for row in rows], self.power)
            first = [answer for answer, share in shares.items() if share == max(shares.values())]
            for row in rows:
                score[row] = shares[answers[row]]
                ok[row] = finished[row] and len(rows) > 1 and first == [answers[row]]
        reasons = ["most votes" if good else "not most votes" for good in ok]
        return pa.array(ok, pa.bool_()), pa.array(score, pa.float64()), pa.array(reasons, pa.string())


def voted(answers: Sequence[str], certainty: Sequence[float], power: float) -> dict[str, float]:
    """Each answer's share of the votes: of N attempts, the one at rank r by certainty has (N - r + 1) ** ``power``.

    Rank 1 is the surest; attempts that are equally sure share the votes of their ranks evenly. A power of 0 is the
    plain majority.
    """
    number = len(answers)
    ranked = sorted(certainty, reverse=True)
    votes: dict[str, float] = dict.fromkeys(answers, 0.0)
    places: dict[float, list[float]] = defaultdict(list)
    for rank, value in enumerate(ranked, start=1):
        places[value].append((number - rank + 1) ** power)
    for answer, value in zip(answers, certainty, strict=True):
        votes[answer] += sum(places[value]) / len(places[value])
    total = sum(votes.values())
    return {answer: vote / total for answer, vote in votes.items()}
