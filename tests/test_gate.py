import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from selfloop.decision import Budget, Comparison
from selfloop.errors import UserError
from selfloop.paired import bounds, fewest, fewest_to_keep, mcnemar
from selfloop.promote.gate import Account, GateParams, check_items, decide, unseen
from selfloop.promote.spending import Ledger, Spend
from selfloop.records import ItemResult, Task

Samples = Sequence[bool]
Items = Sequence[tuple[Samples, Samples]]
"""The champion's and the candidate's samples, by item."""

POLICIES = ("champion", "candidate")


def answered(suites: Mapping[str, Items], seeds: int = 1) -> list[ItemResult]:
    """Results of both policies, by suite."""
    return [
        ItemResult(policy, suite, 1, f"{suite}-{number}", attempt, ok, "right" if ok else "wrong", number % seeds)
        for suite, items in suites.items()
        for side, policy in enumerate(POLICIES)
        for number, item in enumerate(items)
        for attempt, ok in enumerate(item[side])
    ]


def counted(won: int, lost: int, both: int = 0, neither: int = 0) -> Items:
    """Items with one sample each, given how many only the candidate and only the champion solved."""
    kinds = (((False, True), won), ((True, False), lost), ((True, True), both), ((False, False), neither))
    return [([old], [new]) for (old, new), number in kinds for _ in range(number)]


def swapped(results: Sequence[ItemResult]) -> list[ItemResult]:
    return [item._replace(policy=POLICIES[item.policy == "champion"]) for item in results]


def items_of(samples: int, min_size: int = 1) -> st.SearchStrategy[Items]:
    oks = st.lists(st.booleans(), min_size=samples, max_size=samples)
    return st.lists(st.tuples(oks, oks), min_size=min_size, max_size=60)


both_ways = st.integers(1, 4).flatmap(items_of)
confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])
FEW: dict[str, Any] = {"resamples": 999}


# What it decides


@pytest.mark.parametrize(
    ("target", "old", "params", "promoted", "reason"),
    [
        (
            counted(30, 8, 400, 10),
            counted(1, 2, 253),
            {},
            True,
            "target +0.049 [+0.025, +0.074], p = 0.00024 (McNemar, 448 items); "
            "old -0.004 [-0.022, +0.013], shown to be at least -0.05 (bootstrap, 256 items)",
        ),
        (
            counted(12, 8, 70, 10),
            counted(0, 0, 256),
            {},
            False,
            "target +0.040 [-0.044, +0.124], p = 0.25 (McNemar, 100 items), not shown to be better at p ≤ 0.05",
        ),
        (
            counted(40, 0, 60),
            counted(0, 10, 90),
            {},
            False,
            "old -0.100 [-0.164, -0.041], not shown to be at least -0.05 (bootstrap, 100 items)",
        ),
        (
            counted(40, 0, 60),
            counted(0, 0, 1),
            {},
            False,
            "old +0.000 [-0.950, +0.950], not shown to be at least -0.05 (bootstrap, 1 item)",
        ),
        (
            counted(8, 0, 92),
            counted(0, 0, 100),
            {"margin": 0.05},
            False,
            "target +0.080 [+0.026, +0.140], p = 0.26 (bootstrap, 100 items), not shown to be better by more than 0.05 "
            "at p ≤ 0.05",
        ),
        (
            counted(0, 40),
            counted(0, 100),
            {"require": "nothing"},
            True,
            "promoted without a test (require is 'nothing'): "
            "target -1.000 [-1.000, -0.856], p = 1 (McNemar, 40 items), not shown to be better at p ≤ 0.05; "
            "old -1.000 [-1.000, -0.941], not shown to be at least -0.05 (bootstrap, 100 items)",
        ),
    ],
)
def test_the_gate_decides_and_says_why(
    target: Items, old: Items, params: dict[str, Any], promoted: bool, reason: str
) -> None:
    decided = decide(answered({"old": old, "target": target}), **params)
    assert decided.reason == reason
    assert decided.promoted is promoted


def test_an_overwhelming_gain_is_said_without_zeros() -> None:
    assert "p < 0.0001 (McNemar, 100 items)" in decide(answered({"target": counted(50, 0, 50)})).reason


def test_the_numbers_of_a_suite_are_all_there() -> None:
    solved = [(o, n) for o, n in [(0, 2), (1, 3), (4, 4), (2, 1)] for _ in range(25)]
    items = [([i < o for i in range(4)], [i < n for i in range(4)]) for o, n in solved]
    found = decide(answered({"target": items}, seeds=2)).suites["target"]
    assert (found.items, found.samples, found.test, found.p_value) == (100, 4, "bootstrap", 2e-5)
    assert found.champion == pytest.approx({"pass@1": 7 / 16, "pass@2": 7 / 12, "pass@4": 3 / 4, "maj@4": 3 / 8})
    # majority: 0 of 4 wrong, 1 of 4 wrong, 4 of 4 right, 2 of 4 a tie
    assert found.candidate == pytest.approx(
        {"pass@1": 10 / 16, "pass@2": fmean([5 / 6, 1, 1, 1 / 2]), "pass@4": 1.0, "maj@4": fmean([1 / 2, 1, 1, 0])}
    )
    assert found.gain == pytest.approx(3 / 16)
    assert found.lower < found.gain < found.upper
    assert fmean(found.by_seed.values()) == pytest.approx(found.gain)
    assert list(found.by_seed) == ["0", "1"]


def test_gains_are_told_by_evaluation_seed() -> None:
    results = answered({"target": [*counted(1, 0), *counted(0, 1)] * 10}, seeds=2)
    assert decide(results).suites["target"].by_seed == {"0": 1.0, "1": -1.0}


def test_mcnemars_p_is_that_of_a_coin_thrown_for_every_item_that_differs() -> None:
    for won, lost in ((5, 0), (7, 2), (0, 0), (3, 9)):
        n = won + lost
        assert mcnemar(won, lost) == pytest.approx(sum(math.comb(n, k) for k in range(won, n + 1)) / 2**n)


@pytest.mark.parametrize(("items", "shown"), [(10, False), (98, False), (99, True), (100, True)])
def test_a_suite_without_any_difference_is_certain_from_99_items_on(items: int, shown: bool) -> None:
    decided = decide(answered({"target": counted(50, 0), "old": counted(0, 0, items)}), tolerance=0.03)
    assert decided.promoted is decided.suites["old"].passed is shown


@pytest.mark.parametrize(("lost", "items"), [(0, 30), (1, 30), (3, 300), (20, 200)])
def test_the_bound_of_losses_alone_is_clopper_and_pearsons(lost: int, items: int) -> None:
    lower, _ = bounds([-1.0] * lost + [0.0] * (items - lost), 0.95, 99_999)
    known = stats.binomtest(lost, items, alternative="less").proportion_ci(0.95).high
    assert lower == pytest.approx(-known, abs=1e-3)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
@settings(max_examples=40)
def test_bound_and_mcnemar_agree(won: int, lost: int, same: int) -> None:
    p = mcnemar(won, lost)
    lower, upper = bounds([1.0] * won + [-1.0] * lost + [0.0] * (same + 1), 0.95, 99_999)
    assert lower <= upper
    if abs(p - 0.05) > 0.005:  # the bound's random numbers are off by a hundredth of that or two
        assert (lower > 0) is (p < 0.05)


def test_one_sample_and_no_margin_are_tested_exactly_and_all_else_by_the_bootstrap() -> None:
    def tests(results: Sequence[ItemResult], **params: Any) -> dict[str, str]:
        return {suite: found.test for suite, found in decide(results, **params).suites.items()}

    once = answered({"target": counted(9, 1), "old": counted(1, 1)})
    twice = answered({"target": [([False, True], [True, True])] * 9, "old": counted(1, 1)})
    assert tests(once) == {"target": "mcnemar", "old": "bootstrap"}
    assert tests(once, require="nothing") == {"target": "mcnemar", "old": "bootstrap"}
    assert tests(once, margin=0.01) == tests(once, require="no-worse") == dict.fromkeys(("target", "old"), "bootstrap")
    assert tests(twice) == dict.fromkeys(("target", "old"), "bootstrap")


def test_suites_may_have_different_numbers_of_samples() -> None:
    twice = [([False, True], [True, True])] * 9
    suites = decide(answered({"target": twice, "old": counted(1, 1)})).suites
    assert [found.samples for found in suites.values()] == [2, 1]


@pytest.mark.parametrize(
    ("params", "promoted"),
    [
        ({}, False),
        ({"tolerance": 0.2}, True),
        ({"tolerances": {"old": 0.2}}, False),
        ({"tolerances": {"old": 0.2, "carries": 0.2}}, True),
        ({"tolerance": 0.2, "tolerances": {"carries": 0.05}}, False),
    ],
)
def test_a_guard_suite_may_have_a_tolerance_of_its_own(params: dict[str, Any], promoted: bool) -> None:
    fell = counted(0, 10, 90)
    assert decide(answered({"target": counted(50, 0), "old": fell, "carries": fell}), **params).promoted is promoted


def test_a_suite_that_is_named_first_in_the_reason_is_the_target() -> None:
    fell = counted(0, 50)
    decided = decide(answered({"b": fell, "a": fell, "target": counted(50, 0)}))
    assert list(decided.suites) == ["target", "a", "b"]
    assert decided.reason.startswith("a -1.000")


@pytest.mark.parametrize(
    ("target", "params", "promoted"),
    [
        (counted(0, 0, 100), {}, True),
        (counted(2, 2, 296), {}, True),
        (counted(0, 10, 90), {}, False),
        (counted(0, 10, 90), {"tolerances": {"target": 0.2}}, True),
        (counted(0, 0, 50), {}, False),
    ],
)
def test_no_worse_holds_the_target_to_a_tolerance(target: Items, params: dict[str, Any], promoted: bool) -> None:
    assert decide(answered({"target": target}), require="no-worse", **params).promoted is promoted


def test_without_guard_suites_the_target_decides() -> None:
    assert decide(answered({"target": counted(9, 0)})).promoted
    assert not decide(answered({"target": counted(4, 0)})).promoted


# Two looks, and one budget


def account(screen: float = 0.2, alpha: float = 0.05, spend: str = "harmonic", **ledger: Any) -> Account:
    return Account(Spend.parse(spend), alpha, Ledger(**ledger), screen)


LOOKS: dict[str, Items] = {"target": counted(12, 6, 82), "confirm": counted(48, 24, 328), "old": counted(0, 0, 120)}


def test_a_candidate_is_promoted_where_the_first_look_passes_and_the_second_confirms() -> None:
    decided = decide(answered(LOOKS), account=account())
    assert decided.promoted
    assert decided.reason == (
        "target +0.060 [-0.020, +0.140], p = 0.12 (McNemar, 100 items); "
        "confirm +0.060 [+0.023, +0.097], p = 0.0032 (McNemar, 400 items); "
        "of the error budget 0.05, 0 is spent and 0.05 left; "
        "old +0.000 [-0.025, +0.025], shown to be at least -0.05 (bootstrap, 120 items)"
    )
    assert decided.budget is not None
    assert decided.budget._replace(ledger={}) == Budget(True, True, 0.0125, 0.05, 0.0, 0.05, 0.0125, {})


def test_what_does_not_pass_the_first_look_spends_nothing() -> None:
    decided = decide(answered(LOOKS | {"target": counted(9, 9, 82)}), account=account(looks=3, spent=0.01))
    assert not decided.promoted
    assert list(decided.suites) == ["target", "old"], "the second look was not looked at"
    assert decided.reason.endswith("at p ≤ 0.2; of the error budget 0.05, 0.01 is spent and 0.04 left")
    assert decided.budget is not None
    assert decided.budget.ledger == {"looks": 3, "charged": 0, "confirmed": 0, "spent": 0.01}


def test_what_is_not_confirmed_has_spent_its_level() -> None:
    decided = decide(answered(LOOKS | {"confirm": counted(24, 24, 352)}), account=account())
    assert not decided.promoted
    assert decided.budget is not None
    assert (decided.budget.screened, decided.budget.confirmed) == (True, False)
    assert decided.budget.ledger == {"looks": 1, "charged": 1, "confirmed": 0, "spent": 0.025}
    assert "not shown to be better at p ≤ 0.013; of the error budget 0.05, 0.025 is spent and 0.025" in decided.reason


@pytest.mark.parametrize(
    ("spend", "ledger"), [("even,looks=2", {"looks": 2, "spent": 0.05}), ("betting", {"spent": 0.05})]
)
def test_where_the_budget_is_gone_nothing_is_confirmed_and_it_says_so(spend: str, ledger: dict[str, Any]) -> None:
    results = answered(LOOKS | {"target": counted(50, 0), "confirm": counted(200, 0)})
    decided = decide(results, account=account(spend=spend, **ledger))
    assert not decided.promoted
    assert decided.reason.endswith("0 left: no look can confirm any more, so nothing is promoted")
    assert decided.budget is not None
    assert decided.budget.next == 0


def test_a_confirmed_candidate_that_lost_old_skills_is_not_promoted_and_spends_nothing() -> None:
    decided = decide(answered(LOOKS | {"old": counted(0, 20, 100)}), account=account())
    assert not decided.promoted
    assert decided.reason.startswith("old -0.167")
    assert decided.budget is not None
    assert (decided.budget.confirmed, decided.budget.spent) == (True, 0.0)


def test_the_only_look_that_there_is_must_come_to_the_level() -> None:
    for won, promoted in ((6, False), (7, True)):
        decided = decide(answered({"target": counted(won, 0, 93)}), account=account())
        assert (decided.promoted, decided.suites["target"].level) == (promoted, 0.0125)


@pytest.mark.parametrize("require", ["nothing", "no-worse"])
def test_a_gate_that_asks_for_nothing_better_has_no_budget(require: Any) -> None:
    decided = decide(answered({"target": counted(9, 0, 200)}), require=require, account=account())
    assert decided.budget is None


def anchors(lost: int, items: int, levels: int = 1) -> list[ItemResult]:
    """A target that is won, and an old suite of which the candidate lost some to the anchor and none to the champion:
    those of level 1.
    """
    results = answered({"target": counted(50, 0), "old": counted(0, 0, items - lost, lost)})
    results += [item._replace(policy="anchor", ok=True) for item in results if item[:2] == ("champion", "old")]

    def level(item: ItemResult) -> int:
        return 1 + (items - 1 - int(item.task.split("-")[1])) // (items // levels) if item.suite == "old" else 1

    return [item._replace(level=level(item)) for item in results]


@pytest.mark.parametrize(("lost", "promoted"), [(2, True), (10, False)])
def test_old_skills_are_held_against_the_anchor(lost: int, promoted: bool) -> None:
    decided = decide(anchors(lost, 200), tolerance=0.05)
    assert decided.promoted is promoted
    found = decided.suites["old"]
    assert (found.against, found.by_level) == ("anchor", {})
    assert found.gain == pytest.approx(-lost / 200)
    assert f"old -{lost / 200:.3f} [" in decided.reason
    assert "from the anchor" in decided.reason
    assert decided.suites["target"].against == "champion"
    assert decide([each for each in anchors(lost, 200) if each.policy != "anchor"]).promoted, (
        "no worse than the champion"
    )


def test_a_level_that_is_shown_to_have_lost_more_than_the_tolerance_refuses_a_candidate() -> None:
    decided = decide(anchors(16, 1600, levels=20), tolerance=0.05)
    found = decided.suites["old"]
    assert found.lower > -0.05, "the suite as a whole lost little"
    assert [level for level, each in found.by_level.items() if not each.passed] == ["1"]
    assert found.by_level["1"].gain == pytest.approx(-0.2)
    assert not decided.promoted
    assert "level 1 -0.200 is shown to be below -0.05" in decided.reason


def test_an_anchor_that_answered_other_items_is_refused() -> None:
    few = [each for each in anchors(2, 100) if (each.policy, each.task) != ("anchor", "old-3")]
    with pytest.raises(UserError, match=r"'old-3' of the suite 'old' has 0 samples of the anchor's and 1 of"):
        decide(few)


def test_items_of_a_cluster_are_one_unit() -> None:
    results = [item._replace(cluster=item.task[-1]) for item in answered({"target": counted(60, 0)})]
    found = decide(results, account=account()).suites["target"]
    assert (found.items, found.units, found.test) == (60, 10, "bootstrap")
    assert found.p_value == pytest.approx(2**-10, abs=0.0003)
    assert decide(results, account=account(), require="nothing").reason.count("60 items in 10 clusters") == 1


@pytest.mark.parametrize(("right", "items"), [(20, 20), (45, 60), (0, 30)])
def test_the_bounds_of_a_share_are_clopper_and_pearsons(right: int, items: int) -> None:
    from scipy import stats

    found = bounds([1.0] * right + [0.0] * (items - right), 0.95, ends=(0.0, 1.0))
    exact = stats.binomtest(right, items).proportion_ci(confidence_level=0.9, method="exact")
    assert found == pytest.approx((exact.low, exact.high), abs=0.003)


# What holds for all results


@given(both_ways, confidences)
@settings(max_examples=60)
def test_swapping_the_policies_never_promotes_both(items: Items, confidence: float) -> None:
    results = answered({"target": items})
    ways = [decide(way, confidence=confidence, **FEW) for way in (results, swapped(results))]
    assert not all(decided.promoted for decided in ways)
    there, back = (decided.suites["target"] for decided in ways)
    assert there.gain == pytest.approx(-back.gain)
    assert (there.champion, there.candidate) == (back.candidate, back.champion)


@given(both_ways, st.data())
@settings(max_examples=60)
def test_a_sample_that_the_candidate_solves_after_all_never_lowers_the_gain(items: Items, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(items) - 1))
    champion, candidate = items[number]
    better = [*items[:number], (champion, [True] * len(candidate)), *items[number + 1 :]]
    more = [*items, ([False] * len(champion), [True] * len(candidate))]
    before, after, longer = (
        decide(answered({"target": some}), **FEW).suites["target"] for some in (items, better, more)
    )
    assert after.gain >= before.gain - 1e-12
    assert longer.gain >= before.gain - 1e-12
    if before.p_value is not None and after.p_value is not None:
        assert after.p_value <= before.p_value + 1e-12


@given(both_ways, confidences)
@settings(max_examples=60)
def test_identical_answers_are_never_better(items: Items, confidence: float) -> None:
    same = [(champion, champion) for champion, _ in items]
    decided = decide(answered({"target": same}), confidence=confidence, **FEW)
    assert not decided.promoted
    assert decided.suites["target"].gain == 0


@given(st.integers(1, 3).flatmap(items_of), st.integers(100, 120))
@settings(max_examples=30)
def test_identical_answers_pass_every_guard_suite_of_100_items(items: Items, size: int) -> None:
    same = [(items[number % len(items)][0],) * 2 for number in range(size)]
    assert decide(answered({"target": counted(9, 0), "old": same}), **FEW).promoted


@given(both_ways, both_ways)
@settings(max_examples=60)
def test_a_candidate_that_was_promoted_passed_everywhere(target: Items, old: Items) -> None:
    decided = decide(answered({"target": target, "old": old}), tolerance=0.2, **FEW)
    assert decided.promoted is all(found.passed for found in decided.suites.values())
    for found in decided.suites.values():
        assert -1 <= found.lower <= found.gain + 1e-9 <= found.upper + 2e-9 <= 1 + 3e-9
        assert list(found.champion) == list(found.candidate)
        rising = [value for name, value in found.champion.items() if name.startswith("pass")]
        assert all(less <= more + 1e-12 for less, more in pairwise(rising))
    assert "\n" not in decided.reason


@given(both_ways, st.randoms())
@settings(max_examples=30)
def test_the_order_of_the_results_does_not_count(items: Items, random: Any) -> None:
    results = answered({"target": items, "old": items}, seeds=3)
    shuffled = list(results)
    random.shuffle(shuffled)

    def rounded(found: Comparison) -> list[Any]:
        numbers = [found.gain, found.lower, found.upper, *found.champion.values(), *found.by_seed.values()]
        return [found.items, found.samples, found.test, found.passed, *(round(number, 9) for number in numbers)]

    some, other = decide(results, **FEW), decide(shuffled, **FEW)
    assert [rounded(found) for found in some.suites.values()] == [rounded(found) for found in other.suites.values()]


# What it refuses


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"margin": 1.5}, r"margin is 1.5: give a share of the items from -1 to 1, such as 0.01."),
        ({"margin": float("nan")}, r"margin is nan: give a share"),
        ({"confidence": 1.0}, r"confidence is 1.0: give a number from 0.5 to below 1, such as 0.95."),
        ({"confidence": 0.05}, r"confidence is 0.05: give a number"),
        ({"tolerance": -0.03}, r"tolerance is -0.03: give a share of the items from 0 to 1, such as 0.03."),
        ({"tolerances": {"old": 3}}, r"The tolerance of the suite 'old' is 3: give a share"),
        ({"tolerances": {"odl": 0.1}}, r"There is no suite with a tolerance 'odl': did you mean 'old'\?"),
        ({"tolerances": {"target": 0.1}}, r"There is no suite with a tolerance 'target': known are: old."),
        ({"tolerances": {"confirm": 0.1}}, r"There is no suite with a tolerance 'confirm': known are: old."),
        ({"resamples": 10}, r"A confidence of 0.95 needs 20 resamples, and there are 10: lower the confidence"),
        ({"confidence": 0.9999, "resamples": 9999}, r"A confidence of 0.9999 needs 10000 resamples"),
        ({"margin": 0.1, "require": "no-worse"}, r"leave margin at 0 and set tolerance instead"),
    ],
)
def test_a_number_out_of_its_range_is_refused_in_one_sentence(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decide(answered({"target": counted(9, 1), "old": counted(1, 1)}), **params)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_the_number_of_resamples_that_is_named_is_enough(confidence: float) -> None:
    results = answered({"target": counted(9, 1)})
    with pytest.raises(UserError, match="needs") as refused:
        decide(results, confidence=confidence, resamples=1)
    decide(results, confidence=confidence, resamples=int(str(refused.value).split("needs ")[1].split()[0]))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"guards": ["lenght"]}, "There is no guard 'lenght': did you mean 'length'?"),
        ({"guards": ["length", "length"]}, "Two guards are named 'length'"),
        ({"guards": ["nowhere:guard"]}, "No guard at 'nowhere:guard'"),
        ({"guards": "+lenght,warn=0.5"}, "There is no guard 'lenght': did you mean 'length'?"),
        ({"guards": "+precision,warn=0.5,halt=0.9"}, "would halt at 0.9 before it warns at 0.5"),
        ({"require": "no-worse", "margin": 0.1}, "leave margin at 0 and set tolerance instead"),
        ({"confidence": 0.999999}, "A confidence of 0.999999 needs 1000000 resamples, and there are 99999"),
        ({"tolerances": {"old": 3.0}}, "The tolerance of the suite 'old' is 3.0"),
        (
            {"audited": 5, "guards": "gap"},
            "audited is 5, too few for the guard 'gap' to halt within 5 rounds a loop that is half as bad as can be: ",
        ),
        ({"guard_alpha": 1e-60, "audited": 40}, "audited is 40, too few for the guard 'precision' to halt"),
        ({"spend": "harmonik"}, "There is no spending 'harmonik': did you mean 'harmonic'?"),
        ({"spend": "even,looks=0"}, "'looks' of the spending 'even' cannot be"),
    ],
)
def test_a_gate_that_could_not_decide_is_refused_when_it_is_set(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        GateParams(**params)
    assert sentence in str(refused.value)


def test_a_tolerance_where_there_is_no_guard_suite_is_refused() -> None:
    with pytest.raises(UserError, match=r"no suite with a tolerance 'old': known are: none in these results"):
        decide(answered({"target": counted(9, 1)}), tolerances={"old": 0.1})


ONE = answered({"target": counted(9, 1), "old": counted(1, 1)})


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], r"The target suite is empty: have both policies answer at least one item of it."),
        ([item for item in ONE if item.suite != "target"], r"The target suite is empty"),
        ([item for item in ONE if item.policy != "candidate"], r"Item 'target-0' of .* 0 of the candidate's, not 1 of"),
        (
            [item for item in ONE if (item.policy, item.suite) != ("champion", "old")],
            r"'old-0' of the suite 'old' has 0",
        ),
        ([item for item in ONE if (item.policy, item.task) != ("champion", "target-4")], r"Item 'target-4' .* has 0 s"),
        (
            [*ONE, ONE[0]._replace(task="target-x")],
            r"Item 'target-x' of the suite 'target' has 1 samples of the champion's and 0 of the candidate's, not 1 of "
            r"each: evaluate both on the same items.",
        ),
        (
            [*ONE, *(item._replace(attempt=1) for item in ONE if item.task == "target-1")],
            r"'target-1' .* not 1 of each",
        ),
        ([*ONE, ONE[0]], r"Sample 0 of item 'target-0' of the suite 'target' stands twice among the champion's"),
        ([*ONE, ONE[0]._replace(policy="judge")], r"The results name the policy 'judge': name it champion or candida"),
    ],
)
def test_results_that_cannot_be_compared_are_refused_naming_the_item(results: list[ItemResult], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decide(results)


def tasks(**suites: int) -> list[Task]:
    return [Task(f"{suite}-{n}", 1, suite, f"{n}", "") for suite, number in suites.items() for n in range(number)]


@pytest.mark.parametrize(
    ("params", "items", "sentence"),
    [
        (
            {},
            {"target": 100, "confirm": 250},
            "The environment has 250 items for a second look at the target suite, and gate.confirm asks for 4 times "
            "its 100: set gate.confirm to 2, or items_per_level so that the suite has at most 62; with 1.6 times as "
            "many problems of these levels it would do as it is.",
        ),
        ({}, {"target": 100, "confirm": 50}, "4 times its 100: set items_per_level so that the suite has at most 12;"),
        ({}, {"old": 100}, "The environment holds out no problem of the target's levels: give it more of these levels"),
        (
            {"loop_alpha": 1e-9},
            {"target": 5, "confirm": 20},
            "The second look has 20 items, which cannot come to the level 2.5e-10 that gate.loop_alpha and gate.spend "
            "give it, even if all are won: 32 would do; raise items_per_level, or gate.confirm.",
        ),
        (
            {},
            {"target": 8, "confirm": 32, "old": 50},
            "The suite 'old' has 50 items, which cannot show that at most 0.05 are lost, as gate.tolerance asks at "
            "confidence 0.95: 59 items would do, or a tolerance of 0.059.",
        ),
        (
            {"require": "no-worse"},
            {"target": 50},
            "The suite 'target' has 50 items, which cannot show that at most 0.05",
        ),
    ],
)
def test_a_gate_that_the_items_cannot_meet_is_refused_with_the_number_that_would_do(
    params: dict[str, Any], items: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        check_items(GateParams(**params), tasks(**items))
    assert sentence in str(refused.value)


@given(st.floats(1e-9, 0.9), st.floats(-0.5, 0.9))
def test_the_number_of_items_that_is_named_is_the_least(level: float, margin: float) -> None:
    least = fewest(level, margin)
    assert ((1 + margin) / 2) ** least <= level * (1 + 1e-6)
    assert least == 1 or ((1 + margin) / 2) ** (least - 1) > level * (1 - 1e-6)


@pytest.mark.parametrize(("tolerance", "confidence"), [(0.05, 0.95), (0.03, 0.95), (0.3, 0.9)])
def test_the_number_of_items_of_a_guard_suite_that_is_named_is_the_least(tolerance: float, confidence: float) -> None:
    least = int(fewest_to_keep(tolerance, confidence))
    passed = [bounds([0.0] * number, confidence)[0] >= -tolerance for number in (least - 1, least)]
    assert passed == [False, True]


def test_what_guards_cannot_see_of_so_few_items_is_said_with_the_number_that_would_do() -> None:
    assert unseen(GateParams(), tasks(target=64, old=64)) == []
    (few,) = unseen(GateParams(), tasks(target=64, old=20))
    assert few.startswith("The suite 'old' has 20 items, too few for the guard 'length' to halt within 5 rounds a loop")
    needed = int(few.split(": ")[1].split()[0])
    assert unseen(GateParams(), tasks(target=64, old=needed)) == []
    assert len(unseen(GateParams(), tasks(target=64, old=needed - 1))) == 1
    one = [task._replace(cluster="one source") for task in tasks(target=64, old=64)]
    assert len(unseen(GateParams(), one)) == 3, "a cluster is one item"
    assert unseen(GateParams(guards="length,warn=2,halt=4"), tasks(old=9))[0].endswith(": no number would do.")


def test_a_majority_is_of_answers_and_not_of_their_spellings() -> None:
    samples = [("5", "5", True), ("5.0", "5", True), ("6", "6", False), ("6", "6", False), ("\\boxed{5}", "5", True)]
    results = [
        ItemResult(policy, "target", 1, "t", number, ok, text, said=said if policy == "candidate" else None)
        for policy in ("champion", "candidate")
        for number, (text, said, ok) in enumerate(samples)
    ]
    target = decide(results).suites["target"]
    assert (target.champion["maj@5"], target.candidate["maj@5"]) == (0, 1)


def test_a_gate_asks_nothing_of_items_where_it_requires_nothing_or_they_are_not_known() -> None:
    check_items(GateParams(require="nothing"), tasks(target=1))
    check_items(GateParams(), None)
