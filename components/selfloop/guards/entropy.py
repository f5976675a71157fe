"""``entropy``: how evenly are a task's attempts spread over their answers?

Shannon entropy of the answers over its largest value, H / log(attempts), from 0 to 1. The value is what is left of that
of the first round in which it could be measured. It sees what ``distinct`` does not: nine attempts that agree and one
that does not still say two things. Training on rewards lowers it too (Cui et al., arXiv:2505.22617). Right attempts
count as one, and without truth mastery looks like collapse, as in ``distinct``.
"""

from __future__ import annotations

from selfloop.guards import Evidence, Reading
from selfloop.guards.distinct import Distinct


class Entropy(Distinct):
    """Entropy of the attempts at a task, of that at first."""

    name = "entropy"
    bad = "low"
    look = "the samples of this round: does one answer crowd out the others?"
    statistic = (
        "the mean over tasks of the entropy of the attempts over its largest value, over that of the first round"
    )

    def __call__(self, evidence: Evidence) -> Reading:
        """The mean entropy of the attempts at a task over that of the first round."""
        import numpy as np

        attempts, _, entropy, _ = evidence.groups
        return self.left(evidence, entropy / np.log(attempts), "of the highest entropy is in the attempts")
