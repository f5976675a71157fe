"""Good attempts of earlier draws, which a training learns from once more."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selfloop.finetune.online.algorithms import RewardedGroups
from selfloop.finetune.online.algorithms.self_imitation import SelfImitation, covarying
from selfloop.finetune.online.losses import Scored
from selfloop.generate.draw import TokenizedRollout


class Past(NamedTuple):
    """An attempt as it was: tokens, which of the completion's the policy wrote, and their log-probabilities then."""

    prompt: list[int]
    completion: list[int]
    own: list[bool]
    logprobs: list[float]
    reward: float
    draw: int


class Imitation:
    """What a training keeps of its good attempts; ``first`` counts the draws of the rounds before."""

    def __init__(self, algorithm: SelfImitation, first: int, seed: Callable[[int], int]) -> None:
        self._algorithm, self._first, self._seed = algorithm, first, seed
        self._past: list[Past] = []
        self._means: list[float] = []

    def chosen(self, draw: int, number: int) -> list[tuple[Past, float]]:
        """Some of what was kept and is worth more than what is usual, with its weighed worth: a step of ``number``."""
        own = self._algorithm
        self._past = [past for past in self._past if draw - past.draw <= own.age]
        weight = own.weight_at(self._first + draw)
        worth = [(past, own.worth_now(past.reward, self._means)) for past in self._past]
        good = [(past, weight * value) for past, value in worth if weight * value > 0]
        return random.Random(self._seed(draw)).sample(good, min(len(good), int(own.share * number)))

    def learn(
        self, draw: int, attempts: Sequence[TokenizedRollout], groups: RewardedGroups, gains: Tensor, old: Tensor
    ) -> None:
        """Keep what has an advantage; ``old`` are the log-probabilities of the completions' tokens (rows, tokens)."""
        self._means = [*self._means, *groups.rewards.mean(dim=1).tolist()][-self._algorithm.lately :]
        rewards, rows = groups.rewards.flatten().tolist(), old.tolist()
        for row in (gains.flatten() > 0).nonzero()[:, 0].tolist():
            _, prompt, completion, own = attempts[row]
            self._past.append(Past(prompt, completion, own, rows[row][: len(completion)], rewards[row], draw))
        self._past = self._past[-self._algorithm.size :]

    def joined(self, draw: int, scored: Scored, again: Sequence[tuple[Past, float]]) -> Scored:
        """A draw's own attempts, and earlier ones behind them, of which ``scored`` knows the tokens alone.

        The loss is a mean over rows, and theirs a mean over their own: the advantages make up for the number of rows.
        Tokens that vary with their advantage are left out, as the algorithm says.
        """
        own, rows = len(scored.own) - len(again), len(scored.own)
        gains, old = scored.advantages.clone(), scored.old.clone()
        for row, (past, worth) in enumerate(again, own):
            old[row, : len(past.logprobs)] = torch.tensor(past.logprobs).to(old)
            gains[row] = worth
        kept = scored.own * ~self._left_out(draw, gains, old, scored.own)
        scale = torch.full_like(gains, rows / own)
        scale[own:] = rows / max(len(again), 1)
        return scored._replace(advantages=gains * scale, old=old, own=kept)

    def _left_out(self, draw: int, gains: Tensor, old: Tensor, own: Tensor) -> Tensor:
        params, seed = self._algorithm, torch.Generator().manual_seed(self._seed(draw))
        number = int(params.clip_cov * float(own.sum()))
        return covarying(gains, old, own, params.lowest, params.highest, number, seed)

    def to_state(self) -> dict[str, Any]:
        """What it keeps, for a checkpoint."""
        return {"past": list(map(tuple, self._past)), "means": self._means}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._past, self._means = [Past(*each) for each in state["past"]], state["means"]
