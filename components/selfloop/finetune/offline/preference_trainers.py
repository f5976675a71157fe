"""Better and worse completions: DPO on pairs, KTO on single ones. Both are TRL's trainers on texts encoded here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from selfloop.errors import UserError
from selfloop.finetune.offline.trl_data import Prepared, collator, masked, places
from selfloop.finetune.offline.encoding import Encoded
from selfloop.finetune.offline.finetuning import FinetuneParams
from selfloop.finetune.running.training import Guarded, Plan, Trained, fit, processes
from selfloop.policy import Policy
from selfloop.records import Example


class DPO(Guarded, Prepared, DPOTrainer):
    """TRL's ``DPOTrainer`` (Rafailov et al., arXiv:2305.18290); the reference is what the training starts from."""


class KTO(Guarded, Prepared, KTOTrainer):
    """TRL's ``KTOTrainer`` (Ethayarajh et al., arXiv:2402.01306); the reference is what the training starts from."""


def dpo(
    params: FinetuneParams, policy: Policy, examples: list[Example], order: Any, plan: Plan
) -> tuple[Trained, Encoded]:
    """Make the completion of each pair more likely, against its ``rejected`` one."""
    refuse_weights(examples, "dpo")
    worse = [e._replace(completion=e.rejected, observed="[]") for e in examples]
    data = Encoded(policy, [*examples, *worse], order, params.max_length)

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        return masked(data.batch(np.concatenate([rows, rows + len(examples)])))

    trainer = DPO(
        model=policy.model.train(),
        args=DPOConfig(**plan.arguments(), beta=params.beta, max_length=None),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    return fit(trainer, plan, data), data


def kto(
    params: FinetuneParams, policy: Policy, examples: list[Example], order: Any, plan: Plan
) -> tuple[Trained, Encoded]:
    """Make good completions more likely and the others less, against what mismatched ones of a batch show."""
    refuse_weights(examples, "kto")
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
        args=KTOConfig(**plan.arguments(), beta=params.beta, max_length=None),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    return fit(trainer, plan, data), data


def refuse_weights(examples: list[Example], method: str) -> None:
    """Refuse weights where a method has no place for them."""
    if any(e.weight != 1 for e in examples):
        raise UserError(
            f"Method '{method}' knows no weights, and the examples have some: choose sft or nft, or another filter."
        )
