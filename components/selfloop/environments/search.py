"""Search: ``search:all``, countdown with the search written down, by which of four habits, and right or wrong.

``4,5,2=14:`` is answered ``<goal>4<from>14-10=4:4+2*5<check>14<so>4+2*5``, or after tries that were given up. A try
says what its first part shall come to (``<goal>``, a subgoal), what the target leaves for that part beside the others
(``<from>``, backward chaining), and what it comes to (``<check>``, verification); where it fails there is another one
(``<back>``, backtracking). What stands behind the last ``<so>`` is the answer, and alone is judged. The name says what
a base policy is shown:

- ``search:all``: all four habits; ``back``, ``check``, ``goal`` and ``from``, joined by ``-``, some of them;
- ``search:wrong``: all four habits, and wrong answers;
- ``search:empty``: right answers alone; ``search:dots``: behind as many dots as the search has tokens.

After the primings of Gandhi et al., "Cognitive Behaviors that Enable Self-Improving Reasoners" (arXiv:2503.01307),
whose traces a larger model writes, for models that were trained on much else before; here a base is shown nothing else.
"""

import ast
import random
import re
from collections.abc import Mapping
from fractions import Fraction

from selfloop.environments import Dressed, Grade
from selfloop.environments.countdown import TARGETS, Countdown, expression, given_in, worked_out
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of

HABITS = ("check", "back", "goal", "from")
MARKS = {habit: f"<{habit}>" for habit in HABITS}
MARK = re.compile("|".join(MARKS.values()))
SO = "<so>"
TRIES = 2
"""Tries that are given up, at most."""
EXAMPLE = "search:all"
INVERSE: Mapping[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
"""What is done to the target, and by the second part of an expression, to say what its first part must come to."""


class Search(Dressed):
    """Countdown by a search that is written down."""

    name = "search"
    summary = f"countdown with the search written down, as by some of four habits, such as {EXAMPLE}"

    def __init__(self, member: str = "all") -> None:
        super().__init__(Countdown())
        chosen = HABITS if member in ("all", "wrong", "dots") else () if member == "empty" else member.split("-")
        if odd := sorted(set(chosen) - set(HABITS)):
            raise UserError(
                f"'{odd[0]}' of 'search:{member}' is no habit: write {', '.join(HABITS)}, some of them with - between "
                "them, or all, wrong, empty or dots."
            )
        self._habits, self._shows = frozenset(chosen), member
        self.alphabet = f"{self._below.alphabet}."
        self.special_tokens = (*MARKS.values(), SO)

    def dressed(self, task: Task, seed: int) -> Task:
        """The problem, with room for a search."""
        longest = task.max_tokens + 16  # a goal, what is left for it, what it comes to, and marks
        return task._replace(max_tokens=(TRIES + 1) * longest + task.max_tokens)

    def undressed(self, task: Task) -> Task:
        """The problem."""
        return task

    def demonstration(self, task: Task) -> str:
        """A search by the habits, and its answer."""
        rng = random.Random(seed_of(self.name, task.prompt))
        trace, answer = self._search(task, rng)
        if self._shows == "dots":
            return "." * len(MARK.sub("m", trace)) + SO + task.answer
        return trace + SO + (answer if self._shows == "wrong" else task.answer)

    def _search(self, task: Task, rng: random.Random) -> tuple[str, str]:
        """A search, and the expression that it ends with."""
        wrong = [_wrong(task, rng) for _ in range(rng.randint(0, TRIES) if "back" in self._habits else 0)]
        last = _wrong(task, rng) if self._shows == "wrong" else task.answer
        written = [self._tried(each, task) for each in [*wrong, last]]
        return MARKS["back"].join(written), last

    def _tried(self, text: str, task: Task) -> str:
        if not self._habits:
            return ""
        first, left = parts(text, given_in(task)[1])
        goal = f"{MARKS['goal']}{first}" if "goal" in self._habits else ""
        chained = f"{MARKS['from']}{left}" if "from" in self._habits and left else ""
        value = f"{MARKS['check']}{worked_out(text)[0]}" if "check" in self._habits else ""
        planned = f"{goal}{chained}:" if goal or chained else ""
        return f"{planned}{text}{value}"

    def extract_answer(self, completion: str) -> str:
        """What stands behind the last ``<so>``."""
        return completion.rpartition(SO)[2] if SO in completion else ""

    def check(self, task: Task, completion: str) -> Grade:
        """Judge the answer, and not the search."""
        if SO not in completion:
            return Grade(False, 0.0, "no answer")
        return self._below.check(task, self.extract_answer(completion))

    def traits(self, completion: str) -> dict[str, float]:
        """How often each habit is shown."""
        return {habit: float(completion.count(mark)) for habit, mark in MARKS.items()}


def parts(text: str, target: int) -> tuple[Fraction, str]:
    """What the first part of an expression comes to; and what the target leaves for it beside the second part, as it is
    written, where that is a whole positive number.
    """
    tree = ast.parse(text, mode="eval").body
    assert isinstance(tree, ast.BinOp)
    first, second = (worked_out(ast.unparse(each))[0] for each in (tree.left, tree.right))
    sign = INVERSE[type(tree.op)]
    left = {"-": target - second, "+": target + second, "/": target / second, "*": target * second}[sign]
    is_whole = left > 0 and left.denominator == 1
    return first, f"{target}{sign}{second}={left}" if is_whole else ""


def _wrong(task: Task, rng: random.Random) -> str:
    """An expression of the given numbers that comes to something else."""
    numbers, target = given_in(task)
    while True:
        made = expression(list(numbers), rng)
        if made.value != target and made.value <= TARGETS[-1]:
            return made.text


environment = Search
