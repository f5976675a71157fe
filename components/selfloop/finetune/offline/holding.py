"""What holds a supervised training, at work: costs of weights that move, and labels that a frozen policy gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.running.training import trainable
from selfloop.policy import Policy
from selfloop.records import Example


class Hold:
    """Nothing: examples are learnt as they are."""

    idle = True
    """Whether it changes nothing."""

    def losses(self, losses: Tensor, logits: Tensor, labels: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The loss of each token, (batch, length), from that of its label; 0 where there is no label."""
        return losses

    def cost(self, model: Any) -> Tensor | float:
        """What is added to the loss of a step."""
        return 0.0


class Penalty(Hold):
    """``weight`` / 2 times the sum of squared distances from the start, each times its weight's importance."""

    idle = False

    def __init__(self, model: Any, weight: float, importance: Mapping[str, Tensor] | None = None) -> None:
        self._weight, self._importance = weight, importance
        self._start = {name: value.detach().clone() for name, value in trainable(model).items()}

    def cost(self, model: Any) -> Tensor:
        """The cost of where the weights are now."""
        moved = {name: (value - self._start[name].to(value.device)) ** 2 for name, value in trainable(model).items()}
        if self._importance is not None:
            moved = {name: self._importance[name].to(value.device) * value for name, value in moved.items()}
        return self._weight / 2 * torch.stack([each.sum() for each in moved.values()]).sum()


class Taught(Hold):
    """``share`` of the loss is the cross-entropy to what a frozen policy says, as ``said`` makes it of its logits and
    the labels; 1 - ``share`` that of the labels. Above 1 the labels themselves are trained away from.
    """

    idle = False

    def __init__(self, teacher: Any, share: float, said: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._teacher, self._share, self._said = teacher, share, said

    def losses(self, losses: Tensor, logits: Tensor, labels: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The loss of each token under both kinds of labels."""
        with torch.no_grad():
            told = self._teacher.to(logits.device)(**inputs).logits[:, :-1].float()
        probable = self._said(told, labels.clamp(min=0)).softmax(-1)
        taught = -(probable * logits.log_softmax(-1)).sum(-1).where(labels != IGNORED, 0.0)
        return self._share * taught + (1 - self._share) * losses


def as_said(logits: Tensor, labels: Tensor) -> Tensor:
    """The teacher's logits as they are."""
    return logits


def swapped(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (..., vocabulary) in which each label's and the highest have changed places."""
    right, (highest, place) = logits.gather(-1, labels[..., None]), logits.max(-1, keepdim=True)
    return logits.scatter(-1, place, right).scatter(-1, labels[..., None], highest)


def frozen(policy: Policy) -> Any:
    """A copy of a policy's model that does not change."""
    return copy.deepcopy(policy.model).eval().requires_grad_(False)


def fisher(policy: Policy, texts: Sequence[Example], max_length: int) -> dict[str, Tensor]:
    """The mean over texts of the squared gradient of a text's log-probability, by weight: the empirical diagonal."""
    data, model = Encoded(policy, texts, range(len(texts)), max_length), policy.model.eval()
    weights = trainable(model)
    made = {name: torch.zeros_like(value) for name, value in weights.items()}
    for row in data.order:
        batch = {name: values.to(model.device) for name, values in data.batch(np.array([row])).items()}
        labels = batch.pop("labels")[:, 1:]
        told = model(**batch).logits[:, :-1].float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(told, labels.flatten(), ignore_index=IGNORED, reduction="sum")
        for name, slope in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            made[name] += slope**2 / len(data.order)
    return made
