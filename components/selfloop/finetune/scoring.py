"""The log-probabilities of attempts as tensors; the attempts of a group share their prompt, which is read once.

A group stands in one row then, its prompt first, and no attempt sees another: the same numbers from about half the
tokens, which is what a step of a small policy costs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfloop.finetune.practice import Tried
from selfloop.policy import Policy, position_ids

SHARING = ("llama",)
"""Kinds of models whose every layer attends as the mask says, and counts positions as it is told."""


class Batch(NamedTuple):
    """Attempts as tensors (rows, tokens): prompts padded on the left, completions on the right. ``mask`` covers both,
    ``own`` the completion's tokens that the policy wrote; ``positions`` are those of a scheme of its own.
    """

    tokens: Tensor
    mask: Tensor
    own: Tensor
    positions: Tensor | None

    def rows(self, chosen: Tensor) -> Batch:
        """Some of the rows."""
        positions = None if self.positions is None else self.positions[chosen]
        return Batch(self.tokens[chosen], self.mask[chosen], self.own[chosen], positions)

    @property
    def width(self) -> int:
        """The tokens of the longest prompt."""
        return self.tokens.shape[1] - self.own.shape[1]


def batched(policy: Policy, tried: Tried) -> Batch:
    """The attempts of a draw as one batch."""
    attempts, pad = tried.attempts, policy.tokenizer.pad_token_id or 0
    width = max(len(each.prompt) for each in attempts)
    length = max(len(each.completion) for each in attempts)
    tokens, mask, own = [], [], []
    for prompt, completion, written in ((each.prompt, each.completion, each.own) for each in attempts):
        before, after = width - len(prompt), length - len(completion)
        tokens.append([pad] * before + prompt + completion + [pad] * after)
        mask.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * after)
        own.append([float(each) for each in written] + [0.0] * after)
    device = policy.model.device
    ids, covered = torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
    return Batch(ids, covered, torch.tensor(own, device=device), position_ids(policy, ids, covered))


def logprobs(policy: Policy, batch: Batch, temperature: float) -> Tensor:
    """Log-probabilities of the completions' tokens (rows, tokens), of the distribution that they were drawn from."""
    groups = Groups.of(batch)
    logits = together(policy, groups) if worth_it(policy, groups) else apart(policy, batch)
    logits = logits.float() / temperature
    chosen = logits.gather(2, batch.tokens[:, batch.width :, None])[..., 0]
    made: Tensor = chosen - logits.logsumexp(2)
    return made


def apart(policy: Policy, batch: Batch) -> Tensor:
    """Logits of the completions' tokens (rows, tokens, vocabulary), each attempt behind a prompt of its own."""
    given = {} if batch.positions is None else {"position_ids": batch.positions}
    logits: Tensor = policy.model(batch.tokens, attention_mask=batch.mask, use_cache=False, **given).logits
    return logits[:, batch.width - 1 : -1]


class Groups(NamedTuple):
    """A batch by prompts: the group of each row (rows), its place there (rows), and each group's first row (groups)."""

    batch: Batch
    group: Tensor
    place: Tensor
    first: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Groups:
        """Rows that follow one another with the same prompt are a group."""
        prompts = torch.where(batch.mask == 1, batch.tokens, -1)[:, : batch.width]
        _, group, counts = torch.unique_consecutive(prompts, dim=0, return_inverse=True, return_counts=True)
        first = counts.cumsum(0) - counts
        return cls(batch, group, torch.arange(len(group), device=group.device) - first[group], first)

    @property
    def places(self) -> int:
        """The attempts of the largest group."""
        return int(self.place.max()) + 1

    def joined(self, values: Tensor) -> Tensor:
        """Values of a batch (rows, tokens) as (groups, tokens of the prompt and of all attempts); 0 where none is."""
        width, length = self.batch.width, self.batch.own.shape[1]
        behind = values.new_zeros(len(self.first), self.places, length)
        behind[self.group, self.place] = values[:, width:]
        return torch.cat([values[self.first, :width], behind.flatten(1)], 1)


def worth_it(policy: Policy, groups: Groups) -> bool:
    """Whether groups in one row each cost less: fewer tokens to compute, more pairs of them to attend to.

    A layer multiplies a token by about 12 squares of its width, and a pair by 2 times its width.
    """
    config, width, length = policy.model.config, groups.batch.width, groups.batch.own.shape[1]
    if config.model_type not in SHARING:
        return False
    pairs = (width + groups.places * length) ** 2 - groups.places * (width + length) ** 2
    return pairs < 6 * int(config.hidden_size) * (groups.places - 1) * width


def together(policy: Policy, groups: Groups) -> Tensor:
    """Logits as ``apart`` gives them, of a model that reads each group's prompt once."""
    batch, width, length = groups.batch, groups.batch.width, groups.batch.own.shape[1]
    counted = (batch.mask.cumsum(1) - 1).clamp(min=0) if batch.positions is None else batch.positions
    logits = policy.model(
        groups.joined(batch.tokens),
        attention_mask=seen(groups),
        position_ids=groups.joined(counted),
        use_cache=False,
    ).logits
    behind = logits[:, width:].unflatten(1, (groups.places, length))[:, :, :-1]
    begin = logits[:, None, width - 1 : width].expand(-1, groups.places, -1, -1)
    made: Tensor = torch.cat([begin, behind], 2)[groups.group, groups.place]
    return made


def seen(groups: Groups) -> Tensor:
    """What each token attends to (groups, 1, tokens, tokens): itself, the prompt and its own attempt before it."""
    width, length, device = groups.batch.width, groups.batch.own.shape[1], groups.batch.tokens.device
    number = torch.arange(width + groups.places * length, device=device)
    attempt = torch.where(number < width, -1, (number - width) // length)
    same = (attempt == -1) | (attempt[:, None] == attempt)
    before = same & (number <= number[:, None])
    real = groups.joined(groups.batch.mask) == 1
    return ((before & real[:, None]) | (number == number[:, None]))[:, None]
