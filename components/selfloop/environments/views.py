"""Views: ``views:addition``, the tasks of another environment, each in two ways that have the same answer.

A task and its other view follow one another and name each other by ``view`` in their metadata: a curriculum may draw
both at once (``in-turn,together=view``), and a reward hold one's answers against the other's (``cross-view``). After
Zhang et al., "Co-rewarding" (arXiv:2508.00410), where another model says questions in other words. An environment
offers less: sums with their numbers changed about, passages in another order. Both views are one problem.
"""

import json
from collections.abc import Sequence

from selfloop.environments import Environment, Redressed, find_environment
from selfloop.errors import UserError
from selfloop.records import Task

EXAMPLE = "views:addition"
VIEW = "view"


class Views(Redressed):
    """Tasks of another environment, each in two ways."""

    name = "views"
    summary = f"the tasks of another environment, each in two ways that have the same answer, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        if not member:
            raise UserError(f"'{self.name}' is no environment by itself: write one behind it, as in {EXAMPLE}.")
        below = find_environment(member)
        if not below.has_views:
            raise UserError(f"Environment '{member}' has no other view of a task: choose another, as in {EXAMPLE}.")
        if type(below).from_view is not Environment.from_view:
            raise UserError(
                f"The other view of a task of '{member}' has another answer: choose another one, as in {EXAMPLE}."
            )
        super().__init__(below)

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environment below."""
        return [member]

    @property
    def source(self) -> str:
        """The environment below, in two ways."""
        return f"{self.name}:{self._below.source}"

    def _all(self, tasks: Sequence[Task], seed: int) -> list[Task]:
        pairs = ((task, self._below.view(task)._replace(id=f"{task.id}-{VIEW}")) for task in tasks)
        return [self._one_of(each, pair[0].id) for pair in pairs for each in pair]

    def _one_of(self, task: Task, pair: str) -> Task:
        metadata = json.dumps({**json.loads(task.metadata), VIEW: pair})
        return task._replace(metadata=metadata, cluster=self.content(task))  # for statistics both are one

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Those of the environment below, each followed by its other view."""
        return self._all(self._below.tasks(level, -(-count // 2), seed), seed)[:count]

    def dressed(self, task: Task, seed: int) -> Task:
        """The task, as one of a pair of its own."""
        return self._one_of(task, task.id)

    def undressed(self, task: Task) -> Task:
        """The task as it is."""
        return task

    def content(self, task: Task) -> str:
        """That of the first of its views."""
        return min(self._below.content(each) for each in (task, self._below.view(task)))

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """As below."""
        return self._below.agree(pairs)


environment = Views
