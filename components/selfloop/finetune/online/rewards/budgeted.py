"""What an answer is worth, its policy's word on how hard the task is, and its length."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi
from statistics import fmean
from typing import NamedTuple

from pydantic import Field

from selfloop.environments import find_environment
from selfloop.environments.budgeted import EASY, HARD, mark_of
from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Attempts
from selfloop.finetune.online.rewards.primary import PrimaryReward


class Try(NamedTuple):
    """An attempt: its score from 0 to 1, the mark that it begins with, if any, and its tokens."""

    score: float
    mark: str
    tokens: int


class Budgeted(PrimaryReward):
    """A right answer, a mark of how hard the task is that the group's pass rate bears out, and a short answer if easy.

    Huang et al., "AdaCtrl" (arXiv:2505.18822), with the numbers of its released code: 2 v - 1 of the primary reward v,
    from 0 to 1; ``assessed`` times 1 for the mark that fits, 0 for the other and -1 for none; and ``short`` times
    (1 + cos(pi l / L)) / 2 where ``<easy>`` is the mark and fits, of l tokens and the group's longest L. That code also
    gives (1 - cos(pi l / L)) / 2 where ``<hard>`` fits: ``longer``.
    """

    name = "budgeted"
    needs = "an environment budgeted:NAME"
    above: float = Field(0.625, ge=0, lt=1, description="The pass rate above which a task is easy.")
    assessed: float = Field(0.5, ge=0, description="What the mark weighs.")
    short: float = Field(0.5, ge=0, description="What the length weighs.")
    longer: bool = Field(False, description="Whether a long answer to what is hard is worth something, too.")

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The rewards of a draw. Raises ``UserError`` where attempts have no marks."""
        if EASY not in find_environment(attempts.context.environment).special_tokens:
            raise UserError(
                f"The reward 'budgeted' reads marks that attempts at '{attempts.context.environment}' do not have: "
                f"choose the environment 'budgeted:{attempts.context.environment}'."
            )
        given = zip(self.primary(attempts), attempts.rollouts, strict=True)
        tries = [Try(score, mark_of(each.completion), each.tokens) for score, each in given]
        size = len(tries) // len(attempts.tasks)
        groups = (tries[first : first + size] for first in range(0, len(tries), size))
        return [worth for group in groups for worth in self.of_group(group)]

    def of_group(self, group: Sequence[Try]) -> list[float]:
        """The rewards of the attempts at one task."""
        fits = EASY if fmean(each.score for each in group) > self.above else HARD
        longest = max(each.tokens for each in group)
        return [
            2 * each.score - 1
            + self.assessed * ((each.mark == fits) - (not each.mark))
            + self.short * self._length(each, fits, longest)
            for each in group
        ]  # fmt: skip

    def _length(self, each: Try, fits: str, longest: int) -> float:
        brief = (1 + cos(pi * each.tokens / max(longest, 1))) / 2
        if each.mark != fits:
            return 0.0
        return brief if fits == EASY else (1 - brief) * self.longer
