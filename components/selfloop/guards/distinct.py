"""``distinct``: do a task's attempts still differ? A loop that trains on what it agrees on comes to say one thing.

Of a task's attempts after the first, the share that says something new, (distinct - 1) / (attempts - 1): 0 for one
answer, 1 for as many answers as attempts (after distinct-n, Li et al., arXiv:1510.03055). The value is what is left of
the share of the first round in which it could be measured: what is usual differs between policies, healthy ones of ours
begin at 0.05 to 0.08, so that only the fall tells. Right attempts at a task count as one, for mastery is no collapse;
where no truth is known it looks like one, so loosen the lines there.
"""

from selfloop.guards import ENOUGH, Evidence, Guard, Reading


class Distinct(Guard, warn=0.25, halt=0.15):
    """Distinct completions among the attempts at a task, of those at first."""

    name = "distinct"
    bad = "low"
    look = "the samples of this round: do the attempts at a task all say the same?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The mean share of new answers over that of the first round."""
        attempts, distinct, _ = evidence.groups
        if len(attempts) < ENOUGH:
            return Reading(
                None, f"{len(attempts)} tasks have several attempts that are not all right, fewer than {ENOUGH}"
            )
        now = float(((distinct - 1) / (attempts - 1)).mean())
        first = evidence.remembered(self.label()) or now
        says = f"{now:.1%} of the further attempts at {len(attempts)} tasks say something new, {first:.1%} did at first"
        return Reading(now / first if first else 0.0, says, first)
