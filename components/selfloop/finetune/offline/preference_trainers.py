"""Better and worse completions: DPO on pairs, KTO on single ones. Both are TRL's trainers on texts encoded here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from selfloop.errors import UserError
from selfloop.finetune.offline.encoding import Encoded
from selfloop.finetune.offline.methods import GivenExamples, TrainedOn
from selfloop.finetune.offline.trl_data import Prepared, collator, masked, places, rejected_sides
from selfloop.finetune.running.training import Guarded, fit, processes


class DPO(Guarded, Prepared, DPOTrainer):
    """TRL's ``DPOTrainer`` (Rafailov et al., arXiv:2305.18290); the reference is what the training starts from."""


class KTO(Guarded, Prepared, KTOTrainer):
    """TRL's ``KTOTrainer`` (Ethayarajh et al., arXiv:2402.01306); the reference is what the training starts from."""


def train_dpo(given: GivenExamples, beta: float) -> TrainedOn:
    """Make the completion of each pair more likely, against its ``rejected`` one."""
    params, policy, examples, order, plan, _ = given
    data = Encoded(policy, [*examples, *rejected_sides(examples)], order, params.max_length, paired=True)

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        return masked(data.batch(np.concatenate([rows, rows + len(examples)])))

    trainer = DPO(
        model=policy.model.train(),
        args=DPOConfig(**plan.arguments(), beta=beta, max_length=None),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    return TrainedOn(fit(trainer, plan, data), data)


def train_kto(given: GivenExamples, beta: float) -> TrainedOn:
    """Make good completions more likely and the others less, against what mismatched ones of a batch show."""
    params, policy, examples, order, plan, _ = given
    if hasattr(policy.model.config, "position_restarts"):
        raise UserError(
            "Method 'kto' cannot keep this policy's position scheme (config.position_restarts): choose sft, nft or dpo."
        )
    if params.batch_size // (params.accumulate * processes()) < 2:
        raise UserError("Method 'kto' compares the texts of a batch with each other: give a batch_size of 2 or more.")
    data = Encoded(policy, examples, order, params.max_length)
    good = torch.tensor([e.good for e in examples])

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        mismatched = {f"KL_{name}": values for name, values in masked(data.spliced(rows, np.roll(rows, 1))).items()}
        return masked(data.batch(rows)) | mismatched | {"label": good[rows]}

    trainer = KTO(
        model=policy.model.train(),
        args=KTOConfig(**plan.arguments(), beta=beta, max_length=None),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    return TrainedOn(fit(trainer, plan, data), data)
