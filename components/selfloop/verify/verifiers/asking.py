"""Asking a policy: what the judges and ``fobar`` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfloop.policy import seed_of
from selfloop.records import Task

if TYPE_CHECKING:
    from selfloop.verify.contract import Context


def answered(prompts: Sequence[str], samples: Sequence[int], context: Context) -> list[list[str]]:
    """The policy's answers to each prompt, as many as asked for; one alone is greedy, several are drawn.

    The seed depends on run, round and prompts, not on how rollouts were cut into batches of other prompts.
    """
    from selfloop.generate import GenerateParams, draw

    params = context.params
    tasks = [
        Task(str(number), 0, "judge", prompt, "", attempts=number_of, max_tokens=params.max_tokens)
        for number, (prompt, number_of) in enumerate(zip(prompts, samples, strict=True))
    ]
    decoding = GenerateParams(
        temperature=params.temperature,
        max_tokens=params.max_tokens,
        batch_size=params.batch_size,
        seed=seed_of(params.seed, "judge", *prompts[:1]),
        round=params.round,
        greedy_first=params.samples == 1,
    )
    answers: list[list[str]] = [[] for _ in prompts]
    for window in draw(context.policy, tasks, decoding):
        for answer in window:
            answers[int(answer.task)].append(answer.completion)
    return answers
