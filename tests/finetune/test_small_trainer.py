"""Our own on-policy loop against TRL's trainers: the same losses, gradients and steps on the same attempts."""

import copy
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from selfloop.environments.addition import Addition
from selfloop.finetune.online import packed_batch
from selfloop.finetune.online.algorithms import Algorithm, RewardedGroups
from selfloop.finetune.online.collector import RolloutBatch, RolloutCollector
from selfloop.finetune.online.losses import Scored
from selfloop.finetune.online.packed_batch import (
    LINE,
    Batch,
    PackedBatch,
    apart,
    batched,
    cut,
    logprobs,
    together,
    worth_it,
)
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.small_trainer import SmallTrainer
from selfloop.finetune.online.trl_trainer import GRPO
from selfloop.finetune.running.training import Plan
from selfloop.generate.draw import TokenizedRollout
from selfloop.generate.engines.llama import is_plain
from selfloop.policy import Policy, fresh
from selfloop.records import Rollout
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from .conftest import collector_of

GROUPS, ATTEMPTS, LONGEST = 3, 4, 6
TEMPERATURE = 0.8
VOTES = [0.35, 0.55, 0.9]
CASES = [
    ("grpo", 0.0, False),
    ("grpo", 0.0, True),
    ("grpo", 0.3, True),
    ("dr-grpo", 0.0, True),
    ("dr-grpo", 0.3, False),
    ("rloo", 0.0, False),
    ("adpo", 0.0, True),
    ("adpo", 0.3, False),
]
NAMES = [f"{name}{', held' if beta else ''}{', with tools' if tools else ''}" for name, beta, tools in CASES]


def params(name: str, **given: Any) -> ReinforceParams:
    shape = {"batch_size": GROUPS * ATTEMPTS, "group_size": ATTEMPTS, "max_tokens": LONGEST}
    return ReinforceParams(algorithm=Algorithm.parse(name), temperature=TEMPERATURE, **(shape | given))


def plan_in(place: Path, **given: Any) -> Plan:
    shape: dict[str, Any] = {"steps": 1, "batch_size": GROUPS * ATTEMPTS, "lr": 1e-3, "weight_decay": 0.05, "seed": 0}
    return Plan(**(shape | given), schedule=lambda step: 1.0, place=place)


def shaken(policy: Policy, seed: int, by: float) -> Policy:
    """The policy with noise on its weights."""
    model, noise = copy.deepcopy(policy.model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn(weight.shape, generator=noise)
    return Policy(model, policy.tokenizer)


def some_draw(policy: Policy, tools: bool) -> RolloutBatch:
    """Attempts of different lengths, some written partly by a tool, and rewards that differ in most groups."""
    drawn = random.Random(11)
    tasks = [task for level in (1, 2, 3) for task in Addition().tasks(level, 1, 5)]
    attempts = []
    for task in tasks:
        [prompt] = policy.encode([task.prompt])
        for number in range(ATTEMPTS):
            length = drawn.randint(1, LONGEST)
            tokens = [drawn.randrange(2, len(policy.tokenizer)) for _ in range(length)]
            own = [not tools or place % 3 != 1 for place in range(length)]
            rollout = Rollout(task.id, task.level, number, task.prompt, "", True, length)
            attempts.append(TokenizedRollout(rollout, prompt, tokens, own))
    rewards = torch.tensor([[0.0, 1.0, 0.5, 1.0], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    return RolloutBatch(tasks, attempts, rewards, torch.tensor(VOTES))


class Fixed(RolloutCollector):
    """A collector whose every draw is the same attempts."""

    made: RolloutBatch

    def collect(self, draw: int, groups: int) -> RolloutBatch:
        return self.made


def fixed(params: ReinforceParams, policy: Policy, tried: RolloutBatch) -> Fixed:
    collector = collector_of(params, policy, tried.tasks, Fixed)
    assert isinstance(collector, Fixed)
    collector.made = tried
    return collector


def trl_arguments(place: Path, params: ReinforceParams) -> dict[str, Any]:
    about: dict[str, Any] = {
        **plan_in(place).arguments(),
        "num_generations": ATTEMPTS,
        "max_completion_length": LONGEST,
        "temperature": TEMPERATURE,
        "beta": params.kl_beta,
        "epsilon": params.clip,
    }
    if params.algorithm.name != "rloo":
        about["loss_type"] = "dr_grpo" if params.algorithm.name == "dr-grpo" else "grpo"
        about["scale_rewards"] = "none" if params.algorithm.name == "dr-grpo" else "group"
    return about


def trl_trainer(policy: Policy, place: Path, params: ReinforceParams, kind: type | None = None, **more: Any) -> Any:
    """A trainer of TRL's on the policy itself."""
    of_algorithm: type = RLOOTrainer if params.algorithm.name == "rloo" else GRPOTrainer
    config: type = RLOOConfig if params.algorithm.name == "rloo" else GRPOConfig
    given = {"reward_funcs": lambda **_: [0.0] * (GROUPS * ATTEMPTS)} | more
    return (kind or of_algorithm)(
        model=policy.model.train(),
        args=config(**trl_arguments(place, params)),
        train_dataset=datasets.Dataset.from_dict({"prompt": [""] * GROUPS}),
        processing_class=policy.tokenizer,
        **given,
    )


def by_trl(
    policy: Policy, place: Path, params: ReinforceParams, batch: Batch, scored: Scored, reference: Tensor
) -> Tensor:
    """The loss that TRL gives the batch. ADPO is not TRL's, but our trainer's on it, which sets the clips."""
    trainer = trl_trainer(policy, place, params, GRPO if params.algorithm.name == "adpo" else None)
    trainer.params, trainer.current_gradient_accumulation_steps = params, 1
    width = batch.tokens.shape[1] - batch.own.shape[1]
    inputs = {
        "prompt_ids": batch.tokens[:, :width],
        "prompt_mask": batch.mask[:, :width],
        "completion_ids": batch.tokens[:, width:],
        "completion_mask": batch.mask[:, width:],
        "advantages": scored.advantages,
    }
    if params.algorithm.name == "rloo":
        inputs["old_logps"] = (scored.old * batch.own).sum(1)
    else:
        inputs |= {"tool_mask": batch.own, "old_per_token_logps": scored.old, "ref_per_token_logps": reference}
    if params.algorithm.name == "adpo":
        inputs["upper"] = scored.upper
    loss: Tensor = trainer._compute_loss(trainer.model, inputs)
    return loss


def gradients(policy: Policy, loss: Tensor) -> Tensor:
    policy.model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([weight.grad.flatten() for weight in policy.model.parameters() if weight.grad is not None])


@pytest.mark.parametrize(("name", "beta", "tools"), CASES, ids=NAMES)
def test_our_loss_and_its_gradient_are_trls(plain: Path, tmp_path: Path, name: str, beta: float, tools: bool) -> None:
    start, asked = fresh(plain), params(name, kl_beta=beta, updates=2)
    tried = some_draw(start, tools)
    batch, policy, old = batched(start, tried.attempts), shaken(start, 1, 1e-3), shaken(start, 2, 3e-3)
    groups = RewardedGroups(tried.rewards, tried.rates)
    with torch.no_grad():
        before, reference = (logprobs(each, batch, TEMPERATURE) for each in (old, start))
    scored = Scored(
        before,
        before,
        batch.own,
        asked.algorithm(groups).flatten(),
        asked.algorithm.upper(tried.rates, asked.clip).repeat_interleave(ATTEMPTS),
    )
    trainer = SmallTrainer(asked, start, plan_in(tmp_path), fixed(asked, start, tried))
    trainer._policy = policy
    ours = trainer._loss(batch, scored)
    ratio = ((logprobs(policy, batch, TEMPERATURE) - before) * batch.own).exp()
    assert ((ratio - 1).abs() > asked.clip).any()
    assert (((ratio - 1).abs() < asked.clip) & (ratio != 1)).any()
    theirs = by_trl(policy, tmp_path, asked, batch, scored, reference)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert ours.item() != pytest.approx(trainer._loss(batch, scored._replace(advantages=-scored.advantages)).item())
    expected, made = gradients(policy, theirs), gradients(policy, ours)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(made, expected, atol=1e-5 * max(1.0, expected.abs().max().item()), rtol=0)


class GivenRLOO(RLOOTrainer):
    """TRL's RLOO with attempts that are given."""

    def __init__(self, *given: Any, tried: RolloutBatch, **named: Any) -> None:
        super().__init__(*given, **named)
        self._tried = tried

    def _tokenize_prompts(self, prompts: Any) -> Any:
        return [each.prompt for each in self._tried.attempts], None, {}

    def _generate_single_turn(self, *_: Any) -> Any:
        return [each.completion for each in self._tried.attempts]


def step_by_trl(policy: Policy, place: Path, params: ReinforceParams, tried: RolloutBatch) -> None:
    """One step of TRL's own trainer, which makes its own advantages, on a draw."""
    plan = plan_in(place)
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True
    )
    given: dict[str, Any] = {"optimizers": (optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))}
    given["reward_funcs"] = lambda **_: tried.rewards.flatten().tolist()
    if params.algorithm.name == "rloo":
        trl_trainer(policy, place, params, GivenRLOO, tried=tried, **given).train()
        return
    attempts = tried.attempts
    rolled_out = {
        "prompt_ids": [each.prompt for each in attempts],
        "completion_ids": [each.completion for each in attempts],
        "env_mask": [[int(own) for own in each.own] for each in attempts],
        "logprobs": None,
    }
    trl_trainer(policy, place, params, rollout_func=lambda prompts, trainer: dict(rolled_out), **given).train()


def weights_of(policy: Policy) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in policy.model.parameters()])


@pytest.mark.parametrize(
    ("name", "beta", "tools"), [("grpo", 0.0, True), ("grpo", 0.3, False), ("dr-grpo", 0.0, True), ("rloo", 0.0, False)]
)
def test_a_step_of_ours_ends_with_the_weights_of_a_step_of_trls(
    plain: Path, tmp_path: Path, name: str, beta: float, tools: bool
) -> None:
    asked, ours, theirs = params(name, kl_beta=beta), fresh(plain), fresh(plain)
    tried, before = some_draw(ours, tools), weights_of(ours)
    SmallTrainer(asked, ours, plan_in(tmp_path), fixed(asked, ours, tried)).train()
    step_by_trl(theirs, tmp_path, asked, tried)
    moved, between = (weights_of(ours) - before).abs(), (weights_of(ours) - weights_of(theirs)).abs()
    assert moved.median() > 5e-4
    assert between.max() < 1e-5


@pytest.mark.parametrize("name", ["grpo", "dr-grpo", "rloo"])
def test_a_step_in_parts_or_with_less_memory_is_the_same_step(plain: Path, tmp_path: Path, name: str) -> None:
    asked, ends = params(name, kl_beta=0.0 if name == "rloo" else 0.1), []
    for given in ({}, {"accumulate": 3}, {"accumulate": 5}, {"gradient_checkpointing": True}):
        policy = fresh(plain)
        collector = fixed(asked, policy, some_draw(policy, True))
        trained = SmallTrainer(asked, policy, plan_in(tmp_path, **given), collector).train()
        ends.append((trained.loss, weights_of(policy)))
    for loss, weights in ends[1:]:
        assert loss == pytest.approx(ends[0][0], abs=1e-6)
        torch.testing.assert_close(weights, ends[0][1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", ["plain", "trained"])
@pytest.mark.parametrize("chosen", [slice(None), [0, 1, 3, 6, 7, 8, 10], [2]], ids=["whole", "parts", "one"])
@pytest.mark.parametrize("known", [True, False], ids=["by the weights", "by the library"])
def test_a_prompt_that_is_read_once_for_its_group_gives_the_same(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, which: str, chosen: Any, known: bool
) -> None:
    """With positions as the library counts them, and by a scheme of the policy's own."""
    policy = fresh(request.getfixturevalue(which))
    assert is_plain(policy.model)
    monkeypatch.setattr(packed_batch, "is_plain", lambda model: known)
    whole = batched(policy, some_draw(policy, tools=True).attempts)
    batch = whole.rows(torch.arange(len(whole.tokens))[chosen])
    lines = PackedBatch.of(batch)
    assert worth_it(policy, batch, lines)
    assert lines.tokens.numel() < (batch.mask.sum() if len(batch.tokens) > 1 else batch.tokens.numel())
    real = batch.mask[:, batch.width :] == 1
    ours, theirs = (logits[places][real] for logits, places in (together(policy, lines), apart(policy, batch)))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    weigh = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    made, expected = (gradients(policy, (each * weigh).mean()) for each in (ours, theirs))
    torch.testing.assert_close(made, expected, atol=1e-5 * max(1.0, expected.abs().max().item()), rtol=0)


def test_a_group_of_many_may_say_little(plain: Path) -> None:
    """More attempts than there are tokens among them."""
    policy = fresh(plain)
    tried = some_draw(policy, tools=False)
    same = [each._replace(completion=each.completion[:2], own=each.own[:2]) for each in tried.attempts]
    batch = batched(policy, same[:1] * 50 + same[-1:] * 50)
    ours, theirs = (
        logits[places] for logits, places in (together(policy, PackedBatch.of(batch)), apart(policy, batch))
    )
    real = batch.mask[:, batch.width :] == 1
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-4, rtol=1e-5)


def test_groups_share_lines_as_far_as_they_are_short() -> None:
    assert cut([5, 15, 30, 100, 105]) == [30, 70, 5]
    assert cut([LINE]) == [LINE]
    assert cut([LINE + 1, LINE + 2]) == [LINE + 1, 1]


def test_long_attempts_of_a_group_stay_apart(plain: Path) -> None:
    policy = fresh(plain)
    batch = batched(policy, some_draw(policy, tools=False).attempts)
    tokens, mask, own = (torch.nn.functional.pad(each, (0, 200), value=1) for each in batch[:3])
    longer = Batch(tokens, mask, own, None)
    assert not worth_it(policy, longer, PackedBatch.of(longer))
