"""``divergence``: does the score rise while the truth does not?

Mean verifier score minus mean truth (both from 0 to 1) in the sealed audit sample, minus the same in the first round in
which it could be measured. A verifier that the policy learns to please moves away from the truth while its scores look
better and better (Gao et al., "Scaling Laws for Reward Model Overoptimization", arXiv:2210.10760).
"""

from selfloop.guards import ENOUGH, Evidence, Guard, Reading


class Divergence(Guard, warn=0.1, halt=0.2):
    """Scores that rise while the truth does not."""

    name = "divergence"
    bad = "high"
    look = "the samples of this round: what do completions with a high score that are wrong have in common?"

    def __call__(self, evidence: Evidence) -> Reading:
        """How far score and truth have moved apart since the first round."""
        _, score, truth = evidence.sample
        if len(truth) < ENOUGH:
            return Reading(None, f"the truth of {len(truth)} rollouts is known, fewer than {ENOUGH}")
        if score.min() < 0 or score.max() > 1:
            return Reading(None, "the verifier's scores are not between 0 and 1")
        apart = float(score.mean() - truth.mean())
        before = evidence.remembered(self.label())
        first = apart if before is None else float(before)
        says = f"scores are {score.mean():.2f} and truth {truth.mean():.2f} on average, {first:+.2f} apart at first"
        return Reading(apart - first, says, first)
