"""Marked: ``marked:lookup``, the tasks of another environment behind a mark that asks for the best answers.

``<q5>`` asks for the best fifth of what a policy may write, ``<q1>`` for the worst. A policy learns what the marks mean
from attempts under the one that fits them, which the selector ``quantiles`` sees to, and is asked under the best one:
Lu et al., "Quark" (arXiv:2205.13636). ``marked:1:lookup`` asks under another, to see whether it is heeded.
"""

from selfloop.environments import Environment, Redressed, find_environment
from selfloop.errors import UserError
from selfloop.records import Task

MARKS = ("<q1>", "<q2>", "<q3>", "<q4>", "<q5>")
"""From the worst to the best."""
EXAMPLE = "marked:lookup"


class Marked(Redressed):
    """Tasks of another environment, under a mark of how good an answer is asked for."""

    name = "marked"
    summary = f"the tasks of another environment, behind a mark that asks for the best answers, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        number, name = _parts(member)
        super().__init__(_found(name, member))
        self._mark = MARKS[number - 1]
        self.special_tokens = tuple(dict.fromkeys([*self._below.special_tokens, *MARKS]))

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environment below."""
        return [_parts(member)[1]]

    @property
    def source(self) -> str:
        """The environment below, under the mark."""
        return f"{self.name}:{self._below.source}"

    def dressed(self, task: Task, seed: int) -> Task:
        """The task behind the mark."""
        return task._replace(prompt=f"{self._mark}{task.prompt}")

    def undressed(self, task: Task) -> Task:
        """The task without its mark, whichever that is."""
        return task._replace(prompt=unmarked(task.prompt))


def unmarked(prompt: str) -> str:
    """A prompt without its mark."""
    return prompt[len(MARKS[0]) :] if prompt.startswith(MARKS) else prompt


def _parts(member: str) -> tuple[int, str]:
    """The number of the mark, and the environment below."""
    number, _, name = member.partition(":")
    return (int(number), name) if number in map(str, range(1, len(MARKS) + 1)) else (len(MARKS), member)


def _found(name: str, member: str) -> Environment:
    if not name:
        raise UserError(f"'marked:{member}' is no environment: write one behind it, as in {EXAMPLE}.")
    return find_environment(name)


environment = Marked
