"""``round-trip``: a text that restates a task is followed, and must lead back to what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from selfloop.records import Task, as_rows
from selfloop.roles import retold
from selfloop.verify.contract import ended
from selfloop.verify.verifiers.asking import Asking

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class RoundTrip(Asking):
    """Good is a restated task at which a policy makes the attempt again that it was restated from, letter by letter.

    The score is the mean over its samples: 1 for the attempt, else 0, or under ``agreement="steps"`` the share of the
    attempt's steps before the first that is another. Cycle consistency, as in Wang et al. (arXiv:2412.08467); two
    policies that share a code of their own pass it as well, which the audit tells.
    """

    name = "round-trip"
    needs = "a policy to ask, and tasks of the role 'restate'"
    agreement: Literal["whole", "steps"] = Field("whole", description="What of an attempt counts: all, or its steps.")
    threshold: float = Field(0.5, description="The score from which on a rollout is good.")
    max_tokens: int = Field(64, ge=1, description="Tokens of an answer at most.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Have the policy attempt each task that was restated."""
        import pyarrow as pa

        environment = context.environment
        pairs = zip(as_rows(tasks, Task), rollouts["completion"].to_pylist(), strict=True)
        asked = [retold(environment, task, text) for task, text in pairs]
        made = self.read_of_each((prompt for prompt, _ in asked), context, str)
        scores = [self._score(attempt, made[prompt], environment.steps(attempt)) for prompt, attempt in asked]
        ok = [score >= self.threshold for score in scores]
        reasons = ["led back" if good else "led elsewhere" for good in ok]
        return ended(rollouts, pa.array(ok, pa.bool_()), pa.array(scores, pa.float64()), pa.array(reasons, pa.string()))

    def _score(self, attempt: str, made: Sequence[str | None], steps: Sequence[int]) -> float:
        ends = steps if self.agreement == "steps" else []
        return sum(agreed(attempt, text or "", ends) for text in made) / len(made)


def agreed(attempt: str, text: str, ends: Sequence[int]) -> float:
    """How much of an attempt a text is, from 0 to 1: all of it, or its steps before the first that is another. They end
    in ``ends``; to end where the attempt ends is one more.
    """
    if text == attempt:
        return 1.0
    same = [text[:end] == attempt[:end] for end in ends]
    return sum(same) / (len(same) + 1) if same else 0.0
