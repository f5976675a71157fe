"""``single``: the policy answers the prompt."""

from __future__ import annotations

from selfloop.generate.protocols import Ask, Protocol, Steps
from selfloop.records import Task


class Single(Protocol):
    """One turn: the policy answers the prompt."""

    name = "single"

    def __call__(self, task: Task) -> Steps:
        """Ask once."""
        yield Ask()
