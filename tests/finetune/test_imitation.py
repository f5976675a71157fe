"""Good attempts of earlier draws, learnt from once more."""

from math import cos, pi
from pathlib import Path
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune import ReinforceParams
from selfloop.finetune.online.algorithms import RewardedGroups
from selfloop.finetune.online.algorithms.self_imitation import SelfImitation, covarying
from selfloop.finetune.online.imitation import Imitation
from selfloop.finetune.online.losses import Scored, loss
from selfloop.finetune.online.rewards import Attempts, RewardContext
from selfloop.finetune.online.rewards.explored import Explored
from selfloop.finetune.online.small_trainer import SmallTrainer
from selfloop.generate.draw import TokenizedRollout
from selfloop.policy import fresh
from selfloop.records import TOOL, Rollout, Segment, Task
from selfloop.stages import validated

from .conftest import collector_of
from .test_small_trainer import params, plan_in, some_draw

quick = settings(max_examples=40, deadline=None, derandomize=True)
REWARDS = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=6)


def attempt(number: int, length: int) -> TokenizedRollout:
    rollout = Rollout(f"t{number}", 1, 0, "?", "x", True, length)
    return TokenizedRollout(rollout, [1, 2], [number % 7] * length, [True] * length)


def taught(draws: list[list[list[float]]], **given: float) -> tuple[SelfImitation, Imitation]:
    """What has seen some draws of groups of four attempts, each with its rewards."""
    algorithm = SelfImitation(share=100, **given)
    imitation = Imitation(algorithm, 0, lambda draw: draw)
    for draw, rewards in enumerate(draws):
        groups = RewardedGroups(torch.tensor(rewards), torch.ones(len(rewards)))
        attempts = [attempt(100 * draw + number, 1 + number % 3) for number in range(groups.rewards.numel())]
        old = -torch.arange(3 * len(attempts), dtype=torch.float32).view(-1, 3)
        imitation.learn(draw, attempts, groups, algorithm(groups), old)
    return algorithm, imitation


@quick
@given(st.lists(REWARDS, min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 6))
def test_what_comes_again_was_good_is_young_and_is_better_than_usual(
    draws: list[list[list[float]]], age: int, ramp: int
) -> None:
    _, imitation = taught(draws, age=age, ramp=ramp)
    now = len(draws)
    usual = median(sum(group) / 4 for groups in draws for group in groups)
    expected = sorted(
        (draw, reward)
        for draw, groups in enumerate(draws)
        for group in groups
        for reward in group
        if reward > sum(group) / 4 and now - draw <= age and reward > usual
    )
    again = imitation.chosen(now, 100)
    assert sorted((past.draw, past.reward) for past, _ in again) == expected
    weight = (1 - cos(pi * min(now / ramp, 1))) / 2
    for past, worth in again:
        assert worth == pytest.approx(weight * (past.reward - usual))
        assert len(past.logprobs) == len(past.completion) == len(past.own)


@quick
@given(REWARDS, REWARDS)
def test_the_loss_is_that_of_the_draw_and_that_of_the_earlier_attempts(
    rewards: list[list[float]], later: list[list[float]]
) -> None:
    algorithm, imitation = taught([rewards], ramp=1, clip_cov=0)
    again = imitation.chosen(1, 100)
    own, rows = 4 * len(later), 4 * len(later) + len(again)
    drawn = torch.Generator().manual_seed(len(later))
    gains = torch.zeros(rows)
    gains[:own] = algorithm(RewardedGroups(torch.tensor(later), torch.ones(len(later)))).flatten()
    now = -torch.rand(rows, 3, generator=drawn)
    scored = Scored(now, now + 0.05, torch.ones(rows, 3), gains, torch.full((rows,), 0.2))
    made = imitation.joined(1, scored, again)
    alone = Scored(*(each[:own] for each in scored))
    whole = loss(algorithm, alone, 0.2, 3)
    if again:
        past = Scored(*(each[own:] for each in made))
        past = past._replace(advantages=torch.tensor([worth for _, worth in again]))
        assert all(row[: len(p.logprobs)].tolist() == p.logprobs for row, (p, _) in zip(past.old, again, strict=True))
        whole = whole + loss(algorithm, past, 0.2, 3)
    torch.testing.assert_close(loss(algorithm, made, 0.2, 3), whole, atol=1e-5, rtol=1e-4)


def test_what_is_kept_survives_a_checkpoint_and_is_no_more_than_there_is_room_for() -> None:
    draws = [[[0.0, 0.0, 1.0, 1.0]] * 3] * 3
    _, imitation = taught(draws, size=7)
    _, other = taught([])
    other.restore(imitation.to_state())
    assert other.to_state() == imitation.to_state()
    assert len(imitation.to_state()["past"]) == 7
    assert len(imitation.chosen(3, 100)) == 7
    assert imitation.chosen(30, 100) == []


@quick
@given(st.integers(1, 6), st.integers(0, 40), st.floats(-1, 0.5))
def test_tokens_are_left_out_whose_advantage_and_probability_are_both_high(
    rows: int, number: int, lowest: float
) -> None:
    drawn = torch.Generator().manual_seed(rows)
    gains, logprobs = torch.randn(rows, generator=drawn), -torch.rand(rows, 5, generator=drawn) * 4
    own = (torch.rand(rows, 5, generator=drawn) < 0.8).float()
    own[0, 0] = 1
    out = covarying(gains, logprobs, own, lowest, 1.0, number, drawn)
    mask = own > 0
    apart = gains[:, None].expand(rows, 5)
    both = (apart - apart[mask].mean()) * (logprobs - logprobs[mask].mean())
    among = mask & (both > lowest) & (both < 1.0)
    assert int(out.sum()) == min(number, int(among.sum()))
    assert not bool((out & ~among).any())


def test_a_training_takes_earlier_attempts_again(plain: Path, tmp_path: Path) -> None:
    given = params("self-imitation,ramp=1,share=1,clip_cov=0", steps=2)
    policy = fresh(plain)
    collector = collector_of(given, policy, some_draw(policy, tools=False).tasks)
    trainer = SmallTrainer(given, policy, plan_in(tmp_path), collector)
    collector.collect = lambda draw, groups: some_draw(policy, tools=False)  # type: ignore[method-assign]
    sizes = []
    for step in range(2):
        trainer._step(step)
        sizes.append(len(trainer._parts[0][0].tokens))
    assert sizes[1] > sizes[0] == given.batch_size


@quick
@given(st.integers(0, 300), st.integers(1, 100))
def test_a_tool_is_worth_something_at_first(draw: int, over: int) -> None:
    reward = Explored(over=over, bonus=0.5, primary="vote")
    assert 0 <= reward.bonus_at(draw + 1) <= reward.bonus_at(draw) <= reward.bonus_at(0) == 0.5
    assert reward.bonus_at(over) == pytest.approx(0)
    assert reward.bonus_at(draw) + reward.bonus_at(over - draw) == pytest.approx(0.5) or draw > over


def test_the_bonus_is_for_who_used_the_tool() -> None:
    task = Task("a", 1, "", "1+1=", "2")
    bare = Rollout("a", 1, 0, "1+1=", "2", True, 2)
    tool = bare._replace(attempt=1, segments=(Segment(TOOL, ""), Segment("policy", "2")))
    context = RewardContext("arithmetic:plain", params("grpo"), 1, 8)
    reward, seen = Explored(over=2, primary="verified"), []
    state = reward.keeps()
    for draw in range(3):
        made, state = reward.rewards(Attempts(draw, [task], [bare, tool], context), state)
        seen.append([tool_user - other for other, tool_user in [made]])
    assert seen == [[1.0], [pytest.approx(0.5)], [pytest.approx(0.0)]]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="takes a draw in one step: leave updates at 1"):
        validated(ReinforceParams, {"algorithm": "self-imitation", "updates": 2}, "reinforce")
    with pytest.raises(UserError, match="cannot remember what 'blended' does"):
        Explored(primary="blended")
