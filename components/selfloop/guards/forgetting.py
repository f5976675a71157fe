"""``forgetting``: has the loop lost what it once could?

The accuracy of the policy in force on old levels in earlier rounds less its present one, on the levels that both rounds
asked (after Chaudhry et al., 2018, arXiv:1801.10112). The value is the largest such loss. Each round has items of its
own and the best of many readings is partly luck, so the test bets on all earlier rounds at once, an equal part of the
money on each, and takes the accuracy of each at its lower bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from selfloop.decision import CHAMPION
from selfloop.guards import Evidence, Guard, Reading, unit_of
from selfloop.guards.bounds import Column, Measured, at_least, by_unit, noted, units_of
from selfloop.records import ItemResult


class Earlier(NamedTuple):
    """A round before: what it solved of the levels that are asked now, a lower bound of it, and the present units."""

    accuracy: float
    bound: float
    now: Column


class Forgetting(Guard, warn=0.05, halt=0.1):
    """Accuracy on old levels against earlier rounds."""

    name = "forgetting"
    bad = "high"
    units = "old"
    look = "the accuracy by level and round: which old levels fell, and since when?"
    statistic = "the champion's accuracy on old levels in an earlier round less the present one"
    limit = "a lower bound of each earlier round's, less the line"
    remembers = "the accuracy by level of every round; the evidence of all rounds"

    def test(self, line: float) -> Measured:
        """Solved, or not, where all were solved before."""
        return Measured(1.0 - line, best=1.0, worst=0.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The largest loss against an earlier round, between -1 and 1."""
        answers: dict[int, list[ItemResult]] = defaultdict(list)
        for each in evidence.answers:
            if each.suite == "old" and each.policy == CHAMPION:
                answers[each.level].append(each)
        units = {f"{level}": of_units(answers[level]) for level in sorted(answers)}
        memory = {level: noted(found) for level, found in units.items()} or None
        notes = [note for _, note in evidence.memories(self.label())]
        earlier = [
            seen_before(note, units, evidence.level(len(notes) - age, age + 1))
            for age, note in enumerate(notes)
            if note.keys() & units.keys()
        ]
        if not earlier:
            return Reading(None, "no old level was evaluated before", memory)
        best = max(earlier, key=lambda each: each.accuracy - each.now.mean())
        value = best.accuracy - float(best.now.mean())
        says = f"{best.now.mean():.1%} of {len(best.now)} old items are solved, {best.accuracy:.1%} were at the best"

        def beyond(line: float) -> list[Measured]:
            return [self.test(line).of(each.now, each.bound - line) for each in earlier]

        return Reading(value, says, memory, beyond)


def of_units(answers: list[ItemResult]) -> Column:
    """The accuracy of each unit of a level."""
    return by_unit([unit_of(each) for each in answers], [each.ok for each in answers])


def seen_before(note: Mapping[str, Any], units: Mapping[str, Column], level: float) -> Earlier:
    """An earlier round, by the levels that were asked then and are now; its bound is wrong with this probability."""
    import numpy as np

    both = [each for each in units if each in note]
    before, now = units_of(*(note[each] for each in both)), np.concatenate([units[each] for each in both])
    return Earlier(float(before.mean()), at_least(before, 0.0, level), now)
