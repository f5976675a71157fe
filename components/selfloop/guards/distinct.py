"""``distinct``: do a task's attempts still differ? A loop that trains on what it agrees on comes to say one thing.

Of a task's attempts after the first, the share that says something new, (distinct - 1) / (attempts - 1): 0 for one
answer, 1 for as many answers as attempts (after distinct-n, Li et al., arXiv:1510.03055). The value is what is left of
the share of the first round in which it could be measured: what is usual differs between policies, so that only the
fall tells, and one that says one thing from the first round on is not seen. Right attempts at a task count as one, for
mastery is no collapse; where no truth is known it looks like one, so loosen the lines there.
"""

from __future__ import annotations

from selfloop.guards import Evidence, Guard, Reading
from selfloop.guards.bounds import Column, Measured, at_least, by_unit


class Distinct(Guard, warn=0.5, halt=0.3):
    """Distinct answers among the attempts at a task, of those at first."""

    name = "distinct"
    bad = "low"
    look = "the samples of this round: do the attempts at a task all say the same?"
    statistic = (
        "the mean over tasks of the share of further attempts that says something new, over that of the first round"
    )
    limit = "the line times a lower bound of the first round's"
    remembers = "the first round; the evidence of all rounds"

    def test(self, line: float) -> Measured:
        """Every attempt says something new, or none."""
        return Measured(line, best=1.0, worst=0.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The mean share of new answers over that of the first round."""
        attempts, distinct, _, _ = evidence.groups
        return self.left(evidence, (distinct - 1) / (attempts - 1), "of what further attempts say is new")

    def left(self, evidence: Evidence, of_tasks: Column, what: str) -> Reading:
        """What is left of a mean between 0 and 1 that was larger in the first round, a number for each task."""
        if not len(of_tasks):
            return Reading(None, "no task has several attempts that are not all right")
        units, first = by_unit(evidence.units(evidence.groups.task), of_tasks), evidence.remembered(self.label())
        now, tasks = float(units.mean()), f"{len(units)} task{'s' * (len(units) != 1)}"
        if first is None:
            memory = {"mean": now, "bound": at_least(units, 0.0, evidence.level(1))}
            return Reading(1.0, f"{now:.1%} {what} in the first round, {tasks}", memory)
        return Reading(
            now / first["mean"] if first["mean"] else 1.0,
            f"{now:.1%} {what} in {tasks}, {first['mean']:.1%} at first",
            first,
            lambda line: [self.test(line * first["bound"]).of(units)],
        )
