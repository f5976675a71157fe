"""What holds of the policy gradients for any rewards, vote rates and log-probabilities."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune import ReinforceParams
from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups
from selfloop.finetune.online.algorithms.adpo import Adpo
from selfloop.finetune.online.algorithms.role_baseline import RoleBaseline, RoleBaselines
from selfloop.finetune.online.losses import Scored, divergence, loss
from selfloop.records import Rollout, Segment
from selfloop.stages import validated
from torch import Tensor

CLIP, LONGEST = 0.2, 16
ALL = {name: kind() for name, kind in Algorithm.members().items()}
COMPARING = [name for name, algorithm in ALL.items() if algorithm.compares]
quick = settings(max_examples=40, deadline=None, derandomize=True)
groups = st.integers(2, 8).flatmap(
    lambda attempts: st.lists(st.lists(st.floats(-2, 2, width=32), min_size=attempts, max_size=attempts), min_size=1)
)
rate = st.floats(0, 1)


def advantages(name: str, rewards: Tensor, rate: float = 1.0) -> Tensor:
    rates = torch.full((len(rewards),), rate, dtype=rewards.dtype)
    return Algorithm.parse(name)(RewardedGroups(rewards, rates))


def doubles(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", COMPARING)
@quick
@given(rewards=groups, rate=rate)
def test_the_advantages_of_a_group_come_to_nothing(name: str, rewards: list[list[float]], rate: float) -> None:
    made = advantages(name, doubles(rewards), rate)
    torch.testing.assert_close(made.sum(1), torch.zeros(len(rewards), dtype=torch.float64), atol=1e-9, rtol=0)


@quick
@given(rewards=groups)
def test_leave_one_out_is_the_reward_less_the_mean_of_the_others(rewards: list[list[float]]) -> None:
    made = advantages("rloo", doubles(rewards))
    for group, of_group in zip(rewards, made.tolist(), strict=True):
        for number, reward in enumerate(group):
            others = group[:number] + group[number + 1 :]
            assert of_group[number] == pytest.approx(reward - sum(others) / len(others), abs=1e-9)


@pytest.mark.parametrize("name", COMPARING)
@quick
@given(rewards=groups, shift=st.floats(-5, 5))
def test_what_all_of_a_group_are_given_more_moves_nothing(name: str, rewards: list[list[float]], shift: float) -> None:
    before, after = (advantages(name, doubles(rewards) + more) for more in (0, shift))
    torch.testing.assert_close(before, after, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("name", "grows"), [("grpo", False), ("adpo", False), ("dr-grpo", True), ("rloo", True)])
@quick
@given(solved=st.lists(st.booleans(), min_size=2, max_size=8).filter(lambda s: 0 < sum(s) < len(s)), scale=rate)
def test_the_scale_of_rewards_matters_only_where_nothing_divides_by_their_spread(
    name: str, grows: bool, solved: list[bool], scale: float
) -> None:
    rewards, scale = doubles([solved]), 0.5 + scale
    expected = advantages(name, rewards) * (scale if grows else 1)
    torch.testing.assert_close(advantages(name, rewards * scale), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", COMPARING)
@quick
@given(reward=st.floats(-2, 2, width=32), attempts=st.sampled_from([2, 4, 8]), rate=rate)
def test_equal_rewards_give_no_advantage(name: str, reward: float, attempts: int, rate: float) -> None:
    made = advantages(name, torch.full((1, attempts), reward), rate)
    assert not made.any()


@quick
@given(rates=st.tuples(rate, rate).map(sorted), trust=rate)
def test_adpo_trusts_a_group_the_more_the_more_its_votes_agree(rates: list[float], trust: float) -> None:
    rewards = doubles([[1, 0, 0, 1]])
    whole = advantages("grpo", rewards)
    doubtful, sure = ((advantages(f"adpo,trust={trust}", rewards, rate) / whole)[0, 0].item() for rate in rates)
    assert trust - 1e-9 <= doubtful <= sure <= 1 + 1e-9


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from(["judge-0", "judge-1", "solver-1"]), st.sampled_from([None, 0.0, 0.5, 1.0])),
        min_size=1,
    )
)
def test_whitening_by_role_compares_what_was_rewarded_in_one_role(given: list[tuple[str, float | None]]) -> None:
    rollouts = [
        Rollout("t", 1, 0, "", "1", True, 1, role=role, segments=(Segment(role, "1", reward),))
        for role, reward in given
    ]
    rewards = doubles([[reward or 0.0] for _, reward in given])
    made = ALL["role-whitened"](RewardedGroups(rewards, rewards[:, 0], rollouts)).flatten().tolist()
    for kind in ("judge", "solver"):
        of_kind = [(reward, each) for (role, reward), each in zip(given, made, strict=True) if role.startswith(kind)]
        rewarded = [(reward, each) for reward, each in of_kind if reward is not None]
        known = any(reward is not None for _, reward in given)
        assert not known or all(each == 0 for reward, each in of_kind if reward is None)
        assert sum(each for _, each in rewarded) == pytest.approx(0, abs=1e-6)
        if len({reward for reward, _ in rewarded}) > 1:
            assert sum(each**2 for _, each in rewarded) / len(rewarded) == pytest.approx(1, abs=1e-2)
            order = [each for _, each in sorted(rewarded)]
            assert order == sorted(order)
        else:
            assert not any(each for _, each in rewarded)


def test_adpo_trusts_least_below_three_tenths_and_wholly_from_eight_tenths_on() -> None:
    rewards = doubles([[1, 0]])
    shares = [
        (advantages("adpo,trust=0.25", rewards, rate) / advantages("grpo", rewards))[0, 0].item()
        for rate in (0.0, 0.3, 0.55, 0.8, 1.0)
    ]
    assert shares == pytest.approx([0.25, 0.25, 0.625, 1, 1])


@quick
@given(rates=st.tuples(rate, rate).map(sorted), clip=st.floats(0.05, 0.5))
def test_adpo_clips_later_the_less_the_votes_agree(rates: list[float], clip: float) -> None:
    doubtful, sure = Adpo().upper(doubles(rates), clip).tolist()
    assert clip <= sure <= doubtful <= clip + 0.1 + 1e-9


@pytest.mark.parametrize("name", [name for name in ALL if name != "adpo"])
@quick
@given(rates=st.lists(rate, min_size=1), clip=st.floats(0.05, 0.5))
def test_the_others_clip_every_group_alike(name: str, rates: list[float], clip: float) -> None:
    assert ALL[name].upper(doubles(rates), clip).tolist() == [clip] * len(rates)


@st.composite
def batches(draw: st.DrawFn, drift: float = 0.0) -> Scored:
    """Attempts whose policy has drifted by so much a token since they were drawn; each has a token of its own."""
    rows, tokens = draw(st.integers(1, 5)), draw(st.integers(1, 6))

    def numbers(low: float, high: float, *shape: int) -> Tensor:
        count = math.prod(shape)
        return doubles(draw(st.lists(st.floats(low, high), min_size=count, max_size=count))).view(shape)

    logprobs = numbers(-5, -0.01, rows, tokens)
    own = numbers(0, 1, rows, tokens).round()
    own[:, 0] = 1
    return Scored(
        logprobs.requires_grad_(),
        logprobs.detach() + numbers(-drift, drift, rows, tokens),
        own,
        numbers(-2, 2, rows),
        torch.full((rows,), CLIP, dtype=torch.float64),
    )


def gradient(name: str, scored: Scored) -> Tensor:
    [made] = torch.autograd.grad(loss(ALL[name], scored, CLIP, LONGEST), [scored.logprobs])
    return made


def weights_of(name: str, own: Tensor) -> Tensor:
    """What a plain policy gradient weighs each token by."""
    by: dict[str, Callable[[], Tensor]] = {
        "sequence": lambda: own / len(own),
        "constant": lambda: own / (len(own) * LONGEST),
        "sequences": lambda: own / own.sum(1, keepdim=True) / len(own),
    }
    algorithm = ALL[name]
    return by["sequence" if algorithm.ratio == "sequence" else algorithm.mean]()


@pytest.mark.parametrize("name", ALL)
@quick
@given(scored=batches())
def test_a_loss_where_nothing_has_drifted_is_less_the_mean_advantage(name: str, scored: Scored) -> None:
    made = loss(ALL[name], scored, CLIP, LONGEST).item()
    if ALL[name].mean == "constant":
        expected = -(scored.advantages[:, None] * scored.own).sum().item() / (len(scored.own) * LONGEST)
    else:
        expected = -scored.advantages.mean().item()
    assert made == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
@quick
@given(scored=batches())
def test_its_gradient_is_then_the_plain_policy_gradient(name: str, scored: Scored) -> None:
    expected = -scored.advantages[:, None] * weights_of(name, scored.own)
    torch.testing.assert_close(gradient(name, scored), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
@quick
@given(scored=batches(drift=1.0))
def test_what_the_policy_did_not_write_has_no_gradient(name: str, scored: Scored) -> None:
    assert not gradient(name, scored)[scored.own == 0].any()


@pytest.mark.parametrize("name", ALL)
@quick
@given(scored=batches(drift=1.0))
def test_clipping_stops_what_went_far_enough_and_only_that(name: str, scored: Scored) -> None:
    change = ((scored.logprobs - scored.old) * scored.own).detach()
    by_row = ALL[name].ratio == "sequence"
    ratio = change.sum(1, keepdim=True).exp().expand_as(change) if by_row else change.exp()
    gain = scored.advantages[:, None].expand_as(ratio)
    done = ((ratio > 1 + CLIP) & (gain > 0)) | ((ratio < 1 - CLIP) & (gain < 0))
    expected = torch.where(done, 0, -gain * ratio * weights_of(name, scored.own))
    torch.testing.assert_close(gradient(name, scored), expected, atol=1e-9, rtol=1e-9)


def test_a_doubtful_groups_unlikely_token_may_rise_where_a_sure_ones_may_not() -> None:
    upper = ALL["adpo"].upper(doubles([0.2, 0.9]), CLIP)
    old = doubles([[-2.0], [-2.0]])
    logprobs = (old + math.log(1.25)).requires_grad_()
    made = gradient("adpo", Scored(logprobs, old, torch.ones_like(old), doubles([1, 1]), upper))
    assert made[0].item() < 0
    assert made[1].item() == 0


@quick
@given(scored=batches(drift=2.0))
def test_a_divergence_is_nothing_between_equals_and_more_elsewhere(scored: Scored) -> None:
    now, reference = scored.logprobs.detach(), scored.old
    assert not divergence(now, now, reference).any()
    assert (divergence(now, reference, now) >= -1e-12).all()


@quick
@given(numbers=st.tuples(*[st.lists(st.floats(-3, 3), min_size=4, max_size=4)] * 3))
def test_the_mean_divergence_and_its_gradient_are_those_of_the_distributions(numbers: tuple[list[float], ...]) -> None:
    """Over all tokens, as often as they are drawn from the old policy."""
    logits, reference, old = (doubles(each) for each in numbers)
    logits.requires_grad_()
    now, reference, old = (each.log_softmax(0) for each in (logits, reference, old))
    exact = (now.exp() * (now - reference)).sum()
    estimated = (old.exp() * divergence(now, reference, old)).sum()
    torch.testing.assert_close(estimated, exact)
    expected, made = (torch.autograd.grad(each, [logits], retain_graph=True)[0] for each in (exact, estimated))
    torch.testing.assert_close(made, expected)


def attempts_of(roles: list[str]) -> list[Rollout]:
    return [Rollout("a", 1, number, "", "", True, 1, role=role) for number, role in enumerate(roles)]


@quick
@given(played=st.lists(st.tuples(st.sampled_from("ab"), st.floats(-2, 2)), min_size=1), decay=st.floats(0, 0.99))
def test_a_role_s_baseline_is_what_it_was_given_lately(played: list[tuple[str, float]], decay: float) -> None:
    roles, rewards = [role for role, _ in played], doubles([[reward for _, reward in played]])
    groups, start = RewardedGroups(rewards, doubles([0]), attempts_of(roles)), RoleBaselines(baselines={"a": 0.5})
    made, after = RoleBaseline(decay=decay).advantages(groups, start)
    known = {"a": 0.5, "b": 0.0}
    for (role, reward), advantage in zip(played, made[0].tolist(), strict=True):
        assert advantage == pytest.approx(reward - known[role])
        known[role] = decay * known[role] + (1 - decay) * reward
    assert after.baselines == pytest.approx({role: known[role] for role in {"a", *roles}})


def test_a_baseline_is_the_same_whether_attempts_come_in_one_draw_or_in_two() -> None:
    rewards, roles = doubles([[1.0, -1.0], [0.5, 0.0]]), ["first", "second", "first", "second"]
    whole, after = RoleBaseline().advantages(
        RewardedGroups(rewards, rewards[:, 0], attempts_of(roles)), RoleBaselines()
    )
    state, parts = RoleBaselines(), []
    for row in rewards:
        given = RewardedGroups(row[None], row[:1], attempts_of(roles[:2]))
        made, state = RoleBaseline().advantages(given, state)
        parts.append(made)
    torch.testing.assert_close(torch.cat(parts), whole)
    assert state == after


def test_an_algorithm_that_compares_attempts_wants_several() -> None:
    with pytest.raises(UserError, match="algorithm 'grpo' compares attempts at a task: give a group_size above 1"):
        validated(ReinforceParams, {"group_size": 1}, "reinforce_policy")
    assert validated(ReinforceParams, {"group_size": 1, "algorithm": "role-baseline"}, "reinforce_policy").groups == 64
