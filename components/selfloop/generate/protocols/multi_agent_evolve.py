"""``multi-agent-evolve``: the policy proposes a task, attempts it, and judges both, in one episode."""

from __future__ import annotations

import json
from collections.abc import Generator
from statistics import fmean
from typing import Any

from pydantic import Field

from selfloop.environments import Environment, find_environment
from selfloop.generate.protocols import Ask, Protocol, Reward, Steps, Wrote
from selfloop.records import Task
from selfloop.roles import JUDGE, proposes, readable, worded
from selfloop.split import trains

PROPOSER, SOLVER = "proposer", "solver"
NEUTRAL = 0.5
"""What a judgement counts as that cannot be read."""


class MultiAgentEvolve(Protocol):
    """The policy proposes a task, attempts it several times, and judges the proposal and each attempt (MAE).

    Of quality q, the mean v of the attempts' judgements and format f, each from 0 to 1, the proposer gets
    (q + (1 - v) + f) / 3, without the middle term where q is below ``quality``; an attempt gets half of its judgement
    and half of its format, and nothing at all, not even 0, where q is too low or the task is not one to train on. A
    judge gets its format, whatever it says: nothing makes it judge well. A format is right where the text was ended,
    and a judgement can be read; one judgement is 0 or 1, where the paper's is 1 to 10. What is no task is attempted and
    judged as well. Chen et al. (arXiv:2510.23595), rewards as in their code, without reference questions.
    """

    name = "multi-agent-evolve"
    needs = "the curriculum 'proposal-prompt', and a policy that was shown to propose and to judge"
    answers: int = Field(4, ge=1, description="Attempts at each proposal.")
    quality: float = Field(0.7, ge=0, le=1, description="Quality from which on a proposal is of use.")

    def __call__(self, task: Task) -> Steps:
        """One proposal, its judge, and as many solvers with a judge each."""
        environment = find_environment(json.loads(task.metadata)["environment"])
        wrote: Wrote = yield Ask(role=PROPOSER)
        text = readable(environment, wrote.text)
        question = question_of(environment, text)
        quality = yield from _judged(environment, task, text, 0)
        good, scores = quality >= self.quality, list[float]()
        for number in range(1, self.answers + 1):
            role = f"{SOLVER}-{number}"
            answer: Wrote = yield Ask(role=role, prompt=question.prompt)
            scores.append((yield from _judged(environment, question, answer.text, number)))
            if good and not _is_held_out(environment, question):
                yield Reward((scores[-1] + answer.finished) / 2, role)
        yield Reward((quality + (1 - fmean(scores)) * good + wrote.finished) / 3, PROPOSER)


def question_of(environment: Environment, text: str) -> Task:
    """The task that a text proposes; what is none is asked as it stands, and has no level."""
    if proposes(environment, text):
        return environment.parse_proposal(text, "")
    return Task("", 0, "", f"{text}{environment.closing}", "")


def _judged(environment: Environment, task: Task, text: str, number: int) -> Generator[Ask | Reward, Any, float]:
    role = f"{JUDGE}-{number}"
    said: Wrote = yield Ask(role=role, prompt=worded(environment, JUDGE, task, [text]))
    opinion = environment.opinion(JUDGE, said.text) if said.finished else None
    yield Reward(float(opinion is not None), role)
    return NEUTRAL if opinion is None else opinion


def _is_held_out(environment: Environment, question: Task) -> bool:
    return question.level > 0 and not trains(environment, question)
