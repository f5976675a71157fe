"""The loss of negative-aware fine-tuning: its gradient, its floors, and that it does not collapse."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.nft_trainer import HIGHEST, LOWEST, WEIGHTS, lifted, nft_loss
from selfloop.policy import Policy, fresh
from selfloop.records import Example

from .conftest import Finetuned
from .test_methods import likelihoods

TOKENS = 7


def group(rate: float, count: int = 8) -> list[Example]:
    """Attempts of one task, a share of them good."""
    return [Example("a", 1, "12+34=", f"{n}6{n}", 0, good=n < rate * count, rate=rate) for n in range(count)]


def gradient(policy: Policy, loss: torch.Tensor) -> torch.Tensor:
    policy.model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten().double() for p in policy.model.parameters() if p.grad is not None])


def of_nft(policy: Policy, examples: list[Example], weight: str) -> torch.Tensor:
    """The gradient of NFT where the policy is still the one that made the attempts."""
    batch = Encoded(policy, examples, range(len(examples))).batch(np.arange(len(examples)))
    labels = batch.pop("labels")[:, 1:]
    told = policy.model(**batch).logits[:, :-1].log_softmax(-1)
    new = told.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    good, rate = torch.tensor([e.good for e in examples]), torch.tensor([e.rate for e in examples])
    loss = nft_loss(new, new.detach(), labels != IGNORED, good, rate, weight=weight, normalizer=TOKENS)
    return gradient(policy, loss)


def of_grpo(policy: Policy, examples: list[Example], scaled: bool, place: Path) -> torch.Tensor:
    """The gradient of TRL's GRPO, summed over tokens, with the advantages of the same rewards."""
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        policy.model,
        reward_funcs=lambda **_: [],
        args=GRPOConfig(
            output_dir=str(place),
            loss_type="dr_grpo",
            max_completion_length=TOKENS,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            per_device_train_batch_size=8,
            use_cpu=True,
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": ["1+1="] * 8}),
        processing_class=policy.tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    rewards = torch.tensor([float(e.good) for e in examples])
    advantages = rewards - rewards.mean()
    if scaled:
        advantages = advantages / rewards.std(correction=0)
    prompts, answers = (
        policy.tokenizer(texts, return_tensors="pt", padding=True)
        for texts in ([e.prompt for e in examples], [e.completion + "<eos>" for e in examples])
    )
    inputs: dict[str, Any] = {
        "prompt_ids": prompts["input_ids"],
        "prompt_mask": prompts["attention_mask"],
        "completion_ids": answers["input_ids"],
        "completion_mask": answers["attention_mask"],
        "advantages": advantages,
        "num_items_in_batch": answers["attention_mask"].sum(),
    }
    policy.model.train()
    return gradient(policy, trainer.compute_loss(trainer.model, inputs))


@pytest.mark.parametrize(("weight", "scaled"), [("sqrt((1-r)/r)", True), ("1-r", False)], ids=["GRPO", "Dr. GRPO"])
@pytest.mark.parametrize("rate", [0.25, 0.5, 0.875])
def test_on_policy_the_gradient_is_that_of_grpo(
    plain: Path, tmp_path: Path, weight: str, scaled: bool, rate: float
) -> None:
    ours = of_nft(fresh(plain), group(rate), weight)
    theirs = of_grpo(fresh(plain), group(rate), scaled, tmp_path)
    assert ours.norm() > 1e-3
    assert (ours - theirs).abs().max() < 1e-6 * ours.norm()


ratios = st.floats(-4, 4, width=32)


@given(ratios, st.booleans(), st.floats(0, 1))
def test_the_loss_of_any_token_is_finite_and_pulls_the_right_way(log_ratio: float, good: bool, rate: float) -> None:
    new = torch.tensor([[log_ratio]], requires_grad=True)
    one = torch.ones(1, 1)
    loss = nft_loss(new, torch.zeros(1, 1), one, torch.tensor([good]), torch.tensor([rate]), normalizer=1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert new.grad is not None
    assert torch.isfinite(new.grad).all()
    assert float(new.grad) < 0 if good else float(new.grad) > 0


@given(st.floats(-2, 2), st.floats(0.1, 1))
def test_a_floor_lifts_values_and_lets_the_gradient_through(value: float, floor: float) -> None:
    given_value = torch.tensor([value], requires_grad=True)
    made = lifted(given_value, floor)
    made.sum().backward()  # type: ignore[no-untyped-call]
    assert float(made.detach()) == pytest.approx(max(value, floor), abs=1e-6)
    assert given_value.grad is not None
    assert float(given_value.grad) == 1


@pytest.mark.parametrize(("weight", "expected"), [("1", 1.0), ("1-r", 0.75), ("sqrt((1-r)/r)", 3**0.5)])
def test_weights_are_what_they_are_called(weight: str, expected: float) -> None:
    assert float(WEIGHTS[weight](torch.tensor(0.25))) == pytest.approx(expected)


def test_rates_are_kept_from_nothing_and_from_all() -> None:
    def loss(rate: float) -> float:
        one = torch.ones(1, 1)
        return float(nft_loss(one, one / 2, one, torch.tensor([True]), torch.tensor([rate]), weight="sqrt((1-r)/r)"))

    assert loss(0.0) == loss(LOWEST)
    assert loss(1.0) == loss(HIGHEST)
    assert loss(0.0) != loss(0.5)


def test_many_steps_on_the_same_attempts_do_not_collapse(plain: Path, finetuned: Finetuned) -> None:
    examples = [
        Example(f"{n}", 1, f"{n}+{n}=", str(n + 5 * bad), 0, good=not bad, rate=0.5)
        for n in range(1, 5)
        for bad in (False, True)
    ]
    made = finetuned(plain, "long", examples, method="nft,normalizer=2.0", steps=60, lr=1e-2, weight_decay=0.0)
    told, good = likelihoods(fresh(made.path), examples), torch.tensor([e.good for e in examples])
    assert told[good].exp().mean() > 0.5
    assert told[~good].exp().mean() < 0.05
