"""What a policy's last layer makes of attempts: a vector for each, which says what an attempt is like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from selfloop.chats import tokens_of
from selfloop.finetune.online.packed_batch import batched
from selfloop.policy import Policy
from selfloop.records import Rollout
from selfloop.records import batched as parts


class Read(NamedTuple):
    """An attempt's tokens, all of which are read."""

    prompt: list[int]
    completion: list[int]
    own: list[bool]


def representations(
    policy: Policy, rollouts: Sequence[Rollout], batch_size: int, of: Literal["all tokens", "the last token"]
) -> Tensor:
    """Vectors (attempts, width) of float64: the mean of the last hidden states of a completion's tokens, its end among
    them, or the state of the last one before the end.
    """
    prompts = policy.encode([each.prompt for each in rollouts])
    written = tokens_of(policy.tokenizer, [each.completion for each in rollouts])
    ended = [of == "all tokens" and each.finished for each in rollouts]
    ends = [policy.ends[:1] * (end or not row) for end, row in zip(ended, written, strict=True)]
    read = [Read(a, b + c, [True] * len(b + c)) for a, b, c in zip(prompts, written, ends, strict=True)]
    return torch.cat([_read(policy, some, of) for some in parts(read, batch_size)])


@torch.inference_mode()
def _read(policy: Policy, attempts: Sequence[Read], of: str) -> Tensor:
    batch = batched(policy, attempts)
    given = {} if batch.positions is None else {"position_ids": batch.positions}
    body: Any = policy.model.base_model
    read: Tensor = body(batch.tokens, attention_mask=batch.mask, use_cache=False, **given).last_hidden_state
    states, own = read[:, batch.width :].double(), batch.own.double()
    if of == "the last token":
        last = own.sum(1).long() - 1
        return states[torch.arange(len(states), device=states.device), last].cpu()
    return ((states * own[..., None]).sum(1) / own.sum(1, keepdim=True)).cpu()
