"""``gap``: does the verifier know more than the policy?

The generation-verification gap (Song et al., "Mind the Gap", arXiv:2412.02674): precision of what is believed minus
accuracy of all rollouts, in the sealed audit sample. It bounds what a round can gain; at zero the verifier might as
well believe everything. Nothing is said where nearly all rollouts are right: mastery leaves no gap.
"""

from selfloop.guards import ENOUGH, Evidence, Guard, Reading

MASTERED = 0.95


class Gap(Guard, warn=0.02, halt=0.0):
    """What the verifier knows more than the policy."""

    name = "gap"
    bad = "low"
    look = "the verdicts of this round: does the verifier tell right from wrong at all?"

    def __call__(self, evidence: Evidence) -> Reading:
        """Precision minus accuracy."""
        ok, _, truth = evidence.sample
        if not len(ok):
            return Reading(None, "no truth is known")
        accuracy, believed = float(truth.mean()), int(ok.sum())
        if accuracy >= MASTERED:
            return Reading(None, f"{accuracy:.0%} of the audited rollouts are right, which leaves no gap")
        if believed < ENOUGH:
            return Reading(None, f"{believed} of the {len(ok)} audited rollouts are believed, fewer than {ENOUGH}")
        precision = float(truth[ok].mean())
        return Reading(
            precision - accuracy, f"{precision:.0%} of what is believed is true, {accuracy:.0%} of everything"
        )
