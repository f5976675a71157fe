"""``length``: do answers to the same old items grow longer or shorter?

Mean completion length (characters) of the candidate over the champion's, on the items of all suites but the target:
what is new there may well be longer. The ratios of the promoted rounds are multiplied, so that a slow drift adds up;
the value is the size of log2 of the product: 1 is twice, or half, the length (length bias: Singhal et al.,
arXiv:2310.03716).
"""

from math import log2
from statistics import fmean

from selfloop.guards import Evidence, Guard, Reading


class Length(Guard, warn=0.58, halt=1.0):
    """Drift of the length of answers."""

    name = "length"
    bad = "high"
    look = "the samples of this round and of the first one: what grew or went missing?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The drift of the candidate since the first round, in doublings."""
        champion, candidate = (
            [len(each.completion) for each in evidence.answers if each.suite != "target" and each.policy == policy]
            for policy in ("champion", "candidate")
        )
        if not champion or not candidate:
            return Reading(None, "there are no items but those of the target suite")
        memories = evidence.memories(self.label())
        before = next((memory["candidate" if promoted else "champion"] for promoted, memory in memories), 0.0)
        ratio = max(fmean(candidate), 1.0) / max(fmean(champion), 1.0)  # an empty answer counts as one letter
        drift = before + log2(ratio)
        says = f"answers to old items are {2**drift:.2f} times as long as before the first round"
        return Reading(abs(drift), says, {"champion": before, "candidate": drift})
