"""The curricula: what must hold of every one over levels, and of the arms that they weigh."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.memory import entry, remembered
from selfloop.propose.arms import POINTS, Arm, ArmFeedback, ArmState, taught
from selfloop.propose.curricula import Curriculum, DrawFeedback, LevelCurriculum, TaskPool, by_level
from selfloop.propose.curricula.bandit import Bandit
from selfloop.propose.curricula.cyclical import Cyclical
from selfloop.propose.curricula.in_turn import InTurn
from selfloop.propose.curricula.oracle import Oracle
from selfloop.propose.curricula.ordered import Ordered, Reverse
from selfloop.propose.curricula.progress import Progress
from selfloop.propose.curricula.reestimated import Reestimated
from selfloop.propose.curricula.uniform import Uniform
from selfloop.propose.curricula.weak import Weakest, Weakness
from selfloop.records import Task

RATES = st.floats(0, 1)
LEVELS = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True)
ANY_VALUES = st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=8)
TEMPERATURES = st.floats(1e-300, 1e300)
OVER_LEVELS = [name for name, kind in Curriculum.members().items() if issubclass(kind, LevelCurriculum)]


def arms_with(values: Sequence[float]) -> ArmState:
    """One arm for each value, all of them probed."""
    return ArmState(arms=tuple(Arm(level=level, value=value, rate=0.5) for level, value in enumerate(values, 1)))


def pool_of(levels: Sequence[int], count: int = 3, seed: int = 0) -> TaskPool:
    """So many tasks of each level."""
    tasks = [
        Task(f"{level}-{number}", level, "", f"{level} {number}", "") for level in levels for number in range(count)
    ]
    return TaskPool(tasks, levels, lambda purpose: seed)


def order_of_turns(
    curriculum: Ordered | Reverse | Reestimated,
    levels: Sequence[int],
    steps: int,
    rates: Sequence[dict[int, float]] = (),
) -> list[int]:
    """The arm of each step of a curriculum that gives all mass to one; ``rates`` are what each probe finds."""
    arms, pool, found, turns = ArmState.begin(levels), pool_of(levels, 1), iter(rates), list[int]()

    def probe(tasks: Sequence[Task]) -> list[float]:
        at = next(found)
        return [at[task.level] for task in tasks]

    for _ in range(steps):
        arms = curriculum.probed(arms, pool, probe)
        (turn,) = (level for level, mass in curriculum.mass(arms).items() if mass == 1)
        turns.append(turn)
        arms = curriculum.observed(arms, {turn: ArmFeedback(0.5, 0.5, 8)})
    return turns


def without_repeats(turns: Sequence[int]) -> list[int]:
    return [turn for place, turn in enumerate(turns) if place == 0 or turns[place - 1] != turn]


@pytest.mark.parametrize("name", OVER_LEVELS)
@settings(deadline=None)
@given(values=ANY_VALUES, tau=TEMPERATURES, step=st.integers(0, 1000), horizon=st.integers(1, 1000))
def test_the_mass_of_every_curriculum_is_a_distribution(
    name: str, values: list[float], tau: float, step: int, horizon: int
) -> None:
    kind: Any = Curriculum.members()[name]
    given = {key: value for key, value in {"tau": tau, "horizon": horizon}.items() if key in kind.model_fields}
    arms = arms_with(values)
    mass = kind(**given).mass(arms.model_copy(update={"step": step}))
    assert list(mass) == arms.levels
    assert all(0 <= share <= 1 for share in mass.values())
    assert math.isclose(sum(mass.values()), 1)


@settings(deadline=None)
@given(values=ANY_VALUES, tau=TEMPERATURES, order=st.randoms(use_true_random=False))
def test_the_bandit_does_not_care_in_which_order_arms_stand(values: list[float], tau: float, order: Random) -> None:
    arms, bandit = arms_with(values), Bandit(tau=tau)
    shuffled = list(arms.arms)
    order.shuffle(shuffled)
    assert bandit.mass(arms.model_copy(update={"arms": tuple(shuffled)})) == bandit.mass(arms)


@settings(deadline=None)
@given(values=st.lists(st.floats(0, 2), min_size=2, max_size=6), tau=st.floats(0.1, 10))
def test_the_bandit_draws_in_proportion_to_the_exponential_of_the_value(values: list[float], tau: float) -> None:
    mass = Bandit(tau=tau).mass(arms_with(values))
    for level, value in enumerate(values, 1):
        assert math.isclose(mass[level] / mass[1], math.exp((value - values[0]) / tau), rel_tol=1e-9)


def test_a_cold_bandit_draws_the_best_arm_alone_and_a_hot_one_all_alike() -> None:
    arms = arms_with([0.1, 0.9, 0.5])
    assert Bandit(tau=1e-6).mass(arms) == {1: 0.0, 2: 1.0, 3: 0.0}
    assert Bandit(tau=1e6).mass(arms) == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3}, abs=1e-6)


@settings(deadline=None)
@given(
    steps=st.lists(st.dictionaries(st.integers(1, 4), st.floats(0, 1e6)), max_size=30),
    alpha=st.floats(0.001, 1),
    unsampled=st.sampled_from(["decay", "keep"]),
)
def test_values_stay_between_0_and_the_greatest_advantage(
    steps: list[dict[int, float]], alpha: float, unsampled: Any
) -> None:
    bandit, arms = Bandit(alpha=alpha, unsampled=unsampled), ArmState.begin([1, 2, 3, 4])
    for step in steps:
        arms = bandit.observed(arms, {level: ArmFeedback(advantage, 0.5, 1) for level, advantage in step.items()})
    most = max((advantage for step in steps for advantage in step.values()), default=0.0)
    assert all(0 <= arm.value <= most * (1 + 1e-12) for arm in arms.arms)
    assert arms.step == len(steps)


@pytest.mark.parametrize(
    ("curriculum", "drawn", "left"),
    [
        (Bandit(alpha=0.25), 0.625, 0.375),
        (Bandit(alpha=0.25, unsampled="keep"), 0.625, 0.5),
        (Uniform(), 1.0, 0.5),
    ],
    ids=["moves by alpha, decays", "moves by alpha, stays", "is what it last was"],
)
def test_an_arm_s_value_follows_what_was_drawn_of_it(curriculum: LevelCurriculum, drawn: float, left: float) -> None:
    first, second = curriculum.observed(arms_with([0.5, 0.5]), {1: ArmFeedback(1.0, 0.125, 3)}).arms
    assert first == Arm(level=1, value=drawn, rate=0.125, before=0.5, drawn=3, last=1)
    assert second == Arm(level=2, value=left, rate=0.5, drawn=0, last=0)


@given(right=st.lists(st.integers(0, 8), min_size=1, max_size=6))
def test_each_signal_of_an_arm_is_what_its_groups_taught(right: list[int]) -> None:
    rewards = np.array([[1.0] * each + [0.0] * (8 - each) for each in right])
    rates = rewards.mean(axis=1)
    tasks = [Task(str(number), 3, "", "", "") for number in range(len(right))]
    deviation = np.where(rates % 1, np.sqrt(rates * (1 - rates)), 1.0)
    advantages = (rewards - rates[:, None]) / deviation[:, None]
    [seen] = by_level(DrawFeedback(tasks, rewards, advantages)).values()
    assert math.isclose(
        taught("advantage", Arm(level=3), seen), (2 * np.sqrt(rates * (1 - rates))).mean(), abs_tol=1e-12
    )
    assert math.isclose(taught("unnormalised", Arm(level=3), seen), (2 * rates * (1 - rates)).mean(), abs_tol=1e-12)
    assert taught("progress", Arm(level=3), seen) == 0
    assert math.isclose(taught("progress", Arm(level=3, rate=0.5), seen), abs(rates.mean() - 0.5))


def test_an_arm_of_coin_flips_keeps_its_advantage_and_makes_no_progress() -> None:
    bandits = {signal: Bandit.parse(f"bandit,tau=0.05,signal={signal}") for signal in ("advantage", "progress")}
    arms = {signal: ArmState.begin([1, 2]) for signal in bandits}
    for step in range(20):
        coins, learnt = ArmFeedback(1.0, 0.5, 4, 0.5), ArmFeedback(0.3, step / 20, 4, 0.1)
        arms = {signal: bandit.observed(arms[signal], {1: coins, 2: learnt}) for signal, bandit in bandits.items()}
    mass = {signal: bandit.mass(arms[signal]) for signal, bandit in bandits.items()}
    assert mass["advantage"][1] > 0.99
    assert mass["progress"][2] > 0.7
    assert math.isclose(Progress().mass(arms["progress"])[2], 0.9), "of two levels one is learnt, and a fifth explores"


def test_a_level_is_weak_while_it_fails_and_does_not_rise() -> None:
    known = [(0.2, 0.2), (0.2, 0.1), (0.6, 0.7), (0.4, None), (None, None)]
    arms = [Arm(level=level, rate=rate, before=before) for level, (rate, before) in enumerate(known, 1)]
    assert Weakness(rest=0.1)(arms, 0) == [0.8, 0.1, 0.1, 0.6, 1.0]
    assert Weakest(share=0.5)(arms, 0) == [0.1, 0.1, 0.1, 0.1, 0.6]
    assert Weakest(share=0.5)(arms[:3], 0) == pytest.approx([2 / 3, 1 / 6, 1 / 6]), "of equals the lowest level"


@settings(deadline=None)
@given(levels=LEVELS, start=st.floats(0.05, 1), growth=st.floats(1.1, 4), phase=st.integers(1, 9))
def test_a_cycle_grows_from_the_easiest_levels_to_all_and_shrinks_again(
    levels: list[int], start: float, growth: float, phase: int
) -> None:
    curriculum, arms = Cyclical(start=start, growth=growth, phase=phase), ArmState.begin(levels).arms
    assert all(list(curriculum(arms, step)) == sorted(curriculum(arms, step), reverse=True) for step in range(9))
    share, rises = start, True
    for step in range(0, 60 * phase, phase):
        assert sum(curriculum(arms, step)) == math.ceil(share * len(levels) - 1e-9)
        rises = share == start or (rises and share < 1)
        share = min(share * growth, 1.0) if rises else max(share / growth, start)


def test_the_oracle_measures_every_few_steps_and_is_not_led_by_what_it_draws() -> None:
    curriculum, pool, probed = Oracle(every=2, probe_tasks=4), pool_of([1, 2, 3], 4), list[int]()
    state = curriculum.for_round(None, pool)

    def probe(tasks: Sequence[Task]) -> list[float]:
        probed.append(draw)
        return [{1: 1.0, 2: float(number % 2), 3: 0.0}[task.level] for number, task in enumerate(tasks)]

    for draw in range(4):
        tasks, state = curriculum.choose(state, pool, draw, 4, probe)
        assert curriculum.mass(state) == pytest.approx({1: 5 / 19, 2: 9 / 19, 3: 5 / 19})
        state = curriculum.learn(state, DrawFeedback(tasks, np.ones((4, 4)), np.ones((4, 4))))
    assert probed == [0, 2]


@settings(deadline=None)
@given(levels=LEVELS, horizon=st.integers(1, 200))
def test_ordered_visits_the_arms_in_order_and_reverse_mirrors_it(levels: list[int], horizon: int) -> None:
    easy = order_of_turns(Ordered(horizon=horizon), levels, horizon + 3)
    hard = order_of_turns(Reverse(horizon=horizon), levels, horizon + 3)
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
    probe = st.fixed_dictionaries(dict.fromkeys(levels, RATES))
    rates = data.draw(st.lists(probe, min_size=len(levels), max_size=len(levels)))
    turns = without_repeats(order_of_turns(Reestimated(horizon=horizon), levels, horizon, rates))
    assert len(turns) == min(horizon, len(levels))
    if horizon >= len(levels):
        for number, turn in enumerate(turns):
            left = set(levels) - set(turns[:number])
            assert turn in left
            assert rates[number][turn] == max(rates[number][level] for level in left)


def test_reestimated_follows_what_changes_between_phases() -> None:
    rates = [{1: 0.2, 2: 0.6, 3: 0.0}, {1: 0.3, 2: 0.9, 3: 0.5}, {1: 0.3, 2: 0.9, 3: 0.9}]
    assert order_of_turns(Reestimated(horizon=6), [1, 2, 3], 7, rates) == [2, 2, 3, 3, 1, 1, 1]
    assert [name for name, kind in Curriculum.members().items() if kind.probes] == ["oracle", "reestimated"]


def test_arms_that_were_never_measured_are_probed_at_once() -> None:
    curriculum, arms = Reestimated(horizon=4, other_arms="adapt"), ArmState.begin([1, 2])
    assert curriculum.wants_rates(arms)
    arms = curriculum.observed(arms.probed({1: 0.5, 2: 0.25}), {1: ArmFeedback(0.5, 0.75, 8)})
    assert not curriculum.wants_rates(arms)
    assert curriculum.wants_rates(arms.for_round([1, 2, 3], "adapt"))


@pytest.mark.parametrize(("grain", "draws"), [("step", [0, 2]), ("round", [0])])
def test_pass_rates_are_measured_where_a_phase_begins(grain: Any, draws: list[int]) -> None:
    curriculum, pool, probed = Reestimated(horizon=4, probe_tasks=3, grain=grain), pool_of([1, 2], 12), list[int]()
    state = curriculum.for_round(None, pool)

    def probe(tasks: Sequence[Task]) -> list[float]:
        probed.append(draw)
        assert [task.level for task in tasks] == [1, 1, 1, 2, 2, 2]
        return [1, 1, 1, 0, 1, 0]

    for draw in range(4):
        tasks, state = curriculum.choose(state, pool, draw, 4, probe)
        state = curriculum.learn(state, DrawFeedback(tasks, np.zeros((4, 4)), np.zeros((4, 4))))
    assert probed == draws


def test_reestimated_refuses_arms_whose_rate_is_not_known() -> None:
    with pytest.raises(UserError, match="Level 1 has no pass rate: probe the arms before each phase"):
        Reestimated().mass(ArmState.begin([1, 2]))


@settings(deadline=None)
@given(step=st.integers(0, 500), seen=st.dictionaries(st.integers(1, 4), st.tuples(st.floats(0, 9), RATES)))
def test_the_state_survives_json(step: int, seen: dict[int, tuple[float, float]]) -> None:
    bandit, arms = Bandit(tau=0.5), ArmState.begin([1, 2, 3, 4]).model_copy(update={"step": step})
    feedback = {level: ArmFeedback(advantage, rate, 2) for level, (advantage, rate) in seen.items()}
    arms = bandit.observed(arms, feedback).model_copy(
        update={"taken": {2: 3}, "pending": {level: (each, each) for level, each in feedback.items()}}
    )
    stored = json.loads(json.dumps({"curriculum": entry(bandit, arms)}))
    assert stored["curriculum"]["strategy"] == "bandit,tau=0.5"
    assert remembered("curriculum", Uniform(), ArmState, stored) == arms, "another curriculum may continue with it"


def test_a_state_that_is_not_one_of_arms_is_refused() -> None:
    kept = {"curriculum": {"strategy": "mine:by_task", "tasks": {}}}
    with pytest.raises(UserError, match="The curriculum 'bandit' cannot continue with what 'mine:by_task' remembered"):
        remembered("curriculum", Bandit(), ArmState, kept)
    assert remembered("curriculum", Bandit(), ArmState, {}) is None


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), tau=st.floats(0.05, 5))
def test_levels_are_drawn_from_the_mass_and_again_the_same(seed: int, tau: float) -> None:
    arms, bandit = arms_with([0.1, 0.5, 0.3]), Bandit(tau=tau)
    drawn = bandit.draw(arms, 4000, seed)
    assert drawn == bandit.draw(arms, 4000, seed)
    for level, share in bandit.mass(arms).items():
        assert abs(Counter(drawn)[level] / 4000 - share) < 6 * math.sqrt(0.25 / 4000)


def test_of_each_level_the_next_task_is_taken_and_all_again_when_all_were() -> None:
    curriculum, pool = Ordered(horizon=100), pool_of([3, 5], 3)
    state, taken = curriculum.for_round(None, pool), list[str]()
    for draw in range(2):
        tasks, state = curriculum.choose(state, pool, draw, 4, lambda tasks: [])
        taken += [task.id for task in tasks]
    assert taken == [f"3-{number % 3}" for number in range(8)]
    assert curriculum.ended(state).taken == curriculum.for_round(state, pool).taken == {}


def test_in_the_grain_of_a_round_the_arms_learn_once_when_it_is_over() -> None:
    curriculum, pool = Bandit(grain="round", alpha=1.0), pool_of([1, 2])
    state = curriculum.for_round(None, pool)
    for advantage in (1.0, 2.0):
        tasks = [pool.tasks[0], pool.tasks[0]]
        state = curriculum.learn(state, DrawFeedback(tasks, np.ones((2, 4)), np.full((2, 4), -advantage)))
        assert (state.step, state.arms[0].value) == (0, 0.0)
    ended = curriculum.ended(state)
    assert ended.arms[0] == Arm(level=1, value=1.5, rate=1.0, drawn=4, last=1)
    assert ended.course[0].mass == {1: 0.5, 2: 0.5}
    assert ended.pending == {}


@settings(deadline=None)
@given(length=st.integers(1, 12), groups=st.integers(1, 6), seed=st.integers(0, 9))
def test_every_task_comes_in_its_turn_once_before_any_comes_again(length: int, groups: int, seed: int) -> None:
    pool = pool_of([1], length, seed)
    drawn = [InTurn().choose(None, pool, draw, groups, lambda tasks: [])[0] for draw in range(2 * length)]
    flat = [task.id for tasks in drawn for task in tasks]
    for first in range(0, len(flat) - length + 1, length):
        assert len(set(flat[first : first + length])) == length


@settings(deadline=None)
@given(steps=st.integers(1, 3 * POINTS))
def test_the_course_of_a_round_stays_small_and_even(steps: int) -> None:
    arms = ArmState.begin([1, 2]).model_copy(update={"step": 17})
    for _ in range(steps):
        arms = Uniform().observed(arms, {1: ArmFeedback(0.5, 0.25, 1)})
    told = [point.step for point in arms.course]
    assert (told[0], told[-1]) == (18, 17 + steps)
    assert len(told) <= POINTS + 1
    assert len({later - earlier for earlier, later in pairwise(told[:-1])}) <= 1
    assert arms.for_round([1, 2], "stop").course == ()


def test_a_step_is_told_with_the_mass_that_it_drew_with_and_what_it_saw() -> None:
    bandit, arms = Bandit(tau=0.1), ArmState.begin([1, 2])
    second = bandit.observed(arms, {2: ArmFeedback(0.4, 0.75, 8)})
    (point,) = second.course
    assert point.mass == bandit.mass(arms) == {1: 0.5, 2: 0.5}
    assert point.rate == {1: None, 2: 0.75}
    assert point.value == {1: 0.0, 2: 0.2}
    assert bandit.observed(second, {}).course[-1].mass == bandit.mass(second) != {1: 0.5, 2: 0.5}


OWN = '''
from selfloop.propose.curricula import Curriculum


def harder(arms, step, *, power: float = 1.0):
    """Draw hard levels the more often, the later it is."""
    return [(arm.level * step) ** power for arm in arms]


class Hardest(Curriculum):
    """The hardest task alone."""

    name = "hardest"

    def choose(self, state, pool, draw, groups, probe):
        return [max(pool.tasks, key=lambda task: task.level)] * groups, state
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_curricula.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_curricula", raising=False)
    return tmp_path / "own_curricula.py"


@pytest.mark.usefixtures("own")
def test_a_function_of_ones_own_weighs_levels_and_a_class_chooses_tasks() -> None:
    found, arms = Curriculum.parse("own_curricula:harder,power=2,grain=round"), arms_with([0.0, 0.0])
    assert isinstance(found, LevelCurriculum)
    assert found.grain == "round"
    assert found.mass(arms.model_copy(update={"step": 2})) == {1: 0.2, 2: 0.8}
    with pytest.raises(UserError, match=r"'own_curricula:harder,grain=round,power=2\.0' gave all of them the weight 0"):
        found.mass(arms)
    tasks, _ = Curriculum.parse("own_curricula:Hardest").choose(None, pool_of([1, 4], 1), 0, 2, lambda tasks: [])
    assert [task.level for task in tasks] == [4, 4]


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0], "gave 1 weights to 2: return one each"),
        ([1.0, -0.5], "gave level 2 the weight -0.5"),
        ([math.nan, 1.0], "gave level 1 the weight nan"),
        ([math.inf, 1.0], "gave level 1 the weight inf"),
        ([0.0, 0.0], "gave all of them the weight 0"),
        (None, "gave None: return a weight for each, as a number"),
        ([10**400, 1], "return a weight for each"),
        (["much", 1], "return a weight for each"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, sentence: str) -> None:
    class Odd(LevelCurriculum):
        def __call__(self, arms: Sequence[Arm], step: int) -> Any:
            return weights

    with pytest.raises(UserError, match=sentence):
        Odd().mass(arms_with([0.0, 0.0]))


@pytest.mark.parametrize(
    ("spelt", "sentence"),
    [
        ("bandits", "There is no curriculum 'bandits': did you mean 'bandit'?"),
        ("bandit,tau=0", "'tau' of the curriculum 'bandit' cannot be '0'"),
        ("ordered,tau=1", "There is no parameter of the curriculum 'ordered' 'tau'"),
        ("nowhere:strategy", "No curriculum at 'nowhere:strategy': No module named 'nowhere'"),
        ("math:pi", "'math:pi' is no curriculum"),
    ],
)
def test_a_curriculum_that_is_not_there_is_refused(spelt: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        Curriculum.parse(spelt)


def test_other_arms_than_the_restored_state_s_stop_the_loop_or_are_adapted_to() -> None:
    arms = Uniform().observed(ArmState.begin([1, 2, 3]), {2: ArmFeedback(0.8, 0.5, 4)})
    with pytest.raises(UserError, match="has the arms 1, 2, 3, the tasks have 2, 3, 4: draw tasks of the same levels"):
        Uniform().for_round(arms, pool_of([4, 2, 3]))
    adapted = Uniform(other_arms="adapt").for_round(arms, pool_of([4, 2, 3]))
    assert adapted.arms == (arms.arms[1], arms.arms[2], Arm(level=4))
    assert adapted.step == 1
    assert Uniform().for_round(arms, pool_of([3, 1, 2])).arms == arms.arms


def test_an_arm_whose_tasks_are_all_held_out_items_is_refused() -> None:
    pool = TaskPool(Addition().tasks(1, 3, 0), [1, 2], lambda purpose: 0)
    with pytest.raises(UserError, match="All tasks of level 2 are held-out items, which leaves this arm none"):
        Bandit().for_round(None, pool)


def test_what_is_seen_of_no_arm_or_is_no_number_is_refused() -> None:
    arms = ArmState.begin([1, 2, 3, 4])
    with pytest.raises(UserError, match="Level 9 is no arm: the arms are 1, 2, 3, 4"):
        Bandit().observed(arms, {9: ArmFeedback(0.5, 0.5, 1)})
    with pytest.raises(UserError, match="Level 9 is no arm"):
        arms.probed({9: 0.5})
    with pytest.raises(UserError, match="Step 1 gave level 2 an advantage or a rate that is no number"):
        Bandit().observed(arms, {2: ArmFeedback(math.nan, 0.5, 1)})


def test_arms_begin_with_nothing_known_of_them() -> None:
    assert Bandit().for_round(None, pool_of([3, 1])) == ArmState(arms=(Arm(level=1), Arm(level=3)))
