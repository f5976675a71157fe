"""Budgeted: ``budgeted:chain``, where an answer begins with how hard a policy takes the task to be.

``57+3*8-2=`` is answered ``<hard>609290``, step by step, or ``<easy>90``, in the head: what stands behind the mark has
the form that the mark says, and right is the same answer in both. A base is shown the first level in the head, and of
each level beyond half as many as of the one before: short answers to what is easy, as by Huang et al., "AdaCtrl"
(arXiv:2505.18822), for a start that knows both marks. What it finds hard itself, it does not know yet.
``budgeted:easy:chain`` and ``budgeted:hard:chain`` ask for one of the two, with the mark in the prompt, as a user does.
"""

from collections.abc import Sequence

from selfloop.environments import Dressed, Environment, Grade, find_environment
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of

EASY, HARD = "<easy>", "<hard>"
EXAMPLE = "budgeted:chain"


class Budgeted(Dressed):
    """Tasks of another environment, answered in the head or step by step, as a mark says that the policy writes."""

    name = "budgeted"
    summary = f"the tasks of another environment, step by step or in the head, by a mark of its own, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        self._asked, name = _parts(member)
        if not name:
            raise UserError(f"'budgeted:{member}' is no environment: write one behind it, as in {EXAMPLE}.")
        below = find_environment(name)
        if type(below).extract_answer is Environment.extract_answer:
            raise UserError(f"An answer of '{name}' has no steps to leave out: choose another, as in {EXAMPLE}.")
        super().__init__(below)
        self.special_tokens = tuple(dict.fromkeys([*below.special_tokens, EASY, HARD]))

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environment below."""
        return [_parts(member)[1]]

    @property
    def source(self) -> str:
        """The environment below, and the mark that is asked for."""
        return f"{self.name}:{self._asked}{self._below.source}"

    def dressed(self, task: Task, seed: int) -> Task:
        """The task, with room for a mark; the mark that is asked for stands behind it."""
        return task._replace(prompt=f"{task.prompt}{self._asked}", max_tokens=task.max_tokens + 1)

    def undressed(self, task: Task) -> Task:
        """The task without a mark."""
        return task._replace(prompt=task.prompt.removesuffix(EASY).removesuffix(HARD))

    def demonstration(self, task: Task) -> str:
        """The answer step by step, or without the steps, seldom of a high level, where no mark is asked for."""
        text = self._below.demonstration(self.undressed(task))
        mark = self._asked or (HARD if seed_of(self.name, task.prompt) % 2 ** (task.level - 1) else EASY)
        return ("" if self._asked else mark) + (self._below.extract_answer(text) if mark == EASY else text)

    def extract_answer(self, completion: str) -> str:
        """The answer behind the mark."""
        mark, text = self._parted(completion)
        return text if mark == EASY else self._below.extract_answer(text)

    def check(self, task: Task, completion: str) -> Grade:
        """Judge the answer in the form that its mark says; without a mark nothing is right."""
        mark, text = self._parted(completion)
        if mark == HARD:
            return self._below.check(self.undressed(task), text)
        if mark != EASY:
            return Grade(False, 0.0, "no mark")
        [ok] = self._below.agree([(text, task.answer)])
        return Grade(ok, float(ok), "correct" if ok else "wrong answer")

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """As below."""
        return self._below.agree(pairs)

    def traits(self, completion: str) -> dict[str, float]:
        """Whether it is answered in the head, and the characters behind the mark."""
        mark, text = self._parted(completion)
        return {"easy": float(mark == EASY), "written": float(len(text))}

    def _parted(self, completion: str) -> tuple[str, str]:
        """The mark of a completion, empty where it has none, and what stands behind it."""
        mark = self._asked or mark_of(completion)
        return mark, completion if self._asked else completion.removeprefix(mark)


def mark_of(completion: str) -> str:
    """The mark that a completion begins with; empty where it has none."""
    return next((each for each in (EASY, HARD) if completion.startswith(each)), "")


def _parts(member: str) -> tuple[str, str]:
    """The mark that is asked for, and the environment below."""
    asked, _, name = member.partition(":")
    return (f"<{asked}>", name) if f"<{asked}>" in (EASY, HARD) else ("", member)


environment = Budgeted
