"""The log-probabilities of attempts as tensors; the attempts of a group share their prompt, which is read once.

Groups stand in lines then, each prompt before its attempts, and no attempt sees another: the same numbers from less
than half the tokens, which is what a step of a small policy costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfloop.finetune.practice import Tried
from selfloop.llama import Llama, added, is_plain
from selfloop.policy import Policy, position_ids

if TYPE_CHECKING:
    Table = np.ndarray[Any, Any]

SHARING = ("llama",)
"""Kinds of models whose every layer attends as the mask says, and counts positions as it is told."""
LINE = 64
"""Tokens of a line at most, unless a group has more: what there is to attend to grows with it."""


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
    tokens = np.full((len(attempts), width + length), pad)
    mask, own = np.zeros_like(tokens), np.zeros((len(attempts), length), np.float32)
    for row, (_, prompt, completion, written) in enumerate(attempts):
        whole = slice(width - len(prompt), width + len(completion))
        tokens[row, whole], mask[row, whole], own[row, : len(written)] = prompt + completion, 1, written
    ids, covered, ours = (torch.from_numpy(each).to(policy.model.device) for each in (tokens, mask, own))
    return Batch(ids, covered, ours, position_ids(policy, ids, covered))


def logprobs(policy: Policy, batch: Batch, temperature: float) -> Tensor:
    """Log-probabilities of the completions' tokens (rows, tokens), of the distribution that they were drawn from."""
    lines = Lines.of(batch)
    logits, before = together(policy, lines) if worth_it(policy, batch, lines) else apart(policy, batch)
    made: Tensor = (logits.float() / temperature).log_softmax(1)[before, batch.tokens[:, batch.width :]]
    return made


def apart(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of some tokens (places, vocabulary), and which of these places those of each completion's tokens are
    (rows, tokens): each attempt is read behind a prompt of its own.
    """
    given = {} if batch.positions is None else {"position_ids": batch.positions}
    logits: Tensor = policy.model(batch.tokens, attention_mask=batch.mask, use_cache=False, **given).logits
    logits = logits[:, batch.width - 1 : -1]
    places = torch.arange(batch.own.numel(), device=logits.device)
    return logits.flatten(0, 1), places.view_as(batch.own)


class Lines(NamedTuple):
    """A batch without padding: each prompt once for its group, no token that none comes behind, groups in shared lines.

    ``tokens`` and ``positions`` (lines, tokens), what each token has ``seen`` (lines, 1, tokens, tokens), and the place
    of the token ``before`` each of the completions' (rows, tokens), counted through all lines.
    """

    tokens: Tensor
    positions: Tensor
    seen: Tensor
    before: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Lines:
        """Rows that follow one another with the same prompt are a group."""
        width, tokens, real = batch.width, batch.tokens.numpy(force=True), batch.mask.numpy(force=True) == 1
        positions = real.cumsum(1) - 1 if batch.positions is None else batch.positions.numpy(force=True)
        prompts = np.where(real, tokens, -1)[:, :width]
        leads = np.append(True, (prompts[1:] != prompts[:-1]).any(1))
        needed = np.zeros_like(real)
        needed[leads, :width], needed[:, width:-1] = real[leads, :width], real[:, width + 1 :]
        row, column = needed.nonzero()
        group = leads.cumsum()
        attempt = np.where(column < width, 0, row + 1)
        lines = cut(np.bincount(group[row]).cumsum().tolist())
        place = np.concatenate([np.arange(size) + n * max(lines) for n, size in enumerate(lines)])

        def laid(values: Table) -> Tensor:
            whole = np.zeros(len(lines) * max(lines), np.int64)
            whole[place] = values
            return torch.from_numpy(whole).view(len(lines), -1).to(batch.tokens.device)

        number = place[needed.cumsum().reshape(needed.shape) - 1]
        last = number[leads, width - 1][group - 1]
        before = torch.from_numpy(np.column_stack([last, number[:, width:-1]])).to(batch.tokens.device)
        seen = visible(laid(group[row]), laid(attempt))
        return cls(laid(tokens[row, column]), laid(positions[row, column]), seen, before)


def cut(ends: Sequence[int]) -> list[int]:
    """The tokens of each line, where groups end at these, the first at 0."""
    starts = [0]
    for before, end in pairwise(ends):
        if end - starts[-1] > LINE and before > starts[-1]:
            starts.append(before)
    return [end - start for start, end in pairwise([*starts, ends[-1]])]


def visible(group: Tensor, attempt: Tensor) -> Tensor:
    """What each token sees (lines, 1, tokens, tokens) of its group: the prompt, attempt 0, and its own, to itself."""
    prompt_or_own = (attempt[:, None] == 0) | (attempt[:, None] == attempt[:, :, None])
    return (prompt_or_own & (group[:, None] == group[:, :, None])).tril()[:, None]


def worth_it(policy: Policy, batch: Batch, lines: Lines) -> bool:
    """Whether lines cost less: fewer tokens to compute, perhaps more pairs of them to attend to.

    A layer multiplies a token by about 12 squares of its width, and a pair by 2 times its width.
    """
    config = policy.model.config
    of_token, shapes = 6 * int(config.hidden_size), (lines.tokens.shape, batch.tokens.shape)
    ours, theirs = (rows * length * (of_token + length) for rows, length in shapes)
    return config.model_type in SHARING and ours < theirs


def together(policy: Policy, lines: Lines) -> tuple[Tensor, Tensor]:
    """Logits and places as ``apart`` gives them, of lines."""
    if is_plain(policy.model):
        llama = Llama(policy.model)
        logits = llama.logits(llama.hidden(lines.tokens, added(lines.seen), lines.positions))
    else:
        seen, positions = lines.seen, lines.positions
        logits = policy.model(lines.tokens, attention_mask=seen, position_ids=positions, use_cache=False).logits
    return logits.flatten(0, 1), lines.before
