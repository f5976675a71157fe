"""``entropy``: how evenly are a task's attempts spread over their answers?

Shannon entropy of the completions over its largest value, H / log(attempts), from 0 to 1. The value is what is left of
that of the first round in which it could be measured. It sees what ``distinct`` does not: nine attempts that agree and
one that does not still say two things. Training on rewards lowers it too (Cui et al., arXiv:2505.22617). Right attempts
count as one, and without truth mastery looks like collapse, as in ``distinct``.
"""

from selfloop.guards import ENOUGH, Evidence, Guard, Reading


class Entropy(Guard, warn=0.35, halt=0.2):
    """Entropy of the attempts at a task, of that at first."""

    name = "entropy"
    bad = "low"
    look = "the samples of this round: does one answer crowd out the others?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The mean entropy of the attempts at a task over that of the first round."""
        import numpy as np

        attempts, _, entropy = evidence.groups
        if len(attempts) < ENOUGH:
            return Reading(
                None, f"{len(attempts)} tasks have several attempts that are not all right, fewer than {ENOUGH}"
            )
        now = float((entropy / np.log(attempts)).mean())
        first = evidence.remembered(self.label()) or now
        says = f"attempts at {len(attempts)} tasks have {now:.1%} of the highest entropy, {first:.1%} at first"
        return Reading(now / first if first else 0.0, says, first)
