"""A reward of a discriminator that learns beside the policy: its three shapes, its steps, and what it comes to tell."""

from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, RewardContext
from selfloop.finetune.online.rewards.internal import Discriminator, Internal, compared
from selfloop.policy import load
from selfloop.records import Rollout, Task

CHANCES = st.floats(1e-6, 1)


@given(st.lists(st.tuples(CHANCES, CHANCES), min_size=1, max_size=6))
def test_rewards_are_those_of_the_paper_and_only_the_logarithm_has_no_bound(
    pairs: list[tuple[float, float]],
) -> None:
    held, prior = np.log(np.array(pairs)).T
    made = {shape: compared(held, prior, shape).tolist() for shape in ("clipped", "linear", "log")}
    for place, (q, p) in enumerate(pairs):
        assert made["clipped"][place] == pytest.approx(max(q, p) - p)
        assert made["linear"][place] == pytest.approx(q - p)
        assert made["log"][place] == pytest.approx(log(q) - log(p))
    assert all(0 <= worth < 1 for worth in made["clipped"])
    assert all(-1 < worth < 1 for worth in made["linear"])


@given(st.integers(0, 99), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_it_rewards_as_it_was_and_then_descends_the_cross_entropy_of_the_same_attempts(seed: int, updates: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    states, labels, weights = rng.normal(size=(6, 4)), rng.integers(0, 3, 6).tolist(), rng.normal(size=(3, 5))
    before = Discriminator(weights=tuple(map(tuple, weights.tolist())), seen=(2, 0, 1))
    rewards, after = Internal(shape="log", rate=0.2, updates=updates).given(states, labels, 3, before)
    read = torch.tensor(np.c_[states, np.ones(6)])
    rows = torch.tensor(weights, requires_grad=True)
    prior = torch.log(torch.tensor([3, 1, 2], dtype=torch.float64) / 6)[labels]
    assert rewards == pytest.approx((torch.log_softmax(read @ rows.T, 1)[range(6), labels] - prior).tolist())
    for _ in range(updates):
        [slope] = torch.autograd.grad(torch.nn.functional.cross_entropy(read @ rows.T, torch.tensor(labels)), rows)
        rows = (rows - 0.2 * slope).detach().requires_grad_()
    assert np.array(after.weights) == pytest.approx(rows.detach().numpy())
    assert after.seen == tuple(np.array([2, 0, 1]) + np.bincount(labels, minlength=3))
    assert Discriminator.model_validate_json(after.model_dump_json()) == after
    with pytest.raises(UserError, match="has learnt from another policy or of other labels: begin anew"):
        Internal().given(states[:, :2], labels, 3, after)


def test_it_comes_to_tell_right_attempts_from_wrong_ones_by_what_a_policy_reads_in_them(trained: Path) -> None:
    """One attempt of four says another digit than the answer: what is said is the answer three times of four."""
    context = RewardContext("addition", ReinforceParams(), 1, 40, load(trained))
    reward, state = Internal(updates=250), Discriminator()
    tasks = [Task(f"t{number}", 1, "", f"{number}+0=", str(number)) for number in range(10)]
    rollouts = [
        Rollout(task.id, 1, place, task.prompt, str((number + 3 * (place % 4 == 3)) % 10), True, 2)
        for number, task in enumerate(tasks)
        for place in range(4)
    ]
    for draw in range(30):
        rewards, state = reward.rewards(Attempts(draw, tasks, rollouts, context), state)
    right = [worth for place, worth in enumerate(rewards) if place % 4 != 3]
    assert min(right) > 0.4 > 0.3 > max(rewards[3::4])
    assert reward.summary_of(state)["discriminator"] == pytest.approx(0.75**2 + 0.25**2, abs=0.1)


@pytest.mark.parametrize(
    ("environment", "answer", "sentence"),
    [
        ("code", "f", "tells answers by their last character, and 'code' has no alphabet"),
        ("addition", "", "the task 't' has none of the alphabet: choose tasks whose answers are known"),
    ],
)
def test_answers_without_a_label_are_refused(environment: str, answer: str, sentence: str) -> None:
    context = RewardContext(environment, ReinforceParams(), 1, 4)
    with pytest.raises(UserError, match=sentence):
        Internal().rewards(Attempts(0, [Task("t", 1, "", "1+1=", answer)], [], context), Discriminator())
