"""Negative-aware fine-tuning: learn from good and bad completions of the policy's own, each by its group's rate.

NFT (Chen et al., arXiv:2505.18116): with R = pi / pi_old of a token and r the share of good completions in the group,
positives cost -log R, negatives -log of the implicit negative policy's ratio, (1 - r R) / (1 - r). Values below a floor
are lifted to it without stopping the gradient. On-policy the gradient is that of GRPO (weight sqrt((1-r)/r)) or of
Dr. GRPO (weight 1-r).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from trl import SFTConfig, SFTTrainer

from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.methods import GivenExamples, TrainedOn
from selfloop.finetune.offline.trl_data import Prepared, collator, places
from selfloop.finetune.running.training import Guarded, fit, memory_watched

LOWEST, HIGHEST = 0.02, 0.98
LOG_RATIO = 10.0
POSITIVE_FLOOR = 1e-6

WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "1": torch.ones_like,
    "1-r": lambda rate: 1 - rate,
    "sqrt((1-r)/r)": lambda rate: ((1 - rate) / rate).sqrt(),
}


def lifted(values: torch.Tensor, floor: float) -> torch.Tensor:
    """Values, not below a floor, with the gradient that they have without it."""
    return (values.clamp(min=floor) - values).detach() + values


def nft_loss(
    new: torch.Tensor,
    old: torch.Tensor,
    mask: torch.Tensor,
    good: torch.Tensor,
    rate: torch.Tensor,
    *,
    weight: str = "1-r",
    negative: float = 1.0,
    epsilon: float = 1.0,
    normalizer: float = 1000.0,
) -> torch.Tensor:
    """The mean over texts of a text's weighted sum over its tokens, divided by ``normalizer``.

    ``new`` and ``old`` are log-probabilities of tokens (batch, length), ``mask`` says which of them count; ``good`` and
    ``rate`` are of shape (batch,).
    """
    rate = rate.clamp(LOWEST, HIGHEST)[:, None]
    ratio = (new - old).clamp(max=LOG_RATIO).exp()
    positive = -lifted(ratio, POSITIVE_FLOOR).log()
    negatives = -lifted((1 - rate * ratio) / (1 - rate), epsilon).log()
    losses = torch.where(good[:, None], positive, negative * negatives) * WEIGHTS[weight](rate)
    return (losses * mask).sum() / normalizer / len(new)


class NFT(Guarded, Prepared, SFTTrainer):
    """TRL's ``SFTTrainer`` with the loss above. ``options`` are those of ``nft_loss``."""

    loss_is_scaled_for_ga = False
    options: dict[str, Any]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch."""
        old, good, rate = (inputs.pop(name) for name in ("old", "good", "rate"))
        weights = inputs.pop("weights")
        new = logprobs(model, inputs)
        mask = (inputs["labels"][:, 1:] != IGNORED) * weights[:, None]
        return nft_loss(new, old, mask, good, rate, **self.options)


def logprobs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The log-probabilities of the learnt tokens, (batch, length - 1), 0 elsewhere; TRL's head has been put on."""
    outputs = model(**batch, use_cache=False, fused_lm_head=True)
    return outputs.log_probs  # type: ignore[no-any-return]


@torch.no_grad()
def before(trainer: NFT, data: Encoded, size: int) -> np.ndarray[Any, Any]:
    """The log-probability of each learnt token under the policy that the training starts from, as ``data.tokens``."""
    known = np.zeros(len(data.tokens), np.float32)
    model = trainer.model.eval()
    rows = np.argsort(data.lengths, kind="stable")
    for first in range(0, len(rows), size):
        here = rows[first : first + size]
        batch = {name: values.to(model.device) for name, values in data.batch(here).items()}
        with trainer.accelerator.autocast():
            found = logprobs(model, batch).float().cpu().numpy()
        for row, of_row in zip(here, found, strict=True):
            begins, length = data.starts[row], data.lengths[row]
            known[begins + 1 : begins + length] = of_row[: length - 1]
    model.train()
    return known


def train_nft(given: GivenExamples, options: dict[str, Any]) -> TrainedOn:
    """Learn from good and bad completions of groups that are partly good; ``options`` are those of ``nft_loss``."""
    params, policy, examples, order, plan, _ = given
    data = Encoded(policy, examples, order, params.max_length)
    good, rate = torch.tensor([e.good for e in examples]), torch.tensor([e.rate for e in examples]).float()
    old = np.empty(0, np.float32)

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        made = data.batch(rows)
        width = made["input_ids"].shape[1]
        flat = data.starts[rows, None] + np.minimum(np.arange(1, width), data.lengths[rows, None] - 1)
        made |= {"old": torch.from_numpy(old[flat]), "good": good[rows], "rate": rate[rows]}
        return made | {"weights": torch.from_numpy(data.weights[rows])}

    trainer = NFT(
        model=policy.model.train(),
        args=SFTConfig(**plan.arguments(), dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    trainer.options = options
    with memory_watched(plan, data):
        old = before(trainer, data, params.batch_size)
    return TrainedOn(fit(trainer, plan, data), data)
