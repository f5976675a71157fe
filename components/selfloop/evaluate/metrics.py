"""What results come to: pass@k, majority votes, accuracy by level."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from statistics import fmean

from selfloop.decision import CONFIRM, TARGET
from selfloop.records import ItemResult

LEVEL_SUITES = (TARGET, CONFIRM, "old", "measure")
"""The suites whose items are drawn as a level is; what an environment declares beside them is harder or otherwise."""


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """How likely one of ``k`` samples is right, from ``samples`` of which ``correct`` are: the unbiased estimator
    1 - C(n - c, k) / C(n, k) (Chen et al., arXiv:2107.03374, eq. 1). Raises ``ValueError`` where ``k`` is not in
    1..``samples``, or ``correct`` not in 0..``samples``.
    """
    if not (1 <= k <= samples and 0 <= correct <= samples):
        raise ValueError(f"pass@{k} cannot be told from {samples} samples with {correct} right.")
    if samples - correct < k:  # no choice without a right one; the product would overflow
        return 1.0
    return 1 - math.prod(1 - k / number for number in range(samples - correct + 1, samples + 1))


def maj_at_k(said: Sequence[str], ok: Sequence[bool]) -> float:
    """Whether the answer that occurs most often is right: 1 or 0, or the mean of several that occur equally often.

    Raises ``ValueError`` without answers, or where their number is not that of ``ok``.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for answer, good in zip(said, ok, strict=True):
        right[answer].append(good)
    most = max(map(len, right.values()))
    return fmean(fmean(votes) for votes in right.values() if len(votes) == most)


def flips(said: Sequence[str]) -> float:
    """How likely two of the answers to one question say different things: 1 - sum n (n - 1) / N (N - 1) over answers
    that occur n times, the unbiased estimate. A policy that holds to what it says has 0 (after Kale and Nadadur, "Line
    of Duty", arXiv:2503.11256, who ask whether models hold to what they said they could do). Raises ``ValueError`` for
    fewer than two answers.
    """
    number = len(said)
    if number < 2:
        raise ValueError(f"Whether answers differ cannot be told from {number}.")
    return 1 - sum(count * (count - 1) for count in Counter(said).values()) / (number * (number - 1))


def accuracy_by_level(
    results: Iterable[ItemResult], suites: Container[str] = LEVEL_SUITES
) -> dict[str, dict[int, float]]:
    """Mean correctness per policy and level, of the suites whose items are a level's ordinary ones, or of others."""
    seen: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for item in results:
        if item.suite in suites:
            seen[item.policy][item.level].append(item.ok)
    return {
        policy: {level: sum(oks) / len(oks) for level, oks in sorted(levels.items())} for policy, levels in seen.items()
    }


def solved_levels(accuracy: Mapping[int, float], threshold: float, solved: int = 0) -> int:
    """The largest level up to which every level beyond those that are ``solved`` has at least this accuracy."""
    while accuracy.get(solved + 1, 0.0) >= threshold:
        solved += 1
    return solved
