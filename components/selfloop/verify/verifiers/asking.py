"""Asking a policy: what the judges and ``fobar`` share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from selfloop.records import Task
from selfloop.seeds import seed_for, seed_of

if TYPE_CHECKING:
    from selfloop.generate import GenerateParams
    from selfloop.verify.contract import Context
    from selfloop.verify.verify import VerifyParams


def answered(prompts: Sequence[str], samples: Sequence[int], context: Context) -> list[list[str]]:
    """The policy's answers to each prompt, as many as asked for; one alone is greedy, several are drawn.

    The seed of an answer depends on run, round and prompt, not on what is asked beside it.
    """
    from selfloop.generate import draw

    tasks = [
        Task(f"{seed_of(prompt):x}", 0, "judge", prompt, "", attempts=number, max_tokens=context.params.max_tokens)
        for prompt, number in zip(prompts, samples, strict=True)
    ]
    drawn = chain.from_iterable(draw(context.policy, tasks, decoding(context.params)))
    return [[answer.completion for answer in islice(drawn, number)] for number in samples]


def decoding(params: VerifyParams) -> GenerateParams:
    """How a policy is asked."""
    from selfloop.generate import GenerateParams

    same = ("engine", "temperature", "max_tokens", "batch_size", "tensor_parallel", "context", "round")
    return GenerateParams(
        **{name: getattr(params, name) for name in same},
        score="nothing",
        seed=seed_for(params, "judge"),
        greedy_first=params.samples == 1,
    )
