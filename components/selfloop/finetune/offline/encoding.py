"""Texts as tokens, encoded once, and gathered a whole batch at a time; the loss sees what the policy wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from selfloop.errors import UserError
from selfloop.policy import Policy, position_ids
from selfloop.records import non_policy_spans

if TYPE_CHECKING:
    from selfloop.records import Example

    Column = np.ndarray[Any, Any]

IGNORED = -100


class Encoded(Dataset[dict[str, torch.Tensor]]):
    """Examples in the order in which a training sees them.

    The loss is on what the policy wrote of completions, as their segments say, and on the end of those that are
    finished, each text's multiplied by its weight. ``max_length`` and the policy's own context cut texts at their end;
    ``packing`` puts short ones into one row. Where nothing is left of a text to learn, others stand in its place.
    ``paired``: the second half of the examples are the worse sides of the first, and go with them.
    """

    def __init__(
        self,
        policy: Policy,
        examples: Sequence[Example],
        order: Sequence[int] | Column,
        max_length: int = 2**31,
        packing: bool = False,
        paired: bool = False,
    ) -> None:
        self.policy, self.examples, self.packing = policy, examples, packing
        prompts = policy.encode([e.prompt for e in examples])
        answers, learnt = answered(policy, examples)
        self.starts = np.cumsum([0, *(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))])
        self.tokens = np.fromiter(
            (token for pair in zip(prompts, answers, strict=True) for part in pair for token in part), np.int32
        )
        policy.check_known([self.tokens.max(initial=0)])
        self.learnt = np.zeros(len(self.tokens), bool)
        self.prompts = np.array([len(row) for row in prompts], dtype=np.int64)
        for row, of_row in enumerate(learnt):
            self.learnt[self.starts[row] + self.prompts[row] : self.starts[row + 1]] = of_row
        self.longest = min(max_length, policy.context)
        self.lengths = np.minimum(np.diff(self.starts), self.longest)
        self.prompts = np.minimum(self.prompts, self.lengths)
        self.cut = int((np.diff(self.starts) > self.longest).sum())
        self.order, self.left_out = self._learnable(np.asarray(order, np.int64), paired)
        self.weights = np.array([e.weight for e in examples], dtype=np.float32)
        self.weighted = bool((self.weights != 1).any())

    def _learnable(self, order: Column, paired: bool) -> tuple[Column, int]:
        """The order, in which texts of which nothing is learnt give way to the others in turn; how many do."""
        before, first = np.cumsum([0, *self.learnt]), self.starts[:-1]
        some = before[first + self.lengths] > before[first + np.minimum(self.lengths, 1)]  # nothing predicts the first
        if paired:
            some[: len(some) // 2] &= some[len(some) // 2 :]
        others, places = order[some[order]], np.flatnonzero(~some[order])
        if len(others):
            order = order.copy()
            order[places] = others[np.arange(len(places)) % len(others)]
        return (order if len(others) else others), len(places)

    def check_learnable(self) -> None:
        """Refuse texts of which nothing is left to learn."""
        if not len(self):
            remedy = "give shorter prompts" if self.longest == self.policy.context else "raise max_length"
            raise UserError(f"Cut at {self.longest} tokens no text has a token left that is learnt: {remedy}.")

    def __len__(self) -> int:
        return len(self.order)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        rows = self.order[indices]
        if self.packing:
            return self.packed(rows)
        made = self.batch(rows)
        if self.weighted:
            made["weights"] = torch.from_numpy(self.weights[rows])[:, None].expand_as(made["labels"])
        return made

    def batch(self, rows: Column) -> dict[str, torch.Tensor]:
        """Right-padded tensors of shape (batch, length): input_ids, attention_mask, labels, position_ids."""
        tokens, learnt, real = self.gathered(rows)
        made = {"input_ids": tokens, "attention_mask": real.long(), "labels": tokens.where(learnt, IGNORED)}
        positions = position_ids(self.policy, tokens, made["attention_mask"])
        return made if positions is None else made | {"position_ids": positions}

    def packed(self, rows: Column) -> dict[str, torch.Tensor]:
        """The same texts in fewer rows, none wider than the longest; positions start at 0 in each text.

        Without an attention mask, transformers reads positions that start anew as texts that do not see each other.
        """
        width = int(self.lengths[rows].max())
        places, used = fitted(self.lengths[rows], width)
        shape = (used, width)
        tokens = np.full(shape, self.policy.tokenizer.pad_token_id, np.int64)
        labels, positions, weights = np.full(shape, IGNORED, np.int64), np.zeros(shape, np.int64), np.ones(shape, "f4")
        for row, (line, first) in zip(rows, places, strict=True):
            here = slice(first, first + self.lengths[row])
            flat = slice(self.starts[row], self.starts[row] + self.lengths[row])
            tokens[line, here] = self.tokens[flat]
            labels[line, here] = np.where(self.learnt[flat], self.tokens[flat], IGNORED)
            labels[line, first] = IGNORED  # no text continues from the one before it
            positions[line, here] = np.arange(self.lengths[row])
            weights[line, here] = self.weights[row]
        made = {"input_ids": tokens, "labels": labels, "position_ids": positions}
        made |= {"weights": weights} if self.weighted else {}
        return {name: torch.from_numpy(values) for name, values in made.items()}

    def gathered(self, rows: Column) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens, which of them are learnt, and which are no padding; each of shape (batch, length), padded right."""
        index = np.arange(self.lengths[rows].max(initial=0))
        real = index < self.lengths[rows, None]
        flat = self.starts[rows, None] + np.minimum(index, self.lengths[rows, None] - 1)
        tokens = np.where(real, self.tokens[flat], self.policy.tokenizer.pad_token_id).astype(np.int64)
        return torch.from_numpy(tokens), torch.from_numpy(self.learnt[flat] & real), torch.from_numpy(real)

    def spliced(self, prompts: Column, completions: Column) -> dict[str, torch.Tensor]:
        """Each prompt with another row's completion behind it, padded as ``batch`` does, without positions."""
        sizes = [
            (self.prompts[a], self.lengths[b] - self.prompts[b]) for a, b in zip(prompts, completions, strict=True)
        ]
        shape = (len(prompts), max(map(sum, sizes)))
        tokens = np.full(shape, self.policy.tokenizer.pad_token_id, np.int64)
        labels, real = np.full(shape, IGNORED, np.int64), np.zeros(shape, np.int64)
        for row, (a, b, (asked, said)) in enumerate(zip(prompts, completions, sizes, strict=True)):
            answer = slice(self.starts[b] + self.prompts[b], self.starts[b] + self.lengths[b])
            tokens[row, :asked] = self.tokens[self.starts[a] : self.starts[a] + asked]
            tokens[row, asked : asked + said] = self.tokens[answer]
            labels[row, asked : asked + said] = np.where(self.learnt[answer], self.tokens[answer], IGNORED)
            real[row, : asked + said] = 1
        made = {"input_ids": tokens, "attention_mask": real, "labels": labels}
        return {name: torch.from_numpy(values) for name, values in made.items()}

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The examples that stand in the order from ``first`` to before ``last``."""
        return [self.examples[row]._asdict() for row in self.order[first:last]]

    def count(self, first: int, last: int) -> int:
        """The tokens of these examples."""
        return int(self.lengths[self.order[first:last]].sum())


def fitted(lengths: Column, width: int) -> tuple[list[tuple[int, int]], int]:
    """Where texts go, as row and first place, and how many rows they take: first fit, the longest first."""
    free: list[int] = []
    places = [(0, 0)] * len(lengths)
    for text in np.argsort(-lengths, kind="stable"):
        row = next((row for row, left in enumerate(free) if left >= lengths[text]), len(free))
        if row == len(free):
            free.append(width)
        places[text] = (row, width - free[row])
        free[row] -= int(lengths[text])
    return places, len(free)


def answered(policy: Policy, examples: Sequence[Example]) -> tuple[list[list[int]], list[Column]]:
    """The tokens of completions, an end token behind those that are finished, and which the policy wrote."""
    if not examples:
        return [], []
    end = policy.ends[:1]
    ends = [end if e.finished else [] for e in examples]
    texts, others = [e.completion for e in examples], [non_policy_spans(e.segments, e.role) for e in examples]
    if not any(others):
        plain: list[list[int]] = policy.tokenizer(texts, add_special_tokens=False)["input_ids"]
        ids = [row + last for row, last in zip(plain, ends, strict=True)]
        return ids, [np.ones(len(row), bool) for row in ids]
    if not policy.tokenizer.is_fast:
        raise UserError(
            "Examples hold text that the policy did not write, and its tokenizer cannot tell which tokens that is: "
            "use a policy with a fast tokenizer (tokenizer.json)."
        )
    encoded = policy.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    masks = [
        np.append(own(np.array(offsets, dtype=np.int64).reshape(-1, 2), spans), np.ones(len(last), bool))
        for offsets, spans, last in zip(encoded["offset_mapping"], others, ends, strict=True)
    ]
    return [row + last for row, last in zip(encoded["input_ids"], ends, strict=True)], masks


def own(offsets: Column, others: Sequence[tuple[int, int]]) -> Column:
    """Which tokens, given their ranges of characters (tokens, 2), lie outside all that others wrote."""
    mask = np.ones(len(offsets), bool)
    for first, last in others:
        mask &= (offsets[:, 1] <= first) | (offsets[:, 0] >= last)
    return mask
