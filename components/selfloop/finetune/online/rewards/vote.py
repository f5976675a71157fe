"""What the other attempts say, where nobody knows the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from selfloop.environments import find_environment
from selfloop.finetune.online.rewards import Attempts, Reward
from selfloop.propose.votes import votes as majority
from selfloop.records import Rollout, to_batch, with_final_text
from selfloop.verify.contract import votes


class Vote(Reward):
    """1 where an attempt's answer is the one that most attempts at its task give, else 0: no label is used (TTRL).

    Zuo et al. (arXiv:2504.16084); theirs votes with more attempts than it trains on. What does not end, or gives no
    answer, has no vote; of answers with as many votes the first counts.
    """

    name = "vote"

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The agreement of each attempt with its task's majority."""
        said = said_in(attempts)
        won = majorities(attempts.rollouts, said)
        pairs = zip(attempts.rollouts, said, strict=True)
        return [float(answer is not None and answer == won[rollout.task]) for rollout, answer in pairs]


def said_in(attempts: Attempts) -> list[str | None]:
    """The answer of each attempt, those at one task that say the same in one spelling; none where it has no vote."""
    rollouts, environment = attempts.rollouts, find_environment(attempts.context.environment)
    given = votes(with_final_text(to_batch(Rollout, rollouts)), environment).to_pylist()
    return [answer or None if rollout.finished else None for answer, rollout in zip(given, rollouts, strict=True)]


def majorities(rollouts: Sequence[Rollout], said: Sequence[str | None]) -> Mapping[str, str | None]:
    """The answer that most attempts at each task give."""
    by_task: defaultdict[str, list[str | None]] = defaultdict(list)
    for rollout, answer in zip(rollouts, said, strict=True):
        by_task[rollout.task].append(answer)
    return {task: majority(answers)[0] for task, answers in by_task.items()}
