"""The arms of a curriculum: what must hold of every strategy, and of the state that they weigh."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Artifact
from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.propose import ArmsParams, begin_arms
from selfloop.propose.arms import POINTS, Arm, Arms, Seen, find_strategy, probes, strategies
from selfloop.stage import validated

RATES = st.floats(0, 1)
LEVELS = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True)
ANY_VALUES = st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=8)
TEMPERATURES = st.floats(1e-300, 1e300)


def params(**given: object) -> ArmsParams:
    return validated(ArmsParams, given, "begin_arms")


def arms_with(values: Sequence[float], **given: object) -> tuple[Arms, ArmsParams]:
    """One arm for each value, all of them probed."""
    asked = params(levels=list(range(1, len(values) + 1)), **given)
    arms = tuple(Arm(level=level, value=value, rate=0.5) for level, value in enumerate(values, 1))
    return Arms(strategy=asked.strategy, arms=arms), asked


def order_of_turns(asked: ArmsParams, steps: int, rates: Sequence[dict[int, float]] = ()) -> list[int]:
    """The arm of each step of a strategy that gives all mass to one; ``rates`` are what each probe finds."""
    arms, found, turns = Arms.begin(asked), iter(rates), list[int]()
    for _ in range(steps):
        if arms.wants_rates(asked):
            arms = arms.probed(next(found))
        (turn,) = (level for level, mass in arms.mass(asked).items() if mass == 1)
        turns.append(turn)
        arms = arms.observed(asked, {turn: Seen(0.5, 0.5, 8)})
    return turns


def without_repeats(turns: Sequence[int]) -> list[int]:
    return [turn for place, turn in enumerate(turns) if place == 0 or turns[place - 1] != turn]


@pytest.mark.parametrize("name", strategies())
@settings(deadline=None)
@given(values=ANY_VALUES, tau=TEMPERATURES, step=st.integers(0, 1000), horizon=st.integers(1, 1000))
def test_the_mass_of_every_strategy_is_a_distribution(
    name: str, values: list[float], tau: float, step: int, horizon: int
) -> None:
    arms, asked = arms_with(values, strategy=name, tau=tau, horizon=horizon)
    mass = arms.model_copy(update={"step": step}).mass(asked)
    assert list(mass) == arms.levels
    assert all(0 <= share <= 1 for share in mass.values())
    assert math.isclose(sum(mass.values()), 1)


@settings(deadline=None)
@given(values=ANY_VALUES, tau=TEMPERATURES, order=st.randoms(use_true_random=False))
def test_the_bandit_does_not_care_in_which_order_arms_stand(values: list[float], tau: float, order: Random) -> None:
    arms, asked = arms_with(values, tau=tau)
    shuffled = list(arms.arms)
    order.shuffle(shuffled)
    assert arms.model_copy(update={"arms": tuple(shuffled)}).mass(asked) == arms.mass(asked)


@settings(deadline=None)
@given(values=st.lists(st.floats(0, 2), min_size=2, max_size=6), tau=st.floats(0.1, 10))
def test_the_bandit_draws_in_proportion_to_the_exponential_of_the_value(values: list[float], tau: float) -> None:
    arms, asked = arms_with(values, tau=tau)
    mass = arms.mass(asked)
    for level, value in enumerate(values, 1):
        assert math.isclose(mass[level] / mass[1], math.exp((value - values[0]) / tau), rel_tol=1e-9)


def test_a_cold_bandit_draws_the_best_arm_alone_and_a_hot_one_all_alike() -> None:
    arms, cold = arms_with([0.1, 0.9, 0.5], tau=1e-6)
    assert arms.mass(cold) == {1: 0.0, 2: 1.0, 3: 0.0}
    assert arms.mass(arms_with([0.0] * 3, tau=1e6)[1]) == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3}, abs=1e-6)


@settings(deadline=None)
@given(
    steps=st.lists(st.dictionaries(st.integers(1, 4), st.floats(0, 1e6)), max_size=30),
    alpha=st.floats(0.001, 1),
    unsampled=st.sampled_from(["decay", "keep"]),
)
def test_values_stay_between_0_and_the_greatest_advantage(
    steps: list[dict[int, float]], alpha: float, unsampled: str
) -> None:
    asked = params(alpha=alpha, unsampled=unsampled)
    arms = Arms.begin(asked)
    for step in steps:
        arms = arms.observed(asked, {level: Seen(advantage, 0.5, 1) for level, advantage in step.items()})
    most = max((advantage for step in steps for advantage in step.values()), default=0.0)
    assert all(0 <= arm.value <= most * (1 + 1e-12) for arm in arms.arms)
    assert arms.step == len(steps)


def test_an_arm_that_was_drawn_moves_by_alpha_and_one_that_was_not_decays_or_keeps_its_value() -> None:
    for unsampled, left in (("decay", 0.375), ("keep", 0.5)):
        arms, asked = arms_with([0.5, 0.5], alpha=0.25, unsampled=unsampled)
        first, second = arms.observed(asked, {1: Seen(1.0, 0.125, 3)}).arms
        assert first == Arm(level=1, value=0.625, rate=0.125, drawn=3, last=1)
        assert second == Arm(level=2, value=left, rate=0.5, drawn=0, last=0)


@settings(deadline=None)
@given(levels=LEVELS, horizon=st.integers(1, 200))
def test_ordered_visits_the_arms_in_order_and_reverse_mirrors_it(levels: list[int], horizon: int) -> None:
    easy = order_of_turns(params(strategy="ordered", levels=levels, horizon=horizon), horizon + 3)
    hard = order_of_turns(params(strategy="reverse", levels=levels, horizon=horizon), horizon + 3)
    ordered = sorted(levels)
    assert easy == sorted(easy)
    assert [ordered.index(level) for level in easy] == [len(levels) - 1 - ordered.index(level) for level in hard]
    assert easy[-3:] == ordered[-1:] * 3
    if horizon >= len(levels):
        assert without_repeats(easy) == ordered
        assert max(Counter(easy[:horizon]).values()) - min(Counter(easy[:horizon]).values()) <= 1


@settings(deadline=None)
@given(data=st.data(), levels=LEVELS, horizon=st.integers(1, 60))
def test_reestimated_takes_the_easiest_arm_that_was_not_trained_on(
    data: st.DataObject, levels: list[int], horizon: int
) -> None:
    asked = params(strategy="reestimated", levels=levels, horizon=horizon)
    probe = st.fixed_dictionaries(dict.fromkeys(levels, RATES))
    rates = data.draw(st.lists(probe, min_size=len(levels), max_size=len(levels)))
    turns = without_repeats(order_of_turns(asked, horizon, rates))
    assert len(turns) == min(horizon, len(levels))
    if horizon >= len(levels):
        for number, turn in enumerate(turns):
            left = set(levels) - set(turns[:number])
            assert turn in left
            assert rates[number][turn] == max(rates[number][level] for level in left)


def test_reestimated_follows_what_changes_between_phases() -> None:
    asked = params(strategy="reestimated", levels=[1, 2, 3], horizon=6)
    rates = [{1: 0.2, 2: 0.6, 3: 0.0}, {1: 0.3, 2: 0.9, 3: 0.5}, {1: 0.3, 2: 0.9, 3: 0.9}]
    assert order_of_turns(asked, 7, rates) == [2, 2, 3, 3, 1, 1, 1]
    assert [probes(name) for name in strategies()] == [name == "reestimated" for name in strategies()]


def test_arms_that_were_never_measured_are_probed_at_once_and_by_strategies_that_ask_alone() -> None:
    asked = params(strategy="reestimated", levels=[1, 2], horizon=4)
    arms = Arms.begin(asked)
    assert arms.wants_rates(asked)
    assert not arms.wants_rates(params(levels=[1, 2], horizon=4))
    arms = arms.probed({1: 0.5, 2: 0.25}).observed(asked, {1: Seen(0.5, 0.75, 8)})
    assert not arms.wants_rates(asked)
    more = params(strategy="reestimated", levels=[1, 2, 3], horizon=4, other_arms="adapt")
    assert arms.restored(more).wants_rates(more)


def test_reestimated_refuses_arms_whose_rate_is_not_known() -> None:
    asked = params(strategy="reestimated")
    with pytest.raises(UserError, match="Level 1 has no pass rate: probe the arms before each phase"):
        Arms.begin(asked).mass(asked)


@settings(deadline=None)
@given(step=st.integers(0, 500), seen=st.dictionaries(st.integers(1, 4), st.tuples(st.floats(0, 9), RATES)))
def test_the_state_survives_json(step: int, seen: dict[int, tuple[float, float]]) -> None:
    asked = params()
    arms = Arms.begin(asked).model_copy(update={"step": step})
    arms = arms.observed(asked, {level: Seen(advantage, rate, 2) for level, (advantage, rate) in seen.items()})
    assert Arms.from_json(json.loads(json.dumps(arms.to_json()))) == arms


def test_a_state_that_is_not_one_of_arms_is_refused() -> None:
    with pytest.raises(UserError, match="The loop's state is not one of arms"):
        Arms.from_json({"frontier": 3, "accuracy": {}})


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), tau=st.floats(0.05, 5))
def test_levels_are_drawn_from_the_mass_and_again_the_same(seed: int, tau: float) -> None:
    arms, asked = arms_with([0.1, 0.5, 0.3], tau=tau)
    drawn = arms.draw(asked, 4000, seed)
    assert drawn == arms.draw(asked, 4000, seed)
    for level, share in arms.mass(asked).items():
        assert abs(Counter(drawn)[level] / 4000 - share) < 6 * math.sqrt(0.25 / 4000)


@settings(deadline=None)
@given(steps=st.integers(1, 3 * POINTS))
def test_the_course_of_a_round_stays_small_and_even(steps: int) -> None:
    asked = params(levels=[1, 2])
    arms = Arms.begin(asked).model_copy(update={"step": 17})
    for _ in range(steps):
        arms = arms.observed(asked, {1: Seen(0.5, 0.25, 1)})
    told = [point.step for point in arms.course]
    assert (told[0], told[-1]) == (18, 17 + steps)
    assert len(told) <= POINTS + 1
    assert len({later - earlier for earlier, later in pairwise(told[:-1])}) <= 1
    assert arms.without_course().course == ()


def test_a_step_is_told_with_the_mass_that_it_drew_with_and_what_it_saw() -> None:
    asked = params(levels=[1, 2], tau=0.1)
    arms = Arms.begin(asked)
    second = arms.observed(asked, {2: Seen(0.4, 0.75, 8)})
    (point,) = second.course
    assert point.mass == arms.mass(asked) == {1: 0.5, 2: 0.5}
    assert point.rate == {1: None, 2: 0.75}
    assert point.value == {1: 0.0, 2: 0.2}
    assert second.observed(asked, {}).course[-1].mass == second.mass(asked) != {1: 0.5, 2: 0.5}


def test_a_user_s_own_strategy_is_a_function_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_arms.py").write_text(
        "probes = True\n\ndef strategy(arms, params, progress):\n    return [arm.level * progress for arm in arms]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_arms", raising=False)
    arms, asked = arms_with([0.0, 0.0], strategy="own_arms:strategy", horizon=4)
    assert arms.model_copy(update={"step": 2}).mass(asked) == {1: 1 / 3, 2: 2 / 3}
    assert probes("own_arms:strategy")
    with pytest.raises(UserError, match="'own_arms:strategy' gave every arm the weight 0"):
        arms.mass(asked)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0], "gave 1 weights to 2 arms"),
        ([1.0, -0.5], "gave level 2 the weight -0.5"),
        ([math.nan, 1.0], "gave level 1 the weight nan"),
        ([math.inf, 1.0], "gave level 1 the weight inf"),
        ([0.0, 0.0], "gave every arm the weight 0"),
        (None, "gave None: return a weight for each arm"),
        (["much", 1], "return a weight for each arm"),
    ],
)
def test_weights_that_are_none_are_refused(
    weights: object, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_arms.py").write_text(
        f"from math import inf, nan\n\ndef strategy(arms, params, progress):\n    return {weights}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bad_arms", raising=False)
    arms, asked = arms_with([0.0, 0.0], strategy="bad_arms:strategy")
    with pytest.raises(UserError, match=sentence):
        arms.mass(asked)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bandits", "There is no strategy 'bandits': did you mean 'bandit'?"),
        ("nowhere:strategy", "No strategy at 'nowhere:strategy'"),
        ("math:pi", "The strategy 'math:pi' cannot be called"),
    ],
)
def test_a_strategy_that_is_not_there_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        find_strategy(name)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        params(strategy="uniforn")
    with pytest.raises(UserError, match="a level stands twice"):
        params(levels=[1, 2, 1])
    with pytest.raises(UserError, match="Parameter 'levels'"):
        params(levels=[])
    with pytest.raises(UserError, match="Parameter 'tau'"):
        params(tau=0)


def test_other_arms_than_the_restored_state_s_stop_the_loop_or_are_adapted_to() -> None:
    before = params(levels=[1, 2, 3])
    arms = Arms.begin(before).observed(before, {2: Seen(0.8, 0.5, 4)})
    with pytest.raises(UserError, match="has the arms 1, 2, 3, the settings have 2, 3, 4: set 'levels'"):
        arms.restored(params(levels=[4, 2, 3]))
    adapted = arms.restored(params(levels=[4, 2, 3], other_arms="adapt", strategy="uniform"))
    assert adapted.arms == (arms.arms[1], arms.arms[2], Arm(level=4))
    assert (adapted.step, adapted.strategy) == (1, "uniform")
    assert arms.restored(params(levels=[3, 1, 2])) == arms


def test_what_is_seen_of_no_arm_or_is_no_number_is_refused() -> None:
    asked = params()
    with pytest.raises(UserError, match="Level 9 is no arm: the arms are 1, 2, 3, 4"):
        Arms.begin(asked).observed(asked, {9: Seen(0.5, 0.5, 1)})
    with pytest.raises(UserError, match="Level 9 is no arm"):
        Arms.begin(asked).probed({9: 0.5})
    with pytest.raises(UserError, match="Step 1 gave level 2 an advantage or a rate that is no number"):
        Arms.begin(asked).observed(asked, {2: Seen(math.nan, 0.5, 1)})


def test_a_curriculum_begins_with_arms_of_which_nothing_is_known(tmp_path: Path) -> None:
    begin_arms.into(begin_arms.out(arms=Artifact(uri=str(tmp_path / "arms"))), params(levels=[3, 1]))
    arms = Arms.from_json(read_json(tmp_path / "arms"))
    assert arms == Arms(strategy="bandit", arms=(Arm(level=1), Arm(level=3)))
    write_json(tmp_path / "again", arms.to_json())
    assert (tmp_path / "again" / "value.json").read_bytes() == (tmp_path / "arms" / "value.json").read_bytes()


def test_an_environment_without_levels_or_without_these_has_no_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat_tasks.py").write_text(
        "from selfloop.environments import ExactAnswer\n\nclass Flat(ExactAnswer):\n    name = 'flat'\n"
        "    summary = 'One kind of task.'\n\n    def tasks(self, level, count, seed):\n        return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'flat_tasks:Flat' has no levels, which the arms are"):
        begin_arms.into(
            begin_arms.out(arms=Artifact(uri=str(tmp_path / "arms"))), params(environment="flat_tasks:Flat")
        )
    with pytest.raises(UserError, match="'countdown' has the levels 1 to 5: take level 7 out"):
        begin_arms.into(
            begin_arms.out(arms=Artifact(uri=str(tmp_path / "arms"))), params(environment="countdown", levels=[1, 7])
        )
