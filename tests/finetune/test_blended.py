"""A reward that learns how much to heed another: its closed form, where its weight goes, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, Reward, RewardContext
from selfloop.finetune.online.rewards.blended import Blend, Blended, covariance
from selfloop.records import Rollout, Task

RIGHT, WRONG = "3", "4"
PAIRS = st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=2, max_size=8)


def attempts(*groups: str) -> Attempts:
    """Groups of attempts at sums, each a letter of what it says."""
    tasks = [Task(f"t{number}", 1, "", "1+2=", RIGHT) for number in range(len(groups))]
    rollouts = [
        Rollout(task.id, 1, number, task.prompt, said, True, 2)
        for task, group in zip(tasks, groups, strict=True)
        for number, said in enumerate(group)
    ]
    return Attempts(0, tasks, rollouts, RewardContext("arithmetic:plain", ReinforceParams(), 1, 8))


@given(PAIRS)
def test_a_covariance_is_the_slope_of_the_reward_after_one_step_by_both(pairs: list[tuple[float, float]]) -> None:
    """Of a softmax with a logit for each attempt, all alike: dJ/dw = rate / n times the covariance."""
    first, other = np.array(pairs).T
    size, rate, small = len(first), 1e-3, 1e-3

    def after(weight: float) -> float:
        chances = np.full(size, 1 / size)
        blend = first + weight * other
        logits = rate * chances * (blend - chances @ blend)
        moved = np.exp(logits - logits.max())
        return float(moved / moved.sum() @ first)

    slope = (after(small) - after(-small)) / (2 * small)
    assert slope == pytest.approx(rate / size * covariance(first[None], other[None]), abs=1e-5)


def test_the_weight_of_a_reward_that_helps_rises_and_that_of_one_that_misleads_falls_to_nothing() -> None:
    reward, helped, misled = Blended(rate=1.0), Blend(), Blend()
    for _ in range(20):
        _, helped = reward.rewards(attempts("33344", "33334"), helped)
        _, misled = reward.rewards(attempts("34444", "33444"), misled)
    assert (helped.weight, misled.weight) == (reward.most, 0)
    assert reward.summary_of(helped) == {"auxiliary_weight": 2.0}


@given(st.floats(0, 2))
def test_a_reward_is_the_first_and_so_much_of_the_other(weight: float) -> None:
    given, _ = Blended(weight=weight).rewards(attempts("3344", "3444"), Blend())
    assert given == pytest.approx([1 + weight, 1 + weight, 0, 0, 1, weight, weight, weight])


def test_without_a_rate_the_weight_stays() -> None:
    _, state = Blended(weight=0.25, rate=0).rewards(attempts("3344"), Blend())
    assert state.weight == 0.25


@pytest.mark.parametrize(
    ("spelt", "sentence"),
    [
        ("blended,auxiliary=blended", "cannot remember what 'blended' does: blend one that keeps nothing"),
        ("blended,weight=3", "A weight of 3 is more than 'most', 2: raise 'most'"),
        (
            "blended,primary=verified,primary.verifier=judge,auxiliary=verified,auxiliary.verifier=reward-model",
            "may ask one model alone: blend rewards that ask the same",
        ),
    ],
)
def test_what_cannot_be_blended_is_refused(spelt: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Reward.parse(spelt)


def test_it_is_spelt_with_its_parts() -> None:
    spelt = "blended,auxiliary=verified,auxiliary.verifier=length,weight=1.0"
    assert str(Reward.parse(spelt)) == spelt
