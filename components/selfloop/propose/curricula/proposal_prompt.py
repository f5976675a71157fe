"""No task at all: the policy is asked to propose some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from selfloop.environments import find_environment
from selfloop.propose.curricula import Curriculum, Probe, TaskPool
from selfloop.propose.learned import prompt_of
from selfloop.records import Task


class ProposalPrompt(Curriculum):
    """The environment's prompt to propose a task, in every group."""

    name = "proposal-prompt"
    needs = "an environment that takes proposals"

    def own_tasks(self, environment: str, groups: int) -> Sequence[Task]:
        """The prompt for each group, with the environment's name. Raises ``UserError`` where it has none."""
        prompt = prompt_of(find_environment(environment), environment)
        metadata = json.dumps({"environment": environment})
        return [Task(f"invitation-{number}", 0, "", prompt, "", metadata=metadata) for number in range(groups)]

    def choose(self, state: Any, pool: TaskPool, draw: int, groups: int, probe: Probe) -> tuple[list[Task], Any]:
        """The same prompts in every draw."""
        return list(pool.tasks[:groups]), state
