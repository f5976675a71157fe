"""``owns``: can a policy solve what it proposes? Where a proposal claims an answer, do attempts at it say the same?

Of the tasks whose proposer claims an answer, the share of which the answer that most attempts give is the claimed one
(after Tan et al., "Can I understand what I create?", who let a model answer the questions that it made itself). A vote
that is near 1/2 is what a proposer is rewarded for, and no harm; one that goes to another answer is: either the claim
is wrong, or what is learnt from the vote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from selfloop.guards import Evidence, Guard, Reading
from selfloop.guards.bounds import Measured, by_unit
from selfloop.propose.votes import votes
from selfloop.records import Audit, Rollout, Task, beside, read, whole_groups


class Owns(Guard, warn=0.6, halt=0.4):
    """Proposals whose claimed answer is that of most attempts."""

    name = "owns"
    bad = "low"
    look = "the samples of this round: what do attempts say where the proposer claims something else?"
    statistic = "the share of tasks with a claimed answer of which most attempts say it"

    def test(self, line: float) -> Measured:
        """Most attempts say what is claimed, or something else."""
        return Measured(line, best=1.0, worst=0.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The share of proposals that their own solver bears out."""
        claims = claimed(evidence)
        if not claims:
            return Reading(None, "no task claims an answer")
        won = {task: answer for task, answer in majorities(evidence).items() if task in claims}
        agreed = [float(answer == claims[task]) for task, answer in won.items()]
        if not agreed:
            return Reading(None, "no task that claims an answer was attempted")
        units = by_unit(evidence.units(won), agreed)
        says = f"{sum(agreed):.0f} of {len(agreed)} proposals claim what most attempts at them say"
        return Reading(float(units.mean()), says, beyond=lambda line: [self.test(line).of(units)])


def claimed(evidence: Evidence) -> Mapping[str, str]:
    """The answer that each task claims, where it claims one."""
    batches = read(evidence.table("tasks"), Task, ["id", "metadata"])
    found = (pair for batch in batches for pair in zip(*batch.to_pydict().values(), strict=True))
    told = {task: json.loads(about).get("claimed") for task, about in found}
    return {task: str(answer) for task, answer in told.items() if answer is not None}


def majorities(evidence: Evidence) -> Mapping[str, str | None]:
    """The answer that most attempts at each task give; none where there is no answer."""
    import pyarrow.compute as pc

    made: dict[str, list[str | None]] = {}
    attempts = whole_groups(read(evidence.table("rollouts"), Rollout, ["task", "completion"]))
    for rollouts, audit in beside(attempts, whole_groups(read(evidence.table("audit"), Audit, ["task", "said"]))):
        said = pc.coalesce(audit["said"], rollouts["completion"]).to_pylist()
        for task, answer in zip(rollouts["task"].to_pylist(), said, strict=True):
            made.setdefault(task, []).append(answer or None)
    return {task: votes(answers).label for task, answers in made.items()}
