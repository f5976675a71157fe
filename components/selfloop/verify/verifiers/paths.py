"""``paths``: how consistently the steps of attempts lead to their answers, after CoVo (Zhang et al., arXiv:2506.08745).

A step leads to the candidate that the policy then says, of the answers that the attempts at a task give. In the paper
it leads to the candidate that is likeliest behind it; here shares of what it says when asked stand for likelihoods. Its
term for curiosity, which the released run leaves out, and the threshold of the released code are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, takewhile
from math import cos, hypot, sin
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from selfloop.records import Task, as_rows
from selfloop.roles import NOW
from selfloop.verify.verifiers.asking import Asking

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.environments import Environment
    from selfloop.verify.contract import Context, Judged


class Path(NamedTuple):
    """Where an attempt leads: the share of its steps that lead to its answer, and how late the last one is that does
    not, as a share of its length.
    """

    consistency: float
    volatility: float


class Paths(Asking):
    """The score is the length of the mean vector of the paths that lead to the same answer; it says not what is right.

    A path of consistency c and volatility v is a vector of length c at the angle v. Where all attempts at a task give
    one answer, there is nothing to lead to beside it, and the score is 0, as it is without an answer or an end.
    """

    name = "paths"
    needs = "an environment with the role 'now', and a policy that was shown it"

    @property
    def asks_in(self) -> str:
        """Its role."""
        return NOW

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Have the policy answer at once behind each step of each attempt."""
        import pyarrow as pa

        environment, finished = context.environment, rollouts["finished"].to_pylist()
        given = context.votes(rollouts).to_pylist()
        candidates: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, (name, answer) in enumerate(zip(rollouts["task"].to_pylist(), given, strict=True)):
            if answer and finished[row]:
                candidates[name][answer].append(row)
        task_of, texts = list(as_rows(tasks, Task)), rollouts["completion"].to_pylist()
        compared = [answers for answers in candidates.values() if len(answers) > 1]
        states = {
            row: [environment.asked(NOW, task_of[row], [text]).prompt for text in begun(texts[row], environment)]
            for row in chain.from_iterable(rows for answers in compared for rows in answers.values())
        }
        read = self.read_of_each(chain.from_iterable(states.values()), context, lambda text: text.strip() or None)
        said = {prompt: [answer for answer in found if answer] for prompt, found in read.items()}
        scores = [0.0] * len(given)
        for answers in compared:
            for own, rows in answers.items():
                others = [answer for answer in answers if answer != own]
                paths = [path([margin(said[state], own, others) for state in states[row]]) for row in rows]
                for row in rows:
                    scores[row] = resultant(paths)
        reasons = pa.repeat(pa.scalar("paths"), len(given))
        return pa.nulls(len(given), pa.bool_()), pa.array(scores, pa.float64()), reasons


def begun(text: str, environment: Environment) -> list[str]:
    """A text up to the end of each of its steps; one without parts is one step."""
    return [text[:end] for end in environment.steps(text) or [len(text)]]


def margin(said: Sequence[str], own: str, others: Sequence[str]) -> float:
    """By how much oftener an answer is said than the one of the others that is said most."""
    return (said.count(own) - max((said.count(other) for other in others), default=0)) / max(len(said), 1)


def path(margins: Sequence[float]) -> Path:
    """A path from the margins of its answer at each step: it leads there where they are above 0, and has turned away
    where they are below.
    """
    settled = len(list(takewhile(lambda each: each >= 0, reversed(margins))))
    return Path(fmean(each > 0 for each in margins), 1 - settled / len(margins))


def resultant(paths: Sequence[Path]) -> float:
    """The length of the mean vector of some paths."""
    return hypot(
        fmean(each.consistency * cos(each.volatility) for each in paths),
        fmean(each.consistency * sin(each.volatility) for each in paths),
    )
