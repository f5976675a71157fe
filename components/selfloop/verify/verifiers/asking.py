"""Asking a policy: what the judges and ``fobar`` share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from pydantic import Field

from selfloop.records import Task
from selfloop.seeds import seed_for, seed_of
from selfloop.verify.contract import Verifier

if TYPE_CHECKING:
    from selfloop.generate import GenerateParams
    from selfloop.verify.contract import Context
    from selfloop.verify.verify import VerifyParams


class Asking(Verifier):
    """A verifier that asks a policy."""

    asks = "policy"
    needs = "a policy to ask"
    samples: int = Field(4, ge=1, description="Answers asked for; one alone is greedy.")
    temperature: float = Field(1.0, gt=0, description="Temperature of several answers.")
    max_tokens: int = Field(512, ge=1, description="Tokens of an answer at most.")

    def answered(self, prompts: Sequence[str], samples: Sequence[int], context: Context) -> list[list[str]]:
        """The policy's answers to each prompt, as many as asked for; one alone is greedy, several are drawn.

        The seed of an answer depends on run, round and prompt, not on what is asked beside it.
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
        drawn = chain.from_iterable(draw(context.policy, tasks, how))
        return [[answer.completion for answer in islice(drawn, number)] for number in samples]


def decoding(params: VerifyParams) -> GenerateParams:
    """How a policy is asked, whatever it is asked."""
    from selfloop.generate import GenerateParams

    same = ("engine", "batch_size", "tensor_parallel", "context", "round")
    given = {name: getattr(params, name) for name in same}
    return GenerateParams(**given, score="nothing", seed=seed_for(params, "judge"))
