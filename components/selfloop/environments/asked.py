"""Asked: ``asked:judge:chain``, tasks of a role, about attempts that are made up at the tasks of another environment.

One half of the attempts are right and the others have one wrong step, so that whoever judges is trained as any solver
is. ``asked:judge:asked:judge:chain`` is the role of whoever judges judgements. A problem is that of the task below.
"""

from __future__ import annotations

from selfloop import roles
from selfloop.environments import Dressed, Grade, find_environment
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of

EXAMPLE = "asked:judge:chain"


class Asked(Dressed):
    """Tasks of a role about attempts at those of another environment."""

    name = "asked"
    summary = f"tasks of a role about attempts at those of another environment, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        self._role, _, name = member.partition(":")
        if not name:
            raise UserError(f"'{self.name}:{member}' is no environment: write a role and an environment: {EXAMPLE}.")
        below = find_environment(name)
        if self._role not in below.roles:
            raise below.without(self._role)
        super().__init__(below)
        self.special_tokens = tuple(dict.fromkeys([*below.special_tokens, roles.MARKS[self._role]]))
        self.has_views = self._role == roles.BETTER
        self.roles = (roles.JUDGE, roles.BETTER) if self._role in roles.OPINIONS else ()

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environment whose attempts it asks about."""
        return [member.partition(":")[2]]

    @property
    def source(self) -> str:
        """The role, and the environment below."""
        return f"{self.name}:{self._role}:{self._below.source}"

    def dressed(self, task: Task, seed: int) -> Task:
        """What is asked about an attempt at a task."""
        return roles.posed(self._below, self._role, task, seed)

    def undressed(self, task: Task) -> Task:
        """The task that it is about."""
        return roles.subject(task)

    def demonstration(self, task: Task) -> str:
        """What is right to answer in the role."""
        return roles.demonstration(self._below, task, seed_of(task.prompt))

    def extract_answer(self, completion: str) -> str:
        """The opinion, without its reasons; a masked number, without its working; of an attempt, what the environment
        below takes.
        """
        if self._role == roles.BACKWARD:
            return roles.recovered(self._below, completion)
        if self._role not in roles.OPINIONS:
            return self._below.extract_answer(completion)
        return completion[-1:] if self._role == roles.REASONED else completion

    def check(self, task: Task, completion: str) -> Grade:
        """Grade an answer in the role."""
        return roles.graded(self._below, task, completion)

    def view(self, task: Task) -> Task:
        """The two attempts in the other order."""
        if not self.has_views:
            return super().view(task)
        turned = roles.asked(self._below, self._role, roles.subject(task), roles.attempts_of(task)[::-1])
        return task._replace(prompt=turned.prompt, answer=turned.answer, metadata=turned.metadata)

    def from_view(self, answer: str) -> str:
        """The first for the second, and the reverse."""
        return {"1": "2", "2": "1"}.get(answer, answer) if self.has_views else answer

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """Another opinion than the right one, which is one step."""
        if errors != 1:
            raise UserError(f"An answer in the role '{self._role}' is one step: ask for one error, not {errors}.")
        return roles.spoilt(self._below, task, seed)


environment = Asked
