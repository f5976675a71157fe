"""``cross-view``: what attempts at the other view of a task say, as of a pair in the other order (arXiv:2508.06046)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.environments import unified
from selfloop.propose.votes import votes
from selfloop.records import Task, as_rows
from selfloop.verify.contract import ended
from selfloop.verify.verifiers.asking import Asking

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class CrossView(Asking):
    """Good is the answer that most attempts give at the same task, said in another way; the score is 1 or 0.

    The attempts at the other view are for the label alone. On-policy training that draws both views has the reward of
    this name. Of answers with as many votes the first counts; where none of them can be read, there is no opinion.
    """

    name = "cross-view"
    needs = "an environment with views, and a policy to ask"

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Have the policy solve each task in its other view, and hold each answer to the majority."""
        import pyarrow as pa

        environment = context.environment
        views = [environment.view(task).prompt for task in as_rows(tasks, Task)]

        def read(text: str) -> str | None:
            return environment.extract_answer(text).strip() or None

        found = self.read_of_each(views, context, read)
        spelt = unified([[answer or "" for answer in answers] for answers in found.values()], environment)
        won = [votes([answer or None for answer in said]).label for said in spelt]
        labels = {view: label and environment.from_view(label) for view, label in zip(found, won, strict=True)}
        said = context.answers(rollouts).to_pylist()
        pairs = [(labels[view] or "", answer) for view, answer in zip(views, said, strict=True)]
        asked = [pair for pair in dict.fromkeys(pairs) if all(pair)]
        same = dict(zip(asked, environment.agree(asked), strict=True))
        ok = [same.get(pair, False) if pair[0] else None for pair in pairs]
        reasons = ["as the other view" if good else "no label" if good is None else "another answer" for good in ok]
        scores = [float(good or False) for good in ok]
        return ended(rollouts, pa.array(ok, pa.bool_()), pa.array(scores, pa.float64()), pa.array(reasons, pa.string()))
