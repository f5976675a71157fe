"""``length``: do answers to the same old items grow longer or shorter?

Completion length (characters) of the candidate over the champion's in doublings, log2 of the ratio, between -3 and 3
and in steps of 1/32, on the items of all suites but the target: what is new there may well be longer. The means of the
promoted rounds are summed, so that a slow drift adds up; the value is the size of the sum: 1 is twice, or half, the
length (length bias: Singhal et al., arXiv:2310.03716).
"""

from __future__ import annotations

from collections import defaultdict
from math import log2
from typing import Any

from selfloop.decision import CANDIDATE, CHAMPION, CONFIRM, TARGET
from selfloop.guards import Evidence, Guard, Reading, unit_of
from selfloop.guards.bounds import Drift, Measured, by_unit, noted

MOST, STEPS = 3.0, 32


class Length(Guard, warn=0.58, halt=1.0):
    """Drift of the length of answers."""

    name = "length"
    bad = "high"
    units = "old"
    look = "the samples of this round and of the first one: what grew or went missing?"
    statistic = "the mean over old items of log2 of candidate over champion in length, and that of all promoted before"
    limit = "the line, for longer answers and for shorter ones"
    remembers = "the differences of the promoted rounds"

    def test(self, line: float) -> Measured:
        """As much longer as is counted, or shorter."""
        return Measured(line, best=-MOST, worst=MOST)

    def __call__(self, evidence: Evidence) -> Reading:
        """The drift of the candidate since the first round, in doublings."""
        lengths, units = defaultdict[str, dict[Any, int]](dict), dict[Any, str]()
        for each in evidence.answers:
            if each.suite not in (TARGET, CONFIRM):
                sample = each.suite, each.task, each.seed, each.attempt
                lengths[each.policy][sample], units[sample] = len(each.completion), unit_of(each)
        if not lengths[CHAMPION].keys() & lengths[CANDIDATE].keys():
            return Reading(None, "there are no items but those of the target suite")
        both = {sample: (old, lengths[CANDIDATE][sample]) for sample, old in lengths[CHAMPION].items()}
        ratios = by_unit([units[sample] for sample in both], [doublings(*pair) for pair in both.values()])
        drift = Drift.of(ratios, evidence.promoted(self.label()))

        def beyond(line: float) -> list[Measured]:
            return [each.beyond(self.test(line)) for each in (drift, drift._replace(units=-drift.units))]

        says = f"answers to {len(ratios)} old items are {2**drift.value:.2f} times as long as before the first round"
        return Reading(abs(drift.value), says, noted(ratios), beyond, whole=True)


def doublings(before: int, now: int) -> float:
    """How often a length was doubled; an empty answer counts as one letter."""
    ratio = log2(max(now, 1) / max(before, 1))
    return round(min(max(ratio, -MOST), MOST) * STEPS) / STEPS
