"""The gate: whether a candidate was shown to be better than the champion, on the same items, and no worse elsewhere.

Items are the unit: both policies answer the same ones, and what is tested is the mean of the differences per item.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple, Self

from kfp.dsl import Artifact, Dataset
from pydantic import Field, model_validator

from selfloop.decision import ANCHOR, CHAMPION, CONFIRM, TARGET, Budget, Comparison, Decision, OfLevel, Outcome
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level, maj_at_k, pass_at_k
from selfloop.guards import ALPHA, Alarm, Evidence, Guard, refuse_twice, watch
from selfloop.guards.bounds import SOON
from selfloop.lookup import unknown
from selfloop.paired import (
    POLICIES,
    RESAMPLES,
    ROUNDING,
    Pairs,
    Samples,
    anchored,
    better,
    bounds,
    e_value,
    fewest,
    fewest_to_keep,
    paired,
)
from selfloop.promote.spending import Harmonic, Ledger, Looked, Spend
from selfloop.records import ItemResult, Task, rows
from selfloop.seeds import seed_of
from selfloop.stages import Params

GUARDS = ["distinct", "entropy", "coverage", "precision", "gap", "length", "forgetting", "contamination", "divergence"]
"""What is watched unless it is said otherwise: every guard that comes with selfloop."""

TOLERANCE = 0.05
"""What may be lost of a guard suite, as a share of its items, unless it is said otherwise."""
NEARLY = 0.9
"""The part of a second look's items that must be there: a low level may have fewer than are asked for."""

Requirement = Literal["better", "no-worse", "nothing"]


class Account(NamedTuple):
    """A loop's error budget and what became of it: how it is spent, ``alpha`` in all, the ledger so far, and the
    p-value up to which the first look passes.
    """

    spend: Spend
    alpha: float
    ledger: Ledger
    screen: float


def decide(
    results: Iterable[ItemResult],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
    tolerances: Mapping[str, float] | None = None,
    require: Requirement = "better",
    account: Account | None = None,
    resamples: int = RESAMPLES,
) -> Decision:
    """Promote when the candidate was shown to be better on the target and no worse on every guard suite.

    Better, with an ``account``: a first look, the suite ``target``, passes with a p-value up to its ``screen``; then
    the second look, the suite ``confirm``, must come to the level that the account gives it, and spends it where it
    does not. Where the results have no second look, the target is that look. Without an account the target is tested
    once, at 1 - ``confidence``. One sample an item and no margin are tested by McNemar's exact test, all else by the
    bootstrap (see ``paired.better``).

    No worse: the lower bound of the suite must come to -``tolerance``, or to -``tolerances[suite]``, and no level of it
    may be shown to have lost more than that: the upper bound of a level must come to it, too. Where the anchor answered
    a suite, the candidate is held against the anchor, else against the champion. ``require="no-worse"`` asks
    that of the target as well, which may then have a tolerance by name, too; ``require="nothing"`` promotes whatever
    the numbers say, which are those of a single test.

    The guard suites need no correction for their number: each must pass, so that more of them promote less.

    Raises ``UserError`` for a number out of its range, an empty target suite, and for suites in which the policies did
    not answer the same items equally often.
    """
    given = dict(tolerances or {})
    _check_numbers(margin, confidence, {"tolerance": tolerance} | given, require, resamples)
    results = list(results)
    suites, anchors = paired(results), anchored(results)
    looks = {} if require == "no-worse" else {name: suites.pop(name) for name in (TARGET, CONFIRM) if name in suites}
    for name in given:
        if name not in suites:
            raise unknown("suite with a tolerance", name, suites or {"none in these results"})
    compared: dict[str, Comparison] = {}
    budget = None
    if looks:
        used = account if require == "better" else None
        compared, budget = _looked(looks, used, margin, confidence, resamples)
    for suite in sorted(suites, key=lambda name: (name != TARGET, name)):
        bar, against = -given.get(suite, tolerance), ANCHOR if suite in anchors else CHAMPION
        pairs = anchors.get(suite, suites[suite])
        found = _compared(pairs, bar, confidence, resamples)
        levels = _of_levels(pairs, bar, confidence, resamples)
        passed = found.lower >= bar - ROUNDING and all(level.passed for level in levels.values())
        compared[suite] = found._replace(passed=passed, against=against, by_level=levels)
    failed = [suite for suite, comparison in compared.items() if not comparison.passed]
    better_shown = budget is None or budget.confirmed
    promoted = (not failed and better_shown) or require == "nothing"
    shown = list(compared) if promoted else failed[:1] or [name for name in (CONFIRM, TARGET) if name in compared][:1]
    said = [_in_words(suite, compared[suite]) for suite in shown]
    said.insert(len(compared.keys() & {TARGET, CONFIRM}) if promoted else 1, budget.says) if budget else None
    reason = "; ".join(said)
    if require == "nothing":
        reason = f"promoted without a test (require is 'nothing'): {reason}"
    return Decision(promoted, reason, compared, budget)


def _looked(
    looks: Mapping[str, Pairs], account: Account | None, margin: float, confidence: float, resamples: int
) -> tuple[dict[str, Comparison], Budget | None]:
    """The comparisons of the first look and, where it passed, of the second; and what the budget came to."""
    first, second = looks[TARGET], looks.get(CONFIRM)
    if account is None:
        return {TARGET: _tested(first, margin, 1 - confidence, confidence, resamples)}, None
    screened = _tested(first, margin, account.screen, confidence, resamples)
    compared = {TARGET: screened}
    if not screened.passed:
        return compared, _budget(account, account.ledger, screened=False)
    level = account.spend.level(account.ledger, account.alpha)
    if not level:
        return compared, _budget(account, account.ledger, screened=True)
    pairs, name = (first, TARGET) if second is None else (second, CONFIRM)
    found = _tested(pairs, margin, level, confidence, resamples)
    assert found.p_value is not None
    look = account.spend.look(
        account.ledger, account.alpha, Looked(found.p_value, lambda: e_value(pairs.differences, margin))
    )
    compared[name] = found._replace(passed=look.confirmed)
    return compared, _budget(account, look.after, True, look.confirmed, look.level)


def _budget(
    account: Account, after: Ledger, screened: bool, confirmed: bool = False, level: float | None = None
) -> Budget:
    return Budget(
        screened=screened,
        confirmed=confirmed,
        level=level,
        alpha=account.alpha,
        spent=after.spent,
        left=account.spend.left(after, account.alpha),
        next=account.spend.level(after, account.alpha),
        ledger=after._asdict(),
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


def _tested(pairs: Pairs, margin: float, level: float, confidence: float, resamples: int) -> Comparison:
    """A suite on which the candidate must be better by ``margin``, shown at a ``level``."""
    p_value, test = better(pairs, margin, resamples)
    found = _compared(pairs, margin, confidence, resamples)
    return found._replace(p_value=p_value, level=level, test=test, passed=p_value <= level + ROUNDING)


def _of_levels(pairs: Pairs, bar: float, confidence: float, resamples: int) -> dict[str, OfLevel]:
    """The levels of a guard suite, where it has several: one passes that is not shown to lie below the bar."""
    levels = pairs.by_level
    found = {}
    for level, of_it in levels.items() if len(levels) > 1 else ():
        lower, upper = bounds(of_it.differences, confidence, resamples)
        found[str(level)] = OfLevel(len(of_it.old), fmean(of_it.by_item), lower, upper, upper >= bar - ROUNDING)
    return found


def _compared(pairs: Pairs, bar: float, confidence: float, resamples: int) -> Comparison:
    """The numbers of a suite; whether it passed is for its test to say."""
    lower, upper = bounds(pairs.differences, confidence, resamples)
    by_seed = defaultdict(list)
    for item, difference in zip(pairs.old, pairs.by_item, strict=True):
        by_seed[item[0].seed].append(difference)
    return Comparison(
        items=len(pairs.old),
        units=len(pairs.differences),
        samples=pairs.samples,
        champion=_scores(pairs.old),
        candidate=_scores(pairs.new),
        gain=fmean(pairs.by_item),
        lower=lower,
        upper=upper,
        p_value=None,
        level=None,
        test="bootstrap",
        bar=bar,
        passed=False,
        by_seed={str(seed): fmean(by_seed[seed]) for seed in sorted(by_seed)},
        against=CHAMPION,
        by_level={},
    )


def _scores(items: Sequence[Samples]) -> dict[str, float]:
    samples, scores, k = len(items[0]), dict[str, float](), 1
    while k <= samples:
        scores[f"pass@{k}"] = fmean(pass_at_k(sum(sample.ok for sample in item), samples, k) for item in items)
        k *= 2
    if samples > 1:
        scores[f"maj@{samples}"] = fmean(
            maj_at_k([each.completion if each.said is None else each.said for each in item], [each.ok for each in item])
            for item in items
        )
    return scores


def _in_words(suite: str, found: Comparison) -> str:
    moved = f"{suite} {found.gain:+z.3f} [{found.lower:+z.3f}, {found.upper:+z.3f}]"
    items = f"{found.items:,} item{'s' * (found.items != 1)}"
    if found.units < found.items:
        items += f" in {found.units:,} clusters"
    if found.p_value is not None and found.level is not None:
        p = f"p = {found.p_value:.2g}" if found.p_value >= 0.0001 else "p < 0.0001"
        by = "McNemar" if found.test == "mcnemar" else "bootstrap"
        more = f" by more than {found.bar:g}" if found.bar else ""
        verdict = "" if found.passed else f", not shown to be better{more} at p ≤ {found.level:.2g}"
        return f"{moved}, {p} ({by}, {items}){verdict}"
    moved += " from the anchor" if found.against == ANCHOR else ""
    lost = [level for level, of_it in found.by_level.items() if not of_it.passed]
    if lost:
        worst = found.by_level[lost[0]]
        return f"{moved}, level {lost[0]} {worst.gain:+z.3f} is shown to be below {found.bar:+zg} (bootstrap, {items})"
    verdict = "shown to be at least" if found.passed else "not shown to be at least"
    return f"{moved}, {verdict} {found.bar:+zg} (bootstrap, {items})"


class GateParams(Params):
    """What a candidate must show, and what is watched."""

    inherits = frozenset({"seed", "round"})

    require: Requirement = Field(
        "better", description="'better' than the champion, 'no-worse', or 'nothing', as the published loops do."
    )
    margin: float = Field(0.0, ge=-1, le=1, description="How much better the candidate must be on the target suite.")
    screen: float = Field(0.2, gt=0, le=1, description="P-value of the first look up to which a second follows.")
    confirm: int = Field(4, ge=1, description="How many times as many items, all of them fresh, the second look has.")
    loop_alpha: float = Field(
        0.05, gt=0, lt=1, description="How likely the loop may ever, in all its rounds, confirm what is not better."
    )
    spend: Spend = Field(Harmonic(), description="How that budget is parted among the looks that confirm.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="How sure the bounds are, for each suite by itself.")
    tolerance: float = Field(
        TOLERANCE,
        ge=0,
        le=1,
        description="How much worse than the anchor it may be on every other suite, over all rounds.",
    )
    tolerances: dict[str, float] = Field({}, description="The same for suites by name.")
    guards: list[Guard] = Field(
        default_factory=lambda: [Guard.parse(name) for name in GUARDS],
        description="What is watched, such as +length,warn=2,halt=3+own.py:guard.",
    )
    guard_alpha: float = Field(
        ALPHA, gt=0, lt=1, description="How likely all guards together may ever halt a healthy loop, in all its rounds."
    )
    audited: int = Field(2000, ge=1, description="Verdicts in the sealed sample that is held against the truth.")
    seed: int = Field(0, ge=0, description="Seed of the sealed sample.")
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        tolerances = {"tolerance": self.tolerance} | self.tolerances
        _check_numbers(self.margin, self.confidence, tolerances, self.require, RESAMPLES)
        refuse_twice(self.guards)
        for guard in self.guards:
            needed = guard.fewest(self.alpha_each)
            if guard.units == "audited" and self.audited < needed < math.inf:
                raise UserError(
                    f"audited is {self.audited}, too few for the guard '{guard.label()}' to halt within {SOON} rounds "
                    f"a loop that is half as bad as can be: {needed:.0f} would do."
                )
        return self

    @property
    def alpha_each(self) -> float:
        """How likely each of the guards may ever halt a healthy loop."""
        return self.guard_alpha / max(len(self.guards), 1)

    @property
    def looks(self) -> dict[str, Any]:
        """What stages must know of the two looks: how many times as many items the second has, and when it comes."""
        screen = {"better": self.screen, "no-worse": 1.0, "nothing": 0.0}[self.require]
        return {"confirm": self.confirm * (self.require == "better"), "screen": screen, "margin": self.margin}


def judge(
    params: GateParams,
    evidence: Mapping[str, Dataset],
    candidate: Artifact,
    past: Sequence[Mapping[str, Any]],
    ledger: Ledger = Ledger(),
) -> dict[str, Any]:
    """The decision about a round's candidate: was it shown to be better and no worse elsewhere, and is any guard
    tripped? ``evidence`` holds the round's tables by name, as many as there are; ``past`` are the rounds before, and
    ``ledger`` is what the loop's error budget has come to.
    """
    watched = Evidence(
        {name: table.path for name, table in evidence.items()},
        candidate=candidate.metadata,
        past=past,
        audited=params.audited,
        seed=seed_of(params.seed, params.round, "audit"),
        alpha=params.alpha_each,
    )
    answered = watched.answers if "results" in evidence else []
    decided = _decided(params, answered, ledger) if "results" in evidence else UNTESTED
    alarms = watch(watched, params.guards)
    verdict, reason = heeded(decided, alarms)
    return {
        "promoted": verdict == "promoted",
        "verdict": verdict,
        "reason": reason,
        "confidence": params.confidence,
        "suites": {suite: _as_json(compared) for suite, compared in decided.suites.items()},
        "budget": decided.budget._asdict() if decided.budget else {},
        "guards": {name: alarm._asdict() for name, alarm in alarms.items()},
        "accuracy": {policy: {} for policy in POLICIES} | accuracy_by_level(answered),
        "audit": evidence["audit"].metadata["audit"] if "audit" in evidence else {},
    }


def _as_json(compared: Comparison) -> dict[str, Any]:
    return compared._asdict() | {"by_level": {level: each._asdict() for level, each in compared.by_level.items()}}


def check_items(params: GateParams, items: Iterable[Task] | None) -> None:
    """Raise ``UserError`` where the items of a round cannot show what the gate asks, with the number that would do.

    Where no items are known, nothing is.
    """
    if items is None:
        return
    items = list(items)
    if TARGET not in {item.suite for item in items}:
        raise UserError(
            "The environment holds out no problem of the target's levels: give it more of these levels, or choose "
            "others."
        )
    if params.require == "nothing":
        return
    number: Counter[str] = Counter()
    units: dict[str, set[str]] = defaultdict(set)
    for item in items:
        number[item.suite] += 1
        units[item.suite].add(item.cluster or item.id)
    if params.require == "better":
        _check_looks(params, number, len(units[CONFIRM]))
    for suite in units.keys() - {CONFIRM, *([TARGET] if params.require == "better" else [])}:
        tolerance, there = params.tolerances.get(suite, params.tolerance), len(units[suite])
        needed = fewest_to_keep(tolerance, params.confidence)
        if there < needed:
            least = math.ceil(1000 * (1 - (1 - params.confidence) ** (1 / there))) / 1000
            raise UserError(
                f"The suite '{suite}' has {there} items, which cannot show that at most {tolerance:g} are lost, as "
                f"gate.tolerance asks at confidence {params.confidence:g}: {needed} items would do, or a tolerance of "
                f"{least:g}."
            )


def unseen(params: GateParams, items: Iterable[Task]) -> list[str]:
    """What guards cannot see of a loop with these items a round, a sentence each."""
    units: dict[str, set[str]] = defaultdict(set)
    for item in items:
        units[item.suite].add(item.cluster or item.id)
    said = []
    for guard in params.guards:
        needed, there = guard.fewest(params.alpha_each), len(units[guard.units])
        if guard.units and 0 < there < needed:
            enough = f"{needed:.0f} would do" if needed < math.inf else "no number would do"
            said.append(
                f"The suite '{guard.units}' has {there} items, too few for the guard '{guard.label()}' to halt within "
                f"{SOON} rounds a loop that is half as bad as can be: {enough}."
            )
    return said


def _check_looks(params: GateParams, number: Mapping[str, int], units: int) -> None:
    wanted, there = params.confirm * number[TARGET], number[CONFIRM]
    if there < NEARLY * wanted:
        most = there // number[TARGET]
        remedy = f"{f'set gate.confirm to {most}, or' if most else 'set'} items_per_level so that the suite has at most"
        raise UserError(
            f"The environment has {there} items for a second look at the target suite, and gate.confirm asks for "
            f"{params.confirm} times its {number[TARGET]}: {remedy} {there // params.confirm}; with "
            f"{wanted / max(there, 1):.2g} times as many problems of these levels it would do as it is."
        )
    level = params.spend.level(Ledger(), params.loop_alpha)
    if not level:
        raise UserError(f"gate.spend={params.spend} gives the first look nothing of the budget: choose another.")
    needed = fewest(level, params.margin)
    if units < needed < math.inf:
        raise UserError(
            f"The second look has {units} items, which cannot come to the level {level:.2g} that gate.loop_alpha and "
            f"gate.spend give it, even if all are won: {needed} would do; raise items_per_level, or gate.confirm."
        )


def gain_of(params: GateParams, results: Dataset | None) -> float | None:
    """What a candidate gained on the target suite; none of a role that nothing is measured of."""
    return _decided(params, list(rows(results.path, ItemResult))).suites[TARGET].gain if results else None


UNTESTED = Decision(True, "promoted without a test: this loop has no suite to judge its role by", {})
"""Of a role that nothing is measured of."""


def _decided(params: GateParams, answered: Sequence[ItemResult], ledger: Ledger = Ledger()) -> Decision:
    return decide(
        answered,
        account=Account(params.spend, params.loop_alpha, ledger, params.screen),
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
