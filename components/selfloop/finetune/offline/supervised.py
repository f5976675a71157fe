"""Supervised training, on transformers' ``Trainer``.

On the same batches of a small policy, TRL's ``SFTTrainer`` takes 1.2 times as long a step
(``tests/benchmarks/trainers.py``), most of it for metrics that nobody reads here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.running.halves import Batch, Halves
from selfloop.finetune.running.training import Guarded, Plan, Trained, fit, never, processes
from selfloop.generate.engines.llama import is_plain
from selfloop.policy import Policy


class Halved(Trainer):
    """transformers' ``Trainer``, which makes a step of a small policy in two parts at once."""

    halves: Halves | None = None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a step; its gradient is in the weights."""
        if self.halves is None:
            whole: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return whole
        return torch.tensor(self.halves.gradient(inputs, int(num_items_in_batch)))

    def part_loss(self, part: Batch, items: int) -> torch.Tensor:
        """What a part of a step's texts adds to its loss."""
        loss: torch.Tensor = self.compute_loss(self.model, dict(part), num_items_in_batch=items)
        return loss


class Supervised(Guarded, Halved):
    """The weights of the texts in the loss."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss of the learnt tokens of the whole step, each multiplied by the weight of its text."""
        weights = inputs.pop("weights", None)
        if weights is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")[:, 1:]
        logits = model(**inputs).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        share = self.accelerator.num_processes / num_items_in_batch
        return (losses * weights[:, 1:].flatten()).sum() * share


def train(policy: Policy, data: Encoded, plan: Plan, after_step: Callable[[int], bool] = never) -> Trained:
    """Train a policy in place on ``data`` in its order; ``after_step`` ends the training early by returning true."""
    data.check_learnable()
    trainer = Supervised(
        model=policy.model.train(),
        args=TrainingArguments(**plan.arguments()),
        data_collator=lambda batch: batch,
        train_dataset=data,
    )
    if is_plain(policy.model) and not data.packing and plan.accumulate * processes() == 1 and not plan.bf16:
        trainer.halves = Halves(list(policy.model.parameters()), trainer.part_loss)
    try:
        return fit(trainer, plan, data, after_step)
    finally:
        if trainer.halves:
            trainer.halves.close()


@torch.inference_mode()
def solved_by_level(policy: Policy, data: Encoded, levels: Sequence[int], batch_size: int = 1024) -> dict[int, float]:
    """The share of completions, by level, that greedy decoding gives exactly, end token included.

    Greedy decoding reproduces a text exactly when each of its tokens is the most likely one after those before it, so
    one forward pass tells.
    """
    policy.model.eval()
    right: list[np.ndarray[Any, Any]] = []
    for first in range(0, len(levels), batch_size):
        batch = data.batch(np.arange(first, min(first + batch_size, len(levels))))
        batch = {name: values.to(policy.model.device) for name, values in batch.items()}
        labels = batch.pop("labels")[:, 1:]
        best = policy.model(**batch).logits[:, :-1].argmax(-1)
        right.append(((best == labels) | (labels == IGNORED)).all(dim=1).cpu().numpy())
    policy.model.train()
    solved, known = np.concatenate(right), np.asarray(levels)
    return {int(level): float(solved[known == level].mean()) for level in np.unique(known)}
