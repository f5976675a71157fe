"""Feasible: ``feasible:4:chain``, where a policy says of tasks whether it can do them, and does not do them.

A prompt is a task and ``<can>``; the answer is ``1`` for what is feasible and ``0`` for what is not. What is shown, and
checked, is a boundary that a person draws: here levels up to 4 are feasible. Where it lies for a policy is for its own
pass rates to say, which nobody knows beforehand: measure it on the tasks below, by ``mixture:chain@1-8+
feasible:4:chain@1-8``. That mixture is the world of KnowRL (Kale and Dhami, arXiv:2510.11407), whose policies write
these tasks themselves.
"""

from selfloop.environments import Dressed, ExactAnswer, find_environment
from selfloop.errors import UserError
from selfloop.records import Task

CAN = "<can>"
EXAMPLE = "feasible:4:chain"


class Feasible(Dressed, ExactAnswer):
    """Whether tasks of another environment can be done."""

    name = "feasible"
    summary = f"whether tasks of another environment can be done, those up to a level, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        hardest, _, name = member.partition(":")
        if not hardest.isdecimal() or not name:
            raise UserError(
                f"'{self.name}:{member}' is no environment: write the hardest level that is feasible, and an "
                f"environment: {EXAMPLE}."
            )
        super().__init__(find_environment(name))
        self.hardest = int(hardest)
        if self.levels is None or not {self.hardest, self.hardest + 1} <= set(self.levels):
            raise UserError(
                f"Level {hardest} parts no levels of '{name}': name one that it has, and that is not its last."
            )
        self.special_tokens = (*self.special_tokens, CAN)

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environment below."""
        return [member.partition(":")[2]]

    @property
    def source(self) -> str:
        """The boundary, and the environment below."""
        return f"{self.name}:{self.hardest}:{self._below.source}"

    def dressed(self, task: Task, seed: int) -> Task:
        """Whether the task can be done."""
        return task._replace(prompt=f"{task.prompt}{CAN}", answer=str(int(task.level <= self.hardest)), max_tokens=2)

    def undressed(self, task: Task) -> Task:
        """The task that it is about, whose answer nobody needs here."""
        return task._replace(prompt=task.prompt.removesuffix(CAN))


environment = Feasible
