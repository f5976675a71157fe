"""What attempts at the other view of a task say, where nobody knows the answer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from selfloop.environments.views import VIEW
from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Attempts, Reward
from selfloop.finetune.online.rewards.vote import majorities, said_in
from selfloop.records import Task


class CrossView(Reward):
    """1 where an attempt's answer is the one that most attempts at the other view of its task give, else 0.

    Zhang et al., "Co-rewarding" (arXiv:2508.00410), the first of its two ways. A draw needs both views of a task:
    environment ``views:NAME``, curriculum ``in-turn,together=view``.
    """

    name = "cross-view"
    needs = "both views of a task in a draw: curriculum in-turn,together=view"

    def __call__(self, attempts: Attempts) -> Sequence[float]:
        """The agreement of each attempt with the other view's majority."""
        said = said_in(attempts)
        won, other = majorities(attempts.rollouts, said), others(attempts.tasks)
        pairs = zip(attempts.rollouts, said, strict=True)
        return [float(answer is not None and answer == won[other[rollout.task]]) for rollout, answer in pairs]


def others(tasks: Sequence[Task]) -> Mapping[str, str]:
    """The other view of each task. Raises ``UserError`` where one is not there."""
    views: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for task in tasks:
        views[str(json.loads(task.metadata).get(VIEW, task.id))][task.id] = None
    if alone := next((next(iter(each)) for each in views.values() if len(each) != 2), None):
        raise UserError(
            f"The reward 'cross-view' wants both views of a task in one draw, and '{alone}' stands alone: choose "
            "environment views:NAME and curriculum in-turn,together=view."
        )
    return {task: other for one, two in map(list, views.values()) for task, other in ((one, two), (two, one))}
