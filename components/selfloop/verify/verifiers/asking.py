"""Asking a policy: what the judges and others share that ask one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from selfloop.chats import tokens_of
from selfloop.records import Task
from selfloop.roles import MARKS
from selfloop.seeds import seed_for, seed_of
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    from selfloop.generate import GenerateParams
    from selfloop.verify.contract import Context
    from selfloop.verify.verify import VerifyParams

T = TypeVar("T")
FRAME = 5
"""Dashes before and behind what a judge is shown, at least."""


class Asking(Verifier):
    """A verifier that asks a policy."""

    asks = "policy"
    needs = "a policy to ask"
    samples: int = Field(4, ge=1, description="Answers asked for; one alone is greedy.")
    temperature: float = Field(1.0, gt=0, description="Temperature of several answers.")
    max_tokens: int = Field(512, ge=1, description="Tokens of an answer at most.")

    def answered(
        self, prompts: Sequence[str], samples: Sequence[int], context: Context, read: Callable[[str], T | None]
    ) -> list[list[T | None]]:
        """What is read of the policy's answers to each prompt, as many as asked for; one is greedy, several are drawn.

        An answer that was cut off is one that cannot be read: it may say another thing than its beginning does. The
        seed of an answer depends on run, round and prompt, not on what is asked beside it.
        """
        from selfloop.generate import draw

        tasks = [
            Task(f"{seed_of(prompt):x}", 0, "judge", prompt, "", attempts=number, max_tokens=self.max_tokens)
            for prompt, number in zip(prompts, samples, strict=True)
        ]
        how = decoding(context.params).model_copy(
            update={
                "temperature": self.temperature,
                "max_tokens": self.max_tokens,
                "greedy_first": self.samples == 1,
            }
        )
        answers = list(chain.from_iterable(draw(context.policy, tasks, how)))
        values = [read(answer.completion) if answer.finished else None for answer in answers]
        context.read_answers([answer.completion for answer in answers], values)
        found = iter(values)
        return [list(islice(found, number)) for number in samples]

    def read_of_each(
        self, prompts: Iterable[str], context: Context, read: Callable[[str], T | None]
    ) -> dict[str, list[T | None]]:
        """What is read of ``samples`` answers to each prompt; of equal ones one is asked."""
        different = list(dict.fromkeys(prompts))
        found = self.answered(different, [self.samples] * len(different), context, read)
        return dict(zip(different, found, strict=True))


def knows(context: Context, role: str) -> bool:
    """Whether the policy can be asked for a role in the environment's own words: it has a token for the role's mark."""
    if role not in context.environment.roles:
        return False
    tokenizer = context.policy.tokenizer
    [read] = tokens_of(tokenizer, [MARKS[role]])
    return len(read) == 1 and tokenizer.pad_token_id not in read


def framed(template: str, rubric: str, **data: str) -> str:
    """A prompt in which data stands between lines of more dashes than it has anywhere."""
    longest = max(len(dashes) for text in data.values() for dashes in re.findall("-*", text))
    return template.format(line="-" * max(longest + 1, FRAME), rubric=rubric, **data)


def decoding(params: VerifyParams) -> GenerateParams:
    """How a policy is asked, whatever it is asked."""
    from selfloop.generate import GenerateParams

    same = ("engine", "batch_size", "tensor_parallel", "context", "round")
    given = {name: getattr(params, name) for name in same}
    return GenerateParams(**given, score="nothing", seed=seed_for(params, "judge"))
