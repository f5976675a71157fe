"""``precision``: how much of what the loop believes is true?

Believed and true over believed, in a sealed audit sample: verdicts with known truth, drawn by the gate's seed from the
whole table, so that the loop cannot choose what is audited. A point estimate, given only where the sample holds at
least 30 believed rollouts: at 30, a precision of 0.97 reads below the warn line in 1 of 80 samples, and below the halt
line in fewer than 1 of a million.
"""

from selfloop.guards import ENOUGH, Evidence, Guard, Reading


class Precision(Guard, warn=0.9, halt=0.7):
    """Truth of what the verifier believes."""

    name = "precision"
    bad = "low"
    look = "the samples of this round: what is believed and not true?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The precision of the verifier in the audit sample."""
        ok, _, truth = evidence.sample
        if not len(ok):
            return Reading(None, "no truth is known")
        believed, true = int(ok.sum()), int((ok & truth).sum())
        if believed < ENOUGH:
            return Reading(None, f"{believed} of the {len(ok)} audited rollouts are believed, fewer than {ENOUGH}")
        return Reading(true / believed, f"{true} of {believed} audited rollouts that the loop believes are true")
