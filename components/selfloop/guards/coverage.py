"""``coverage``: does the loop come to solve fewer items in k samples while it solves more in one?

Pass@k of the candidate minus the champion's on the target suite, where pass@1 rose, and the same of all candidates that
were promoted before: what each of them lost adds up. k is the number of samples of an item (Yue et al.,
arXiv:2504.13837: training on own successes sharpens what the policy could do, and narrows it).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from selfloop.decision import CANDIDATE, CHAMPION, TARGET
from selfloop.evaluate import pass_at_k
from selfloop.guards import Evidence, Guard, Reading, unit_of
from selfloop.guards.bounds import Column, Drift, Measured, by_unit, noted
from selfloop.records import ItemResult


class Coverage(Guard, warn=-0.05, halt=-0.15):
    """Pass@k since the first round, while pass@1 rises."""

    name = "coverage"
    bad = "low"
    units = "target"
    look = "the accuracy by level of this round: which levels did only the champion solve in several attempts?"
    statistic = "the mean over items of candidate less champion in pass@k, and that of every candidate promoted before"
    remembers = "the differences of the promoted rounds"

    def test(self, line: float) -> Measured:
        """Solved by the candidate alone, or by the champion alone."""
        return Measured(line, best=1.0, worst=-1.0)

    def __call__(self, evidence: Evidence) -> Reading:
        """The change in pass@k since the first round, with a candidate whose pass@1 rose."""
        samples = {policy: target_samples(evidence.answers, policy) for policy in (CHAMPION, CANDIDATE)}
        k = min((len(oks) for each in samples.values() for oks in each.values()), default=0)
        if k < 2:
            return Reading(None, "an item of the target suite has one sample")
        rose, change = float(gain(samples, 1).mean()), gain(samples, k)
        memory, drift = noted(change), Drift.of(change, evidence.promoted(self.label()))
        if rose <= 0:
            return Reading(None, "pass@1 did not rise", memory)
        says = f"pass@{k} moved by {change.mean():+.3f} while pass@1 rose by {rose:.3f}"
        says += f", by {drift.value:+.3f} since the first round"
        return Reading(drift.value, says, memory, lambda line: [drift.beyond(self.test(line))], whole=True)


def target_samples(answers: Iterable[ItemResult], policy: str) -> dict[tuple[str, int], list[ItemResult]]:
    """The samples of each item of the target suite."""
    found: dict[tuple[str, int], list[ItemResult]] = defaultdict(list)
    for answer in answers:
        if answer.suite == TARGET and answer.policy == policy:
            found[answer.task, answer.seed].append(answer)
    return found


def gain(samples: Mapping[str, Mapping[tuple[str, int], Sequence[ItemResult]]], k: int) -> Column:
    """Candidate less champion in pass@k, a number for each unit."""
    items = [(old, samples[CANDIDATE][item]) for item, old in samples[CHAMPION].items()]
    rates = [[pass_at_k(sum(each.ok for each in of), len(of), k) for of in both] for both in items]
    return by_unit([unit_of(old[0]) for old, _ in items], [new - old for old, new in rates])
