"""A reward for what is unlike the rest: its bonus in closed form, what it reads of a policy, and whom it refuses."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from selfloop.errors import UserError
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.representations import representations
from selfloop.finetune.online.rewards import Attempts, Reward, RewardContext
from selfloop.finetune.online.rewards.novelty import Novelty, leverage
from selfloop.policy import load, position_ids
from selfloop.records import Rollout, Task

STATES = st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (n, 4), elements=st.floats(-3, 3, width=16)))


@given(STATES, st.sampled_from([0.01, 0.5, 3.0]))
@settings(max_examples=60, deadline=None)
def test_the_bonus_is_that_of_the_inverted_covariance_and_of_one_that_is_updated(states: Any, ridge: float) -> None:
    """The definition, as it is inverted directly, and as Sherman and Morrison add one attempt after the other."""
    made, apart = leverage(states, ridge), states - states.mean(0)
    whole = np.linalg.inv(apart.T @ apart + ridge * np.eye(4))
    updated = np.eye(4) / ridge
    for x in apart:
        moved = updated @ x
        updated -= np.outer(moved, moved) / (1 + x @ moved)
    for inverse in (whole, updated):
        assert made == pytest.approx(np.einsum("ni,ij,nj->n", apart, inverse, apart), abs=1e-6)
    assert (made > -1e-9).all()
    assert (made < 1).all()
    twice = leverage(np.concatenate([states, states]), ridge)
    assert twice[: len(states)] == pytest.approx(twice[len(states) :])
    assert (twice[: len(states)] <= made + 1e-9).all(), "what is there twice is worth less"


def attempts(context: RewardContext, *groups: tuple[str, ...]) -> Attempts:
    """Groups of attempts at 2+3, each what they say; what ends in a dot was cut off there."""
    tasks = [Task(f"t{number}", 1, "", "2+3=", "5") for number in range(len(groups))]
    rollouts = [
        Rollout(task.id, 1, number, task.prompt, said.removesuffix("."), not said.endswith("."), 2)
        for task, group in zip(tasks, groups, strict=True)
        for number, said in enumerate(group)
    ]
    return Attempts(0, tasks, rollouts, context)


@pytest.mark.parametrize("of", ["all tokens", "the last token"])
def test_an_attempt_is_what_the_policy_has_for_its_tokens_whatever_is_read_beside_it(
    trained: Path, of: Literal["all tokens", "the last token"]
) -> None:
    import torch

    policy, context = load(trained), RewardContext("addition", ReinforceParams(), 1, 2)
    rollouts = attempts(context, ("5", "41", "123."), ("", "5", "6")).rollouts
    found = representations(policy, rollouts, 2, of)
    whole = ("5<eos>", "41<eos>", "123", "<eos>", "5<eos>", "6<eos>")
    for row, said in zip(found, whole if of == "all tokens" else ("5", "41", "123", "<eos>", "5", "6"), strict=True):
        [tokens] = policy.tokenizer([f"2+3={said}"], return_tensors="pt", add_special_tokens=False)["input_ids"]
        there = torch.ones_like(tokens[None])
        given = {"attention_mask": there, "position_ids": position_ids(policy, tokens[None], there)}
        with torch.no_grad():
            states = policy.model(tokens[None], output_hidden_states=True, **given).hidden_states[-1][0, 4:]
        alone = states.mean(0) if of == "all tokens" else states[-1]
        assert row.tolist() == pytest.approx(alone.tolist(), abs=1e-4)


def test_of_attempts_that_are_alike_each_has_less_and_of_a_group_that_earns_nothing_none_has_any(trained: Path) -> None:
    context = RewardContext("addition", ReinforceParams(), 1, 8, load(trained))
    made = np.array(Novelty(weight=0.5)(attempts(context, ("5", "5", "5", "6"), ("1", "2", "3", "4")))).reshape(2, 4)
    assert made[0, :3] - 1 == pytest.approx([0.5 / 12] * 3, abs=0.01)  # three of a kind, their mean left out
    assert made[0, 3] == pytest.approx(0.5 * 3 / 4, abs=0.01)
    assert (made[1] == 0).all()


@pytest.mark.parametrize(
    ("spelt", "sentence"),
    [
        ("novelty,primary=blended", "The reward 'novelty' cannot remember what 'blended' does"),
        (
            "novelty,primary=verified,primary.verifier=judge,primary.judged_by=policy",
            "reads the policy as it began, and .* asks another model: choose one that asks nobody, or the start",
        ),
    ],
)
def test_a_primary_reward_that_remembers_or_asks_another_is_refused(spelt: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Reward.parse(spelt)
