"""``fobar``: forward-backward checking (Jiang et al., arXiv:2308.07758).

A number of the question is masked, the candidate answer is given, and the policy is asked for the number: a right
answer lets it be found more often than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from selfloop.verify.contract import ended
from selfloop.verify.verifiers.asking import Asking

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
PROMPT = """{question}
If we know the answer to the above question is {answer}, what is the value of the unknown variable x?
"""


class Backward(NamedTuple):
    """A question with a number masked, the number, and how many answers are asked for."""

    prompt: str
    masked: str
    samples: int


class Fobar(Asking):
    """Good is an answer with which at least ``threshold`` of the samples recover the masked numbers of the question.

    The share is the score; what gives no answer recovers nothing. A task without a number is one of which there is no
    opinion.
    """

    name = "fobar"
    threshold: float = Field(0.5, description="The share from which on an answer is good.")

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Have the policy solve each question for its numbers, given each answer."""
        import pyarrow as pa

        pairs = list(zip(tasks["prompt"].to_pylist(), context.answers(rollouts).to_pylist(), strict=True))
        questions = {(prompt, answer): backward(prompt, answer, self.samples) for prompt, answer in pairs if answer}
        asked = [(pair, question) for pair, made in questions.items() for question in made]
        found = self.answered([q.prompt for _, q in asked], [q.samples for _, q in asked], context, value)
        recovered: dict[tuple[str, str], list[bool]] = {pair: [] if pair[1] else [False] for pair in pairs}
        for (pair, question), values in zip(asked, found, strict=True):
            recovered[pair] += [number == plain(question.masked) for number in values]
        scores = [sum(recovered[pair]) / max(len(recovered[pair]), 1) for pair in pairs]
        ok = [
            bool(answer) and score >= self.threshold if recovered[prompt, answer] else None
            for (prompt, answer), score in zip(pairs, scores, strict=True)
        ]
        reasons = ["recovered" if good else "no number to mask" if good is None else "not recovered" for good in ok]
        return ended(rollouts, pa.array(ok, pa.bool_()), pa.array(scores, pa.float64()), pa.array(reasons, pa.string()))


def backward(question: str, answer: str, samples: int) -> list[Backward]:
    """The backward questions: each number of the question masked in turn, the samples spread over them evenly."""
    found = list(NUMBER.finditer(question))[:samples]
    made = []
    for place, number in enumerate(found):
        masked = f"{question[: number.start()]}x{question[number.end() :]}"
        share = len(range(place, samples, len(found)))
        made.append(Backward(PROMPT.format(question=masked, answer=answer), number[0], share))
    return made


def value(text: str) -> float | None:
    """The last number of an answer; ``None`` where it holds none."""
    *_, last = [None, *(plain(number) for number in _numbers(text))]
    return last


def plain(number: str) -> float:
    """A number as it is written, without what parts its thousands."""
    return float(number.replace(",", ""))


def _numbers(text: str) -> Iterator[str]:
    return (found[0] for found in NUMBER.finditer(text))
