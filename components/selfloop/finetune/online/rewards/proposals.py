"""What rewards of a proposer share: proposals that become tasks, a solver's attempts at them, and their votes.

The policy writes at its environment's proposal prompt; a frozen solver attempts each task that comes of it. How much
its attempts agree, how many tools they call and how much the draw repeats itself make the reward.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from selfloop.environments import Environment, find_environment, unified
from selfloop.finetune.online.rewards import Attempts, Reward
from selfloop.generate.params import GenerateParams
from selfloop.generate.protocols import Protocol
from selfloop.generate.protocols.single import Single
from selfloop.propose.votes import Vote, repetition, votes
from selfloop.records import Rollout, Task, final_text, non_policy_spans


class Proposal(NamedTuple):
    """A text that a proposer wrote, and what the solver made of it.

    ``share`` is that of its cluster in the draw (``repetition``). ``calls`` is the mean number of tool calls in the
    solver's attempts, ``blocks`` the number of tool results in the proposer's own text. ``right`` is the share of
    attempts that solve it, as the environment says.
    """

    is_task: bool
    vote: Vote = Vote(None, 0.0)
    share: float = 0.0
    calls: float = 0.0
    blocks: int = 0
    claimed: str | None = None
    right: float = 0.0


class ProposalSummary(NamedTuple):
    """What the proposals of a draw came to: the share that are tasks, of these the share that differ, the mean vote
    rate, the mean level, and the mean number of tool calls in an attempt.
    """

    valid: float
    distinct: float
    rate: float
    level: float
    calls: float


class ProposalNotes(BaseModel):
    """What the proposals of each draw came to, in this training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: tuple[ProposalSummary, ...] = ()


class ProposalReward(Reward):
    """A reward of proposals, which a solver attempts."""

    asks = "other"
    needs = "the curriculum 'proposal-prompt', and a solver"
    keeps = ProposalNotes
    attempts: int = Field(10, ge=2, description="The solver's attempts at each proposal.")
    protocol: Protocol = Field(Single(), description="How the solver attempts one.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a turn of the solver at most; a task may allow fewer.")
    temperature: float = Field(1.0, gt=0, description="Temperature of the solver.")
    repetition: float = Field(1.0, ge=0, description="What the share of a proposal's cluster weighs.")
    near: float = Field(0.5, ge=0, le=1, description="Distance 1 - BLEU up to which proposals are one cluster.")

    @abstractmethod
    def score(self, proposal: Proposal) -> float:
        """What a proposal is worth."""

    def at_once(self) -> int:
        """The attempts at each proposal."""
        return self.attempts

    def for_round(self, before: Any) -> ProposalNotes:
        """Each training notes its own draws."""
        return ProposalNotes()

    def summary_of(self, state: ProposalNotes) -> dict[str, Any]:
        """What the proposals of each draw came to."""
        return {"proposals": [each._asdict() for each in state.draws]}

    def rewards(self, attempts: Attempts, state: ProposalNotes) -> tuple[Sequence[float], ProposalNotes]:
        """The rewards of a draw's proposals."""
        environment, rollouts = find_environment(attempts.context.environment), attempts.rollouts
        made = [proposed(environment, rollout) for rollout in rollouts]
        known = {task.prompt: task for task in made if task is not None}
        solved = dict(zip(known, self.solved(attempts, list(known.values())), strict=True))
        texts = [
            rollout.completion if task is None else task.prompt for rollout, task in zip(rollouts, made, strict=True)
        ]
        proposals = [
            described(environment, rollout, task, share, solved)
            for rollout, task, share in zip(rollouts, made, repetition(texts, self.near), strict=True)
        ]
        notes = ProposalNotes(draws=(*state.draws, summarized(made, proposals)))
        return [self.score(proposal) for proposal in proposals], notes

    def solved(self, attempts: Attempts, tasks: Sequence[Task]) -> list[list[Rollout]]:
        """The solver's attempts at each of these tasks."""
        from selfloop.generate.draw import Window, one_role

        context = attempts.context
        decoding = GenerateParams(
            protocol=self.protocol,
            greedy_first=False,
            score="nothing",
            round=context.round,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            attempts="fixed",
            samples=self.attempts,
            seed=context.seed("votes", attempts.draw),
        )
        named = [task._replace(id=f"{number}") for number, task in enumerate(tasks)]
        drawn = one_role(Window(context.engine, named, decoding).rollouts())
        return [list(drawn[first : first + self.attempts]) for first in range(0, len(drawn), self.attempts)]


def proposed(environment: Environment, rollout: Rollout) -> Task | None:
    """The task that a proposer's text proposes; none where it is no task."""
    if not rollout.finished:
        return None
    try:
        return environment.parse_proposal(rollout.completion, "")
    except ValueError:
        return None


def described(
    environment: Environment, rollout: Rollout, task: Task | None, share: float, solved: dict[str, list[Rollout]]
) -> Proposal:
    """A proposer's text, and what the solver made of it."""
    if task is None:
        return Proposal(False, share=share)
    attempts = solved[task.prompt]
    texts = [final_text(each.completion, each.segments, each.role) if each.finished else None for each in attempts]
    said = ["" if text is None else environment.extract_answer(text) for text in texts]
    [spelt] = unified([said], environment)
    return Proposal(
        True,
        votes([answer or None for answer in spelt], "all"),
        share,
        fmean(each.turns - 1 for each in attempts),
        len(non_policy_spans(rollout.segments, rollout.role)),
        json.loads(task.metadata).get("claimed"),
        fmean(text is not None and environment.check(task, text).ok for text in texts),
    )


def summarized(made: Sequence[Task | None], proposals: Sequence[Proposal]) -> ProposalSummary:
    """What a draw's proposals came to."""
    tasks = [task for task in made if task is not None]
    good = [proposal for proposal in proposals if proposal.is_task]
    return ProposalSummary(
        valid=len(tasks) / len(made),
        distinct=len({task.prompt for task in tasks}) / max(1, len(tasks)),
        rate=fmean(each.vote.rate for each in good) if good else 0.0,
        level=fmean(task.level for task in tasks) if tasks else 0.0,
        calls=fmean(each.calls for each in good) if good else 0.0,
    )
