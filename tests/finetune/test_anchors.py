"""What holds a training to its start: costs of weights that move, labels of a frozen policy; held to closed forms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.holding import Penalty, Taught, as_said, fisher, frozen, swapped
from selfloop.finetune.offline.methods import Method
from selfloop.finetune.offline.mixture import earlier
from selfloop.finetune.running.training import trainable
from selfloop.policy import Policy, fresh
from selfloop.records import Example

from ..conftest import sealed_table
from .conftest import Finetuned, tried


def right() -> list[Example]:
    return [e for e in tried() if e.good]


def moved(policy: Any, start: Path) -> float:
    """The squared distance of a policy's weights from where they started."""
    now, before = trainable(fresh(Path(policy.path)).model), trainable(fresh(start).model)
    return sum(((now[name] - before[name]) ** 2).sum().item() for name in now)


def scored(policy: Policy, texts: list[Example]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    batch = Encoded(policy, texts, range(len(texts))).batch(np.arange(len(texts)))
    labels = batch.pop("labels")[:, 1:]
    return batch, policy.model(**batch).logits[:, :-1], labels


def test_these_anchors_come_with_selfloop() -> None:
    found = FinetuneParams.model_validate({"method": "sft,anchor=l2,anchor.weight=0.5"})
    assert str(found.method) == "sft,anchor=l2,anchor.weight=0.5"
    assert [str(Method.parse(f"sft,anchor={name}")) for name in ("ewc", "swap", "free")] == [
        "sft,anchor=ewc",
        "sft,anchor=swap",
        "sft",
    ]


@given(weight=st.floats(0.01, 100), step=st.floats(-1, 1))
def test_the_cost_of_weights_is_half_their_squared_distance(weight: float, step: float) -> None:
    model = torch.nn.Linear(3, 2)
    penalty = Penalty(model, weight)
    assert penalty.cost(model).item() == 0
    with torch.no_grad():
        for value in model.parameters():
            value.add_(step)
    assert penalty.cost(model).item() == pytest.approx(weight / 2 * 8 * step**2, rel=1e-4)
    for slope in torch.autograd.grad(penalty.cost(model), list(model.parameters())):
        assert torch.allclose(slope, torch.full_like(slope, weight * step), rtol=1e-4, atol=1e-6)


def test_the_importance_of_a_weight_is_its_mean_squared_gradient(trained: Path) -> None:
    policy, texts = fresh(trained), right()[:5]
    policy.model.requires_grad_(True)
    found = fisher(policy, texts, 2**15)
    expected = {name: torch.zeros_like(value) for name, value in trainable(policy.model).items()}
    for text in texts:
        _, logits, labels = scored(policy, [text])
        told = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        slopes = torch.autograd.grad((told * (labels != IGNORED)).sum(), list(policy.model.parameters()))
        for name, slope in zip(expected, slopes, strict=True):
            expected[name] += slope**2 / len(texts)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-7), name


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8), st.data())
def test_where_labels_are_swapped_the_right_one_is_the_likeliest_and_nothing_is_lost(
    values: list[float], data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(values) - 1))
    logits = torch.tensor([values])
    made = swapped(logits, torch.tensor([label]))
    assert made[0].sort().values.tolist() == logits[0].sort().values.tolist()
    assert float(made[0, label]) == max(logits[0].tolist())
    assert int((made != logits).sum()) in (0, 2)


@given(xi=st.floats(0, 2))
def test_the_loss_goes_from_the_labels_to_the_teacher_and_beyond(trained: Path, xi: float) -> None:
    policy = fresh(trained)
    inputs, logits, labels = scored(policy, right()[:3])
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    probable = logits.detach().softmax(-1)
    entropy = -(probable * probable.log()).sum(-1) * (labels != IGNORED)
    found = Taught(frozen(policy), xi, as_said).losses(plain, logits, labels, inputs)
    assert torch.allclose(found, xi * entropy + (1 - xi) * plain, atol=1e-5)


def test_a_policy_that_is_its_own_teacher_has_nothing_to_learn(trained: Path) -> None:
    policy = fresh(trained)
    policy.model.requires_grad_(True)
    inputs, logits, labels = scored(policy, right()[:3])
    losses = Taught(frozen(policy), 1.0, as_said).losses(torch.zeros(labels.shape), logits, labels, inputs)
    slopes = torch.autograd.grad(losses.sum(), list(policy.model.parameters()))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-5


def test_an_anchor_keeps_weights_nearer_to_their_start(trained: Path, finetuned: Finetuned) -> None:
    methods = ("sft", "sft,anchor=l2,anchor.weight=10", "sft,anchor=l2,anchor.weight=1000")
    far = [
        moved(finetuned(trained, f"a{number}", right(), method=method, steps=12), trained)
        for number, method in enumerate(methods)
    ]
    assert far[0] > far[1] > far[2] > 0


def test_the_loss_of_a_batch_in_parts_holds_the_anchor_once(trained: Path, finetuned: Finetuned) -> None:
    whole, parts = (
        finetuned(trained, f"in {n}", right(), method="sft,anchor=l2,anchor.weight=1000", accumulate=n) for n in (1, 4)
    )
    assert moved(whole, trained) == pytest.approx(moved(parts, trained), rel=1e-3)


def test_swapped_labels_teach_something_else_than_plain_ones(trained: Path, finetuned: Finetuned) -> None:
    plain, swap = (finetuned(trained, name, right(), method=f"sft,anchor={name}") for name in ("free", "swap"))
    assert plain.metadata["digest"] != swap.metadata["digest"]


def test_a_policy_distilled_by_itself_with_no_weight_on_the_teacher_is_the_plain_one(
    trained: Path, finetuned: Finetuned
) -> None:
    plain, none, whole, beyond = (
        finetuned(trained, f"m{number}", right(), method=method, weight_decay=0.0)
        for number, method in enumerate(
            ("sft", "self-distilled,xi=0", "self-distilled", "self-distilled,xi=1.5"),
        )
    )
    assert moved(none, trained) == pytest.approx(moved(plain, trained), rel=1e-4)
    assert len({each.metadata["digest"] for each in (plain, whole, beyond)}) == 3


def test_an_anchor_on_what_matters_is_refused_without_earlier_examples(trained: Path, finetuned: Finetuned) -> None:
    with pytest.raises(UserError, match="there are none: give a replay pool or seed data, or choose 'l2'"):
        finetuned(trained, "alone", right(), method="sft,anchor=ewc")


@given(st.integers(0, 12), st.integers(0, 5))
def test_earlier_examples_are_different_and_as_many_as_there_are(
    tmp_path_factory: pytest.TempPathFactory, number: int, there: int
) -> None:
    place = tmp_path_factory.mktemp("earlier")
    texts = {name: [Example(f"{name}{n}", 1, "1+1=", "2", 0) for n in range(there)] for name in ("pool", "seed")}
    sources = {
        "newest": "nowhere",
        "replay_pool": sealed_table(place / "pool", Example, texts["pool"]).path,
        "seed_data": sealed_table(place / "seed", Example, texts["seed"]).path,
    }
    usable = dict.fromkeys(("replay_pool", "seed_data"), np.arange(there))
    made = earlier(FinetuneParams(), sources, usable, number)
    assert len({e.task for e in made}) == len(made) == min(number, 2 * there)
