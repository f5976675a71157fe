"""Supervised training, on transformers' ``Trainer``.

On the same batches of a small policy, TRL's ``SFTTrainer`` takes 1.2 times as long a step
(``tests/benchmarks/trainers.py``), most of it for metrics that nobody reads here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from selfloop.errors import UserError
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.holding import Hold, Taught, as_said, frozen
from selfloop.finetune.offline.methods import GivenExamples, TrainedOn
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
    """The weights of the texts in the loss, and what holds the training."""

    hold = Hold()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss of the learnt tokens of the whole step, each multiplied by the weight of its text, and the cost
        of what holds the training, once a step.
        """
        weights = inputs.pop("weights", None)
        if weights is None and self.hold.idle:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")[:, 1:]
        logits = model(**inputs).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        losses = self.hold.losses(losses.view_as(labels), logits, labels, inputs)
        losses = losses if weights is None else losses * weights[:, 1:]
        share = self.accelerator.num_processes / num_items_in_batch
        return losses.sum() * share + self.hold.cost(self.model) / self.plan.accumulate


def train(
    policy: Policy, data: Encoded, plan: Plan, after_step: Callable[[int], bool] = never, hold: Hold | None = None
) -> Trained:
    """Train a policy in place on ``data`` in its order; ``after_step`` ends the training early by returning true.

    Raises ``UserError`` for a ``hold`` where processes share the weights out among them.
    """
    data.check_learnable()
    trainer = Supervised(
        model=policy.model.train(),
        args=TrainingArguments(**plan.arguments()),
        data_collator=lambda batch: batch,
        train_dataset=data,
    )
    trainer.hold = hold or trainer.hold
    if not trainer.hold.idle and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise UserError("FSDP and DeepSpeed share weights out, which an anchor needs whole: choose the anchor 'free'.")
    is_small = is_plain(policy.model) and plan.accumulate * processes() == 1
    if is_small and trainer.hold.idle and not data.packing and not plan.bf16:
        trainer.halves = Halves(list(policy.model.parameters()), trainer.part_loss)
    try:
        return fit(trainer, plan, data, after_step)
    finally:
        if trainer.halves:
            trainer.halves.close()


def distilled_by_itself(given: GivenExamples, xi: float) -> TrainedOn:
    """Train a teacher on the examples, then the policy from the same start on both: ``xi`` is the teacher's weight."""
    policy, plan = given.policy, given.plan
    teacher = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    data = Encoded(policy, given.examples, given.order, given.params.max_length)
    train(teacher, data, replace(plan, place=plan.place / "teacher", moments=None))
    hold = Taught(frozen(teacher), xi, as_said)
    return TrainedOn(train(policy, data, plan, hold=hold), data)


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
