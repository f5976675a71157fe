"""The gate: whether a candidate was shown to be better than the champion, on the same items, and no worse elsewhere.

Items are the unit: both policies answer the same ones, and what is tested is the mean of the differences per item.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, Self

from kfp.dsl import Artifact, Dataset
from pydantic import Field, model_validator

from selfloop.decision import TARGET, Comparison, Decision, Outcome
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level, maj_at_k, pass_at_k
from selfloop.guards import Alarm, Evidence, Guard, refuse_twice, watch
from selfloop.lookup import unknown
from selfloop.records import ItemResult, rows
from selfloop.seeds import seed_of
from selfloop.stage import Params

POLICIES = ("champion", "candidate")
ROUNDING = 1e-9
"""What floats may be off by: 1 - 0.97 is more than 0.03 in them."""
RESAMPLES = 99_999

GUARDS = ["distinct", "entropy", "coverage", "precision", "gap", "length", "forgetting", "contamination", "divergence"]
"""What is watched unless it is said otherwise: every guard that comes with selfloop."""

Requirement = Literal["better", "no-worse", "nothing"]


def decide(
    results: Iterable[ItemResult],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    tolerance: float = 0.03,
    tolerances: Mapping[str, float] | None = None,
    require: Requirement = "better",
    resamples: int = RESAMPLES,
) -> Decision:
    """Promote when the candidate was shown to be better on the suite ``target`` and no worse on every other suite.

    Better: one sample an item and no margin are tested by McNemar's exact test, p at most 1 - ``confidence``; else the
    lower bound of the gain (see ``bounds``) must come to ``margin``. No worse: the lower bound must come to
    -``tolerance``, or to -``tolerances[suite]``. ``require="no-worse"`` asks that of the target as well, which may then
    have a tolerance by name, too; ``require="nothing"`` promotes whatever the numbers say, which are those of "better".

    The guard suites need no correction for their number: each must pass, so that more of them promote less.

    Raises ``UserError`` for a number out of its range, an empty target suite, and for suites in which the policies did
    not answer the same items equally often.
    """
    given = dict(tolerances or {})
    _check_numbers(margin, confidence, {"tolerance": tolerance} | given, require, resamples)
    suites = _answered(results)
    held_to_a_tolerance = suites.keys() - (set() if require == "no-worse" else {TARGET})
    for name in given:
        if name not in held_to_a_tolerance:
            raise unknown("suite with a tolerance", name, held_to_a_tolerance or {"none in these results"})
    compared = {}
    for suite in sorted(suites, key=lambda name: (name != TARGET, name)):
        bar = -given.get(suite, tolerance) if suite in held_to_a_tolerance else margin
        exact = suite not in held_to_a_tolerance and not margin
        compared[suite] = _compare(suites[suite], bar, confidence, resamples, exact)
    failed = [suite for suite, comparison in compared.items() if not comparison.passed]
    promoted = not failed or require == "nothing"
    shown = list(compared) if promoted else failed[:1]
    reason = "; ".join(_in_words(suite, compared[suite], confidence) for suite in shown)
    if require == "nothing":
        reason = f"promoted without a test (require is 'nothing'): {reason}"
    return Decision(promoted, reason, compared)


def mcnemar(won: int, lost: int) -> float:
    """The one-sided p-value of McNemar's exact test, from the items that only the candidate and only the champion
    solved (McNemar 1947, doi:10.1007/BF02295996): how likely so many of them are won where both are as good.
    """
    from scipy import stats

    return float(stats.binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0


def bounds(differences: Sequence[float], confidence: float, resamples: int = RESAMPLES) -> tuple[float, float]:
    """One-sided lower and upper bounds of the mean of differences in [-1, 1], each at ``confidence``.

    A Bayesian bootstrap over the items (Rubin 1981, doi:10.1214/aos/1176345338): instead of being drawn 0, 1, 2, ...
    times, an item has a random weight, and all weights together are Dirichlet. For the lower bound one more item is
    imagined that the candidate lost, for the upper bound one that it won, so that a suite without any difference does
    not look certain: with no item of 10 lost the bound is -0.26, and from 99 items on it is above -0.03. That is
    Gaffke's bound for the mean of a bounded variable, valid for every distribution as far as is known (Learned-Miller
    and Thomas, arXiv:1905.06208). Where an item has one sample, the lower bound is above 0 where McNemar's exact p is
    below 1 - ``confidence``, and where no item was won it is Clopper and Pearson's.

    ``scipy.stats.bootstrap`` with one imagined item won and one lost lets 13.5 % instead of 5 % of suites of 70 items
    pass that truly fell by the tolerance (percentile; BCa 12.9 %).

    The same differences give the same bounds: the random numbers have a seed of their own. With 99,999 of them a bound
    at 0.95 was in truth one at 0.9499 to 0.9507, with 9,999 one at 0.9485 to 0.9528.
    """
    import numpy as np
    from scipy import stats

    # Items of equal difference share one weight: the sum of their weights is Dirichlet as well.
    shares = sorted(Counter(round(difference, 12) for difference in differences).items())
    weights = stats.dirichlet.rvs([float(n) for _, n in shares], size=resamples, random_state=np.random.default_rng(0))
    # The imagined item's weight is independent of theirs among one another, so its quantiles can stand for draws.
    imagined = stats.beta.ppf((np.arange(resamples) + 0.5) / resamples, 1, len(differences))
    means = (1 - imagined) * (weights @ np.array([difference for difference, _ in shares]))
    lower, upper = np.quantile(means - imagined, 1 - confidence), np.quantile(means + imagined, confidence)
    return float(lower), float(upper)


Answers = dict[str, dict[str, dict[int, ItemResult]]]
"""The samples of one suite: by policy, then by item, then by number."""


def _answered(results: Iterable[ItemResult]) -> dict[str, Answers]:
    suites: dict[str, Answers] = {}
    for item in results:
        if item.policy not in POLICIES:
            raise UserError(f"The results name the policy '{item.policy}': name it champion or candidate.")
        answers = suites.setdefault(item.suite, {policy: {} for policy in POLICIES})
        samples = answers[item.policy].setdefault(item.task, {})
        if item.attempt in samples:
            raise UserError(
                f"Sample {item.attempt} of item '{item.task}' of the suite '{item.suite}' stands twice among the "
                f"{item.policy}'s: number the samples of an item, and name each item once."
            )
        samples[item.attempt] = item
    if TARGET not in suites:
        raise UserError("The target suite is empty: have both policies answer at least one item of it.")
    for suite, answers in suites.items():
        _check_same_items(suite, answers)
    return suites


def _check_same_items(suite: str, answers: Answers) -> None:
    champion, candidate = (answers[policy] for policy in POLICIES)
    samples = 0
    for task in champion | candidate:
        found = len(champion.get(task, ())), len(candidate.get(task, ()))
        samples = samples or max(found)
        if found != (samples, samples):
            raise UserError(
                f"Item '{task}' of the suite '{suite}' has {found[0]} samples of the champion's and {found[1]} of the "
                f"candidate's, not {samples} of each: evaluate both on the same items."
            )


def _check_numbers(
    margin: float, confidence: float, tolerances: Mapping[str, float], require: Requirement, resamples: int
) -> None:
    if not -1 <= margin <= 1:
        raise UserError(f"margin is {margin}: give a share of the items from -1 to 1, such as 0.01.")
    if not 0.5 <= confidence < 1:
        raise UserError(f"confidence is {confidence}: give a number from 0.5 to below 1, such as 0.95.")
    for name, tolerance in tolerances.items():
        what = name if name == "tolerance" else f"The tolerance of the suite '{name}'"
        if not 0 <= tolerance <= 1:
            raise UserError(f"{what} is {tolerance}: give a share of the items from 0 to 1, such as 0.03.")
    if require == "no-worse" and margin:
        raise UserError(f"margin is {margin}, but require is 'no-worse': leave margin at 0 and set tolerance instead.")
    needed = math.ceil((1 - ROUNDING) / (1 - confidence))
    if resamples < needed:
        raise UserError(
            f"A confidence of {confidence} needs {needed} resamples, and there are {resamples}: lower the confidence, "
            "or take more where decide() is called."
        )


def _compare(answers: Answers, bar: float, confidence: float, resamples: int, exact: bool) -> Comparison:
    champion, candidate = (
        [list(answers[policy][task].values()) for task in answers[POLICIES[0]]] for policy in POLICIES
    )
    samples = len(champion[0])
    differences = [_accuracy(new) - _accuracy(old) for old, new in zip(champion, candidate, strict=True)]
    lower, upper = bounds(differences, confidence, resamples)
    p_value = None
    if exact and samples == 1:
        p_value = mcnemar(differences.count(1.0), differences.count(-1.0))
        passed = p_value <= 1 - confidence + ROUNDING
    else:
        passed = lower >= bar - ROUNDING
    by_seed = defaultdict(list)
    for of_item, difference in zip(champion, differences, strict=True):
        by_seed[of_item[0].seed].append(difference)
    return Comparison(
        items=len(champion),
        samples=samples,
        champion=_scores(champion),
        candidate=_scores(candidate),
        gain=fmean(differences),
        lower=lower,
        upper=upper,
        p_value=p_value,
        test="bootstrap" if p_value is None else "mcnemar",
        bar=bar,
        passed=passed,
        by_seed={str(seed): fmean(by_seed[seed]) for seed in sorted(by_seed)},
    )


def _accuracy(samples: Sequence[ItemResult]) -> float:
    return sum(sample.ok for sample in samples) / len(samples)


def _scores(items: Sequence[Sequence[ItemResult]]) -> dict[str, float]:
    samples, scores, k = len(items[0]), dict[str, float](), 1
    while k <= samples:
        scores[f"pass@{k}"] = fmean(pass_at_k(sum(sample.ok for sample in item), samples, k) for item in items)
        k *= 2
    if samples > 1:
        scores[f"maj@{samples}"] = fmean(
            maj_at_k([sample.completion for sample in item], [sample.ok for sample in item]) for item in items
        )
    return scores


def _in_words(suite: str, found: Comparison, confidence: float) -> str:
    moved = f"{suite} {found.gain:+z.3f} [{found.lower:+z.3f}, {found.upper:+z.3f}]"
    items = f"{found.items} item{'s' * (found.items != 1)}"
    if found.p_value is not None:
        p = f"p = {found.p_value:.2g}" if found.p_value >= 0.0001 else "p < 0.0001"
        verdict = "" if found.passed else f", not shown to be better at confidence {confidence:g}"
        return f"{moved}, {p} (McNemar, {items}){verdict}"
    verdict = "shown to be at least" if found.passed else "not shown to be at least"
    return f"{moved}, {verdict} {found.bar:+zg} (bootstrap, {items})"


class GateParams(Params):
    """What a candidate must show, and what is watched."""

    inherits = frozenset({"seed", "round"})

    require: Requirement = Field(
        "better", description="'better' than the champion, 'no-worse', or 'nothing', as the published loops do."
    )
    margin: float = Field(0.0, ge=-1, le=1, description="How much better the candidate must be on the target suite.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="How sure that must be, for each suite by itself.")
    tolerance: float = Field(0.03, ge=0, le=1, description="How much worse it may be on every other suite.")
    tolerances: dict[str, float] = Field({}, description="The same for suites by name.")
    guards: list[Guard] = Field(
        default_factory=lambda: [Guard.parse(name) for name in GUARDS],
        description="What is watched, such as +length,warn=2,halt=3+own.py:guard.",
    )
    audited: int = Field(2000, ge=1, description="Verdicts in the sealed sample that is held against the truth.")
    seed: int = Field(0, ge=0, description="Seed of the sealed sample.")
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        tolerances = {"tolerance": self.tolerance} | self.tolerances
        _check_numbers(self.margin, self.confidence, tolerances, self.require, RESAMPLES)
        refuse_twice(self.guards)
        return self


def judge(
    params: GateParams,
    evidence: Mapping[str, Dataset],
    candidate: Artifact,
    past: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The decision about a round's candidate: was it shown to be better and no worse elsewhere, and is any guard
    tripped? ``evidence`` holds the round's tables by name, as many as there are; ``past`` are the rounds before.
    """
    watched = Evidence(
        {name: table.path for name, table in evidence.items()},
        candidate=candidate.metadata,
        past=past,
        audited=params.audited,
        seed=seed_of(params.seed, params.round, "audit"),
    )
    answered = watched.answers if "results" in evidence else []
    decided = _decided(params, answered) if "results" in evidence else UNTESTED
    alarms = watch(watched, params.guards)
    verdict, reason = heeded(decided, alarms)
    return {
        "promoted": verdict == "promoted",
        "verdict": verdict,
        "reason": reason,
        "confidence": params.confidence,
        "suites": {suite: compared._asdict() for suite, compared in decided.suites.items()},
        "guards": {name: alarm._asdict() for name, alarm in alarms.items()},
        "accuracy": {policy: {} for policy in POLICIES} | accuracy_by_level(answered),
        "audit": evidence["audit"].metadata["audit"] if "audit" in evidence else {},
    }


def gain_of(params: GateParams, results: Dataset | None) -> float | None:
    """What a candidate gained on the target suite; none of a role that nothing is measured of."""
    return _decided(params, list(rows(results.path, ItemResult))).suites[TARGET].gain if results else None


UNTESTED = Decision(True, "promoted without a test: this loop has no suite to judge its role by", {})
"""Of a role that nothing is measured of."""


def _decided(params: GateParams, answered: Sequence[ItemResult]) -> Decision:
    return decide(
        answered,
        margin=params.margin,
        confidence=params.confidence,
        tolerance=params.tolerance,
        tolerances=params.tolerances,
        require=params.require,
    )


def heeded(decided: Decision, alarms: Mapping[str, Alarm]) -> tuple[Outcome, str]:
    """The gate's verdict and its reason once the guards were heard.

    Red halts the loop, whatever the candidate showed; yellow leaves a candidate that passed to a person's approval.
    """
    by_level = {level: [name for name, alarm in alarms.items() if alarm.level == level] for level in ("red", "yellow")}
    if by_level["red"]:
        name = by_level["red"][0]
        return "halted", f"guard '{name}' halted the loop: {alarms[name].says}; look at {alarms[name].look}"
    if decided.promoted and by_level["yellow"]:
        name = by_level["yellow"][0]
        return "pending", f"waits for approval, guard '{name}' warns: {alarms[name].says}; {decided.reason}"
    return "promoted" if decided.promoted else "rejected", decided.reason
