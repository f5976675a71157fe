"""Look-ups: ``[1]qd=17[2]ab=qd[3]xq=40?ab:`` asks what ``ab`` is, and is answered ``[2][1]17``.

Passages say that a name is a number, or another name; most of them are beside the question. An answer cites the
passages that lead to it, in their order, before it gives the number: right is what cites these and no others, so that
a number that was guessed, or read off the wrong passage, is told from one that was looked up. The level is the number
of passages; one question of two takes two of them. Names and numbers are drawn anew for each task: nothing of it can be
known by heart. In the role ``restate`` a policy writes passages for what is cited and said. After the cited evidence of
Xia et al., "Improving Retrieval Augmented Language Model with Self-Reasoning" (arXiv:2407.19813).
"""

import random
import re
from collections.abc import Iterator
from string import ascii_lowercase, digits

from selfloop.environments import Environment, Grade, distinct
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.roles import RESTATE

LEVELS = range(1, 10)
CITED = re.compile(r"((?:\[[1-9]\])+)([0-9]{2})")
PASSAGE = re.compile(r"\[([1-9])\]([a-z]{2})=([a-z]{2}|[0-9]{2})")
ASKED = re.compile(rf"((?:{PASSAGE.pattern})+)\?([a-z]{{2}}):")


class Lookup(Environment):
    """Finding what a name stands for among passages, and citing those that say it."""

    name = "lookup"
    summary = "a name that is looked up among passages, which the answer cites; the level is the number of passages"
    levels = LEVELS
    suites_apart = True
    alphabet = digits + ascii_lowercase + "=?:[]"
    roles = (RESTATE,)
    closing = ":"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Questions about ``level`` passages, no prompt twice."""
        return _named(f"lookup-{level}-{seed:x}", level, distinct(_questions(level, seed, near=False), count))

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """``near``: every other name differs from the one that is asked for by a letter."""
        if level == 1:
            return {}
        questions = distinct(_questions(level, seed, near=True), count)
        return {"near": _named(f"lookup-near-{level}-{seed:x}", level, questions)}

    def demonstration(self, task: Task) -> str:
        """The passages that lead to the answer, and the answer."""
        return led(task.prompt)

    def extract_answer(self, completion: str) -> str:
        """The number behind the citations."""
        found = CITED.fullmatch(completion)
        return found[2] if found else ""

    def check(self, task: Task, completion: str) -> Grade:
        """The number, and the passages that are cited; a right number with others is worth half, and wrong."""
        said = self.extract_answer(completion)
        if not said:
            return Grade(False, 0.0, "no citation and number")
        if said != task.answer:
            return Grade(False, 0.0, "wrong number")
        ok = completion == self.demonstration(task)
        return Grade(ok, 1.0 if ok else 0.5, "correct" if ok else "wrong passages")

    def restating(self, task: Task, attempt: str) -> str:
        """The number of passages, and what is cited and said."""
        return f"{task.level}{attempt}"

    def restated(self, task: Task) -> str:
        """Its passages, and the name that is asked for."""
        return task.prompt.removesuffix(self.closing)

    def retold(self, task: Task, text: str) -> str:
        """The same as a question."""
        return f"{text}{self.closing}"

    def check_restated(self, task: Task, attempt: str, text: str) -> Grade:
        """Right are as many passages, each of another name, of which those that are cited say what is said."""
        question = self.retold(task, text)
        passages = PASSAGE.findall(question)
        if not ASKED.fullmatch(question) or [int(each[0]) for each in passages] != list(range(1, task.level + 1)):
            return Grade(False, 0.0, "not a question about as many passages")
        if len({name for _, name, _ in passages}) < task.level:
            return Grade(False, 0.0, "two passages about a name")
        ok = led(question) == attempt
        return Grade(ok, float(ok), "correct" if ok else "other passages say it, or none")


def led(question: str) -> str:
    """The passages of a question that lead from the name that it asks for, in their order, and where they lead to."""
    says = {name: (number, said) for number, name, said in PASSAGE.findall(question)}
    cited, name = "", question[-3:-1]
    while name in says:
        number, name = says.pop(name)
        cited += f"[{number}]"
    return cited + name


def _questions(level: int, seed: int, near: bool) -> Iterator[tuple[str, str]]:
    """Prompts and answers, without end. Raises ``UserError`` for a level that there is not."""
    if level not in LEVELS:
        raise UserError(f"lookup has levels 1 to {LEVELS[-1]}, not {level}.")
    rng = random.Random(seed)
    while True:
        names = _names(level, rng, near)
        says = {name: f"{rng.randrange(100):02}" for name in names}
        if level > 1 and rng.random() < 0.5:
            says[names[0]] = names[1]
        passages = list(says.items())
        rng.shuffle(passages)
        answer = says.get(says[names[0]], says[names[0]])
        prompt = "".join(f"[{number}]{name}={said}" for number, (name, said) in enumerate(passages, 1))
        yield f"{prompt}?{names[0]}:", answer


def _names(number: int, rng: random.Random, near: bool) -> list[str]:
    """Different names, the first of which is asked for: the others each share one letter with it, or none of them."""
    first = "".join(rng.choices(ascii_lowercase, k=2))
    names = {first: None}
    while len(names) < number:
        other = "".join(rng.choices(ascii_lowercase, k=2))
        if near:
            other = rng.choice([first[0] + other[1], other[0] + first[1]])
        if near or not any(map(str.__eq__, first, other)):
            names[other] = None
    return list(names)


def _named(stem: str, level: int, questions: list[tuple[str, str]]) -> list[Task]:
    return [
        Task(f"{stem}-{number}", level, "", prompt, answer, max_tokens=10)
        for number, (prompt, answer) in enumerate(questions)
    ]


environment = Lookup
