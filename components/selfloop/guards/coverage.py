"""``coverage``: does the candidate solve fewer items in k samples while it solves more in one?

Pass@k of the candidate minus the champion's on the target suite, where pass@1 rose; k is the number of samples of an
item (Yue et al., arXiv:2504.13837: training on own successes sharpens what the policy could do, and narrows it).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import TYPE_CHECKING

from selfloop.evaluate import pass_at_k
from selfloop.guards import Evidence, Guard, Reading

if TYPE_CHECKING:
    from selfloop.records import ItemResult


class Coverage(Guard, warn=-0.05, halt=-0.15):
    """Pass@k while pass@1 rises."""

    name = "coverage"
    bad = "low"
    look = "the accuracy by level of this round: which levels did only the champion solve in several attempts?"

    def __call__(self, evidence: Evidence) -> Reading:
        """The gain in pass@k of a candidate whose pass@1 rose."""
        samples = {policy: target_samples(evidence.answers, policy) for policy in ("champion", "candidate")}
        k = min((len(oks) for each in samples.values() for oks in each), default=0)
        if k < 2:
            return Reading(None, "an item of the target suite has one sample")
        at_1, at_k = (
            {policy: fmean(pass_at_k(sum(oks), len(oks), j) for oks in each) for policy, each in samples.items()}
            for j in (1, k)
        )
        if at_1["candidate"] <= at_1["champion"]:
            return Reading(None, "pass@1 did not rise")
        value = at_k["candidate"] - at_k["champion"]
        rose = at_1["candidate"] - at_1["champion"]
        return Reading(value, f"pass@{k} moved by {value:+.3f} while pass@1 rose by {rose:.3f}")


def target_samples(answers: Iterable[ItemResult], policy: str) -> list[list[bool]]:
    """The samples of each item of the target suite: right or wrong."""
    found: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.suite == "target" and answer.policy == policy:
            found[answer.task, answer.seed].append(answer.ok)
    return list(found.values())
