"""TRL's ``DistillationTrainer``, asking as the policy is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trl import DistillationTrainer

from selfloop.finetune.online.sampling import AsksAsWeDo
from selfloop.finetune.running.training import Guarded
from selfloop.records import Task


class Distillation(Guarded, AsksAsWeDo, DistillationTrainer):
    """On-policy distillation with a teacher in memory."""


class TaskSource:
    """What a trainer draws its own completions of."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """All tasks: in which order a trainer asks them is its own affair."""
        return [task._asdict() for task in self._tasks]
