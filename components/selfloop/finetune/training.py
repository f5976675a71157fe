"""The supervised trainer under ``pretrain`` and ``finetune``: transformers' ``Trainer`` on batches drawn beforehand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from selfloop import progress
from selfloop.policy import Policy, position_ids

if TYPE_CHECKING:
    from selfloop.records import Example

IGNORED = -100


class Encoded(Dataset[dict[str, torch.Tensor]]):
    """Texts as tokens, encoded once. A whole batch is gathered at a time; the loss sees only completions."""

    def __init__(
        self, policy: Policy, examples: Sequence[Example], order: Sequence[int] | np.ndarray[Any, Any]
    ) -> None:
        tokenizer, eos = policy.tokenizer, policy.tokenizer.eos_token or ""
        prompts = policy.encode([e.prompt for e in examples])
        answers = tokenizer([e.completion + eos for e in examples], add_special_tokens=False)["input_ids"]
        whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        self._policy, self._order = policy, np.asarray(order)
        self._lengths = np.array([len(row) for row in whole])
        self._prompts = np.array([len(row) for row in prompts])
        self._tokens = np.full((len(whole), self._lengths.max(initial=1)), tokenizer.pad_token_id, dtype=np.int32)
        for row, tokens in enumerate(whole):
            self._tokens[row, : len(tokens)] = tokens

    def __len__(self) -> int:
        return len(self._order)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        return self.batch(self._order[indices])

    def batch(self, rows: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
        """Right-padded tensors of shape (batch, length): input_ids, attention_mask, labels, position_ids."""
        longest = self._lengths[rows].max()
        tokens = torch.from_numpy(self._tokens[rows, :longest].astype(np.int64))
        index = np.arange(longest)
        real = torch.from_numpy(index < self._lengths[rows, None])
        learnt = real & torch.from_numpy(index >= self._prompts[rows, None])
        made = {"input_ids": tokens, "attention_mask": real.long(), "labels": tokens.where(learnt, IGNORED)}
        positions = position_ids(self._policy, tokens, made["attention_mask"])
        return made if positions is None else made | {"position_ids": positions}


class Reports(TrainerCallback):
    """Sends each step to whoever watches the stage, and asks ``after_step`` whether training is over."""

    def __init__(self, after_step: Callable[[int], bool] | None) -> None:
        self._after_step = after_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step, and stop where training is over."""
        progress.report(state.global_step, state.max_steps, "steps")
        if self._after_step is not None and self._after_step(state.global_step):
            control.should_training_stop = True


def train(
    policy: Policy,
    data: Encoded,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    schedule: Callable[[int], float],
    weight_decay: float,
    seed: int,
    after_step: Callable[[int], bool] | None = None,
) -> dict[str, float]:
    """Train a policy in place on ``data`` in its order. Returns the trainer's own metrics.

    ``schedule`` maps a step to a factor on ``lr``; ``after_step`` ends the training early by returning true.
    """
    model = policy.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                max_steps=steps,
                per_device_train_batch_size=batch_size,
                max_grad_norm=1.0,
                train_sampling_strategy="sequential",
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=seed % 2**32,
            ),
            data_collator=lambda batch: batch,
            train_dataset=data,
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)),
            callbacks=[Reports(after_step)],
        )
        trainer.remove_callback(PrinterCallback)
        metrics = trainer.train().metrics
    model.eval()
    return {name: float(value) for name, value in metrics.items()}


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
        labels = batch.pop("labels")[:, 1:]
        best = policy.model(**batch).logits[:, :-1].argmax(-1)
        right.append(((best == labels) | (labels == IGNORED)).all(dim=1).numpy())
    policy.model.train()
    solved, known = np.concatenate(right), np.asarray(levels)
    return {int(level): float(solved[known == level].mean()) for level in np.unique(known)}
