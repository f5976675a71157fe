"""The log-probabilities of attempts as tensors; what they have in common is read once.

What attempts of a group begin with alike, their prompt and more, stands once in a line, and no attempt sees another:
the same numbers from about a quarter of the tokens, which is what a step of a small policy costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from selfloop.generate.engines.llama import Llama, added, is_plain
from selfloop.policy import Policy, position_ids

if TYPE_CHECKING:
    Table = np.ndarray[Any, Any]

SHARING = ("llama",)
"""Kinds of models whose every layer attends as the mask says, and counts positions as it is told."""
LINE = 32
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


class Tokens(Protocol):
    """An attempt's tokens, and which of the completion's the policy wrote."""

    @property
    def prompt(self) -> list[int]:
        """What it answers."""
        ...

    @property
    def completion(self) -> list[int]:
        """What stands behind that."""
        ...

    @property
    def own(self) -> list[bool]:
        """Whether the policy wrote each of the completion's."""
        ...


def batched(policy: Policy, attempts: Sequence[Tokens]) -> Batch:
    """Attempts as one batch."""
    pad = policy.tokenizer.pad_token_id or 0
    width = max(len(each.prompt) for each in attempts)
    length = max(len(each.completion) for each in attempts)
    tokens = np.full((len(attempts), width + length), pad)
    mask, own = np.zeros_like(tokens), np.zeros((len(attempts), length), np.float32)
    for row, each in enumerate(attempts):
        whole = slice(width - len(each.prompt), width + len(each.completion))
        tokens[row, whole], mask[row, whole], own[row, : len(each.own)] = each.prompt + each.completion, 1, each.own
    ids, covered, ours = (torch.from_numpy(each).to(policy.model.device) for each in (tokens, mask, own))
    return Batch(ids, covered, ours, position_ids(policy, ids, covered))


def logprobs(policy: Policy, batch: Batch, temperature: float) -> Tensor:
    """Log-probabilities of the completions' tokens (rows, tokens), of the distribution that they were drawn from."""
    lines = PackedBatch.of(batch)
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


class Tree(NamedTuple):
    """Texts by what they begin with alike: each token's number, by that of the one before it and by itself."""

    numbers: dict[tuple[int, int], int]
    tokens: list[int]
    positions: list[int]
    parents: list[int]

    def grown(self, parent: int, tokens: Sequence[int], positions: Sequence[int]) -> int:
        """The number of the last of some tokens behind another, which may be there already."""
        for token, position in zip(tokens, positions, strict=True):
            number = self.numbers.setdefault((parent, token), len(self.tokens))
            if number == len(self.tokens):
                self.tokens.append(token)
                self.positions.append(position)
                self.parents.append(parent)
            parent = number
        return parent


class PackedBatch(NamedTuple):
    """A batch in which what attempts of a group begin with alike stands once; whole groups share a line.

    ``tokens`` and ``positions`` (lines, tokens), the place of each one's ``parent`` or -1, and that of the token
    ``before`` each of the completions' (rows, tokens). Places are counted through all lines.
    """

    tokens: Tensor
    positions: Tensor
    parents: list[int]
    before: Tensor

    @classmethod
    def of(cls, batch: Batch) -> PackedBatch:
        """Rows that follow one another with the same prompt are a group."""
        tree, ends, before = grown(batch)
        lines = cut(ends)
        place = np.concatenate([np.arange(size) + line * max(lines) for line, size in enumerate(lines)])
        laid = np.full((3, len(lines) * max(lines)), -1)
        parents = np.array(tree.parents)
        laid[:, place] = tree.tokens, tree.positions, np.where(parents < 0, -1, place[parents.clip(0)])
        tokens, positions = torch.from_numpy(laid[:2].clip(0)).view(2, len(lines), -1).to(batch.tokens.device)
        return cls(tokens, positions, laid[2].tolist(), torch.from_numpy(place[before]).to(tokens.device))

    def seen(self) -> Tensor:
        """What each token attends to (lines, 1, tokens, tokens): itself, and all that came before it in its text."""
        length = self.tokens.shape[1]
        seen = np.eye(length, dtype=bool)[np.arange(len(self.parents)) % length]
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] |= seen[parent]
        return torch.from_numpy(seen).view(-1, 1, length, length).to(self.tokens.device)


def grown(batch: Batch) -> tuple[Tree, list[int], Table]:
    """All tokens that others come behind, where those of each group end, and the number of the one before each of the
    completions' (rows, tokens).
    """
    width, ends, prompt = batch.width, list[int](), list[int]()
    tree, before = Tree({}, [], [], []), np.zeros(batch.own.shape, np.int64)
    counted = batch.mask.cumsum(1) - 1 if batch.positions is None else batch.positions
    begins, stops = width - batch.mask[:, :width].sum(1), width + batch.mask[:, width:].sum(1)
    columns = (each.tolist() for each in (batch.tokens, counted, begins, stops))
    for row, (tokens, positions, begin, stop) in enumerate(zip(*columns, strict=True)):
        if not row or tokens[begin:width] != prompt:
            prompt = tokens[begin:width]
            root = tree.grown(-1 - row, prompt, positions[begin:width])  # a number of its own: no two groups are alike
            ends.append(0)
        number = root
        for place, column in enumerate(range(width, stop)):
            before[row, place] = number
            if column + 1 < stop:
                number = tree.grown(number, tokens[column : column + 1], positions[column : column + 1])
        ends[-1] = len(tree.tokens)
    return tree, ends, before


def cut(ends: Sequence[int]) -> list[int]:
    """The tokens of each line, where groups end at these, the first at 0."""
    starts = [0]
    for before, end in pairwise(ends):
        if end - starts[-1] > LINE and before > starts[-1]:
            starts.append(before)
    return [end - start for start, end in pairwise([*starts, ends[-1]])]


def worth_it(policy: Policy, batch: Batch, lines: PackedBatch) -> bool:
    """Whether lines cost less: fewer tokens to compute, perhaps more pairs of them to attend to.

    A layer multiplies a token by about 12 squares of its width, and a pair by 2 times its width.
    """
    config = policy.model.config
    of_token, shapes = 6 * int(config.hidden_size), (lines.tokens.shape, batch.tokens.shape)
    ours, theirs = (rows * length * (of_token + length) for rows, length in shapes)
    return config.model_type in SHARING and ours < theirs


def together(policy: Policy, lines: PackedBatch) -> tuple[Tensor, Tensor]:
    """Logits and places as ``apart`` gives them, of lines."""
    if is_plain(policy.model):
        llama = Llama(policy.model)
        logits = llama.logits(llama.hidden(lines.tokens, added(lines.seen()), lines.positions))
    else:
        seen, positions = lines.seen(), lines.positions
        logits = policy.model(lines.tokens, attention_mask=seen, position_ids=positions, use_cache=False).logits
    return logits.flatten(0, 1), lines.before
