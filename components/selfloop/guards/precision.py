"""``precision``: how much of what the loop believes is true?

Of the tasks with something believed in a sealed audit sample, the mean share of it that is true. The sample is of the
verdicts with known truth, drawn by the gate's seed from the whole table: the loop cannot choose what is audited.
"""

from __future__ import annotations

from itertools import compress

from selfloop.guards import Evidence, Guard, Reading
from selfloop.guards.bounds import Measured, by_unit


class Precision(Guard, warn=0.9, halt=0.7):
    """Truth of what the verifier believes."""

    name = "precision"
    bad = "low"
    units = "audited"
    look = "the samples of this round: what is believed and not true?"
    statistic = "the mean over tasks of the share of what is believed that is true, in the sealed audit sample"

    def test(self, line: float) -> Measured:
        """All true, or nothing."""
        return Measured(line, best=1.0, worst=0.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The precision of the verifier in the audit sample."""
        ok, _, truth, unit = evidence.sample
        if not len(ok):
            return Reading(None, "no truth is known")
        if not ok.any():
            return Reading(None, f"none of the {len(ok)} audited rollouts is believed")
        shares = by_unit(compress(unit, ok), truth[ok])
        says = f"{(ok & truth).sum()} of {ok.sum()} audited rollouts that the loop believes are true"
        says += f", {shares.mean():.0%} on average of {len(shares)} tasks"
        return Reading(float(shares.mean()), says, beyond=lambda line: [self.test(line).of(shares)])
