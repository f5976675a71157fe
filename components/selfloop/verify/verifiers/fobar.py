"""``fobar``: forward-backward checking (Jiang et al., arXiv:2308.07758).

A number of the question is masked, the candidate answer is given, and the policy is asked for the number: a right
answer lets it be found more often than a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from selfloop import roles
from selfloop.records import Task, as_rows
from selfloop.verify.contract import ended
from selfloop.verify.verifiers.asking import Asking, knows
from selfloop.verify.verifiers.majority import frequency

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.environments import Environment
    from selfloop.verify.contract import Context, Judged

PROMPT = """{question}
If we know the answer to the above question is {answer}, what is the value of the unknown variable x?
"""


class Question(NamedTuple):
    """A backward question, the number that is masked in it, and how many answers are asked for."""

    prompt: str
    masked: str
    samples: int


class Fobar(Asking):
    """Good is an answer with a score of at least ``threshold``: F^alpha B^(1 - alpha), from 0 to 1.

    F is its share of the attempts at the task, B the share of samples that recover the masked numbers of the question
    from it. The paper takes the answer for which this is largest, with B over the sum of all answers' B, which changes
    nothing of that. It is asked in the environment's own words where it was shown the role ``backward``, else in
    English. What gives no answer has 0; of a task without a number there is no opinion.
    """

    name = "fobar"
    alpha: float = Field(0.5, ge=0, le=1, description="What the vote weighs; the rest is what backward answers weigh.")
    threshold: float = Field(0.5, description="The score from which on an answer is good.")

    @property
    def asks_in(self) -> str:
        """Its role."""
        return roles.BACKWARD

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Have the policy solve each question for its numbers, given each answer."""
        import pyarrow as pa
        import pyarrow.compute as pc

        environment, votes = context.environment, context.votes(rollouts)
        in_role = knows(context, roles.BACKWARD)
        agreeing = frequency(pc.binary_join_element_wise(rollouts["task"], votes, "\n"))
        shares = pc.divide(pc.cast(agreeing, pa.float64()), frequency(rollouts["task"])).to_pylist()
        pairs = list(zip(rollouts["task"].to_pylist(), votes.to_pylist(), strict=True))
        task_of = dict(zip(pairs, as_rows(tasks, Task), strict=True))
        questions = {
            pair: spread(
                in_words(environment, task, pair[1]) if in_role else in_english(task.prompt, pair[1]), self.samples
            )
            for pair, task in task_of.items()
        }
        asked = [(pair, question) for pair, made in questions.items() if pair[1] for question in made]
        read = partial(number_in, environment) if in_role else value
        found = self.answered([q.prompt for _, q in asked], [q.samples for _, q in asked], context, read)
        recovered: dict[tuple[str, str], list[bool]] = {pair: [] for pair in questions}
        for (pair, question), values in zip(asked, found, strict=True):
            recovered[pair] += [number == plain(question.masked) for number in values]
        scores = [
            combined(share, sum(recovered[pair]) / len(recovered[pair]), self.alpha) if recovered[pair] else 0.0
            for pair, share in zip(pairs, shares, strict=True)
        ]
        ok = [
            bool(pair[1]) and score >= self.threshold if questions[pair] else None
            for pair, score in zip(pairs, scores, strict=True)
        ]
        reasons = ["recovered" if good else "no number to mask" if good is None else "not recovered" for good in ok]
        return ended(rollouts, pa.array(ok, pa.bool_()), pa.array(scores, pa.float64()), pa.array(reasons, pa.string()))


def combined(forward: float, backward: float, alpha: float) -> float:
    """The geometric mean of two shares, the first of which weighs ``alpha`` and the other the rest."""
    return float(forward**alpha * backward ** (1 - alpha))


def in_words(environment: Environment, task: Task, answer: str) -> list[tuple[str, str]]:
    """The backward questions about an answer in the environment's words, and the masked numbers."""
    return [(asked.prompt, asked.number) for asked in roles.backward(environment, task, answer)]


def in_english(question: str, answer: str) -> list[tuple[str, str]]:
    """The same in English."""
    return [(PROMPT.format(question=text, answer=answer), number) for text, number in roles.masked(question, "x")]


def spread(asked: list[tuple[str, str]], samples: int) -> list[Question]:
    """Questions with the samples spread over them evenly; the first ones where there are fewer samples."""
    asked = asked[:samples]
    return [
        Question(prompt, number, len(range(place, samples, len(asked)))) for place, (prompt, number) in enumerate(asked)
    ]


def number_in(environment: Environment, text: str) -> float | None:
    """The number that an answer in the role ``backward`` says."""
    return value(roles.recovered(environment, text))


def value(text: str) -> float | None:
    """The last number of an answer; ``None`` where it holds none."""
    *_, last = [None, *(plain(number) for number in _numbers(text))]
    return last


def plain(number: str) -> float:
    """A number as it is written, without what parts its thousands."""
    return float(number.replace(",", ""))


def _numbers(text: str) -> Iterator[str]:
    return (found[0] for found in roles.NUMBER.finditer(text))
