"""``forgetting``: has the loop lost what it once could?

Mean over the old levels of the best accuracy of past rounds minus the present one (Chaudhry et al., 2018,
arXiv:1801.10112), of the policy in force. The gate compares a candidate with its champion only, so small losses that
each pass it add up; here they show. Each round has items of its own and the best of many readings is partly luck, so a
past accuracy counts a standard error lower than it was read (Wilson's lower bound, z = 1).
"""

from __future__ import annotations

from collections import defaultdict
from math import sqrt
from statistics import fmean

from selfloop.guards import Evidence, Guard, Reading


class Forgetting(Guard, warn=0.05, halt=0.1):
    """Accuracy on old levels against its best."""

    name = "forgetting"
    bad = "high"
    look = "the accuracy by level and round: which old levels fell, and since when?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The mean loss against the best accuracy of each old level, between -1 and 1."""
        answers: dict[int, list[bool]] = defaultdict(list)
        for each in evidence.answers:
            if each.suite == "old" and each.policy == "champion":
                answers[each.level].append(each.ok)
        best = {int(level): value for level, value in (evidence.remembered(self.label()) or {}).items()}
        losses = {level: best[level] - fmean(oks) for level, oks in answers.items() if level in best}
        for level, oks in answers.items():
            best[level] = max(best.get(level, 0.0), at_least(sum(oks), len(oks)))
        memory = {str(level): best[level] for level in sorted(best)}
        if not losses:
            return Reading(None, "no old level was evaluated before", memory or None)
        value, worst = fmean(losses.values()), max(losses, key=losses.__getitem__)
        says = f"{len(losses)} old levels are {value:.3f} below their best, level {worst} is {losses[worst]:.3f} below"
        return Reading(value, says, memory)


def at_least(right: int, number: int) -> float:
    """Wilson's lower bound of a share, one standard error down."""
    share = right / number
    bound = (share + 0.5 / number - sqrt(share * (1 - share) / number + 0.25 / number**2)) / (1 + 1 / number)
    return min(max(bound, 0.0), share)
