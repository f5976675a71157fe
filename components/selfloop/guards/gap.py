"""``gap``: does the verifier know more than the policy?

The generation-verification gap (Song et al., "Mind the Gap", arXiv:2412.02674), precision minus accuracy in the sealed
audit sample, as a share of what it could be: 1 less the error of what is believed over the error of everything. 1 is a
verifier that believes nothing wrong, 0 one that might as well believe everything.

Its test takes two tasks at a time: with b the share of a task's attempts that is believed and wrong, o that which is
believed and e that which is wrong, the mean of (b + b')/2 - (1 - line) (o e' + o' e)/2 is above 0 where the gap is
below the line.
"""

from __future__ import annotations

from selfloop.guards import Evidence, Guard, Reading
from selfloop.guards.bounds import Column, Measured, by_unit


class Gap(Guard, warn=0.3, halt=0.2):
    """What the verifier knows more than the policy, of what it could."""

    name = "gap"
    bad = "low"
    units = "audited"
    look = "the verdicts of this round: does the verifier tell right from wrong at all?"
    statistic = "the share of errors kept out: 1 less the error of what is believed over that of everything audited"

    def test(self, line: float) -> Measured:
        """Pairs of tasks: one believed and right beside one that is neither, or one believed and wrong."""
        return Measured(0.0, best=-(1 - line) / 2, worst=0.5)

    def fewest(self, alpha: float) -> float:
        """Two tasks for each pair."""
        return 2 * super().fewest(alpha)

    def __call__(self, evidence: Evidence) -> Reading:
        """The share of all errors that are kept out."""
        ok, _, truth, unit = evidence.sample
        if not len(ok):
            return Reading(None, "no truth is known")
        believed, wrong, both = (by_unit(unit, column) for column in (ok, ~truth, ok & ~truth))
        if not believed.any() or not wrong.any():
            nothing = "believed" if not believed.any() else "wrong"
            return Reading(None, f"none of the {len(ok)} audited rollouts is {nothing}")
        value = 1 - float(both.mean() / believed.mean() / wrong.mean())
        says = f"{both.mean() / believed.mean():.0%} of what is believed is wrong, {wrong.mean():.0%} of everything"

        def beyond(line: float) -> list[Measured]:
            return [self.test(line).of(of_pairs(believed, wrong, both, line))]

        return Reading(value, f"{says}, of {len(wrong)} tasks", beyond=beyond)


def of_pairs(believed: Column, wrong: Column, both: Column, line: float) -> Column:
    """A number for each two tasks, above 0 on average where the gap is below the line."""
    half = len(both) // 2
    (o, e, b), (o2, e2, b2) = (
        [c[part] for c in (believed, wrong, both)] for part in (slice(half), slice(half, 2 * half))
    )
    return (b + b2) / 2 - (1 - line) * (o * e2 + o2 * e) / 2  # type: ignore[no-any-return]
