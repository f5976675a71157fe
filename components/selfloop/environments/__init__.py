"""Environments: tasksets with their protocol and their verifier, one file each, found by name.

An environment is a subclass of ``Environment`` in a module of this package, a ``family:name`` of one that adapts a
whole library (``reasoning-gym:countdown``), or the user's own as ``module:Class``.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from selfloop import roles
from selfloop.errors import UserError
from selfloop.grades import Grade as Grade
from selfloop.grades import as_columns as as_columns
from selfloop.identity import Named, resolves
from selfloop.lookup import imported, unknown
from selfloop.records import Task
from selfloop.seeds import seed_of

if TYPE_CHECKING:
    import pyarrow as pa


T = TypeVar("T")
PATIENCE = 1000
"""Draws in a row that bring nothing new, after which a level counts as exhausted."""


class Restarts(NamedTuple):
    """Where position ids start again at 1: on the token itself (``at``) or on the one behind it (``after``)."""

    at: str
    after: str


class Environment(ABC):
    """Tasks by level of difficulty, and what counts as solving them."""

    name: ClassVar[str]
    summary: ClassVar[str]
    levels: range | None = None
    """The levels of difficulty, where the environment has an ordered scale of them."""
    alphabet: str | None = None
    """The characters of its texts, where a policy can be trained on them from scratch."""
    special_tokens: tuple[str, ...] = ()
    """Words such as ``<op>`` that are one token each of a policy trained from scratch, beside the alphabet."""
    restarts: Restarts | None = None
    """The position scheme that a policy trained from scratch shall use; plain counting where none is given."""
    proposal_prompt: ClassVar[str | None] = None
    """The prompt that asks a policy for a new task, where policies can propose tasks of this environment."""

    roles: tuple[str, ...] = ()
    """What a policy may be asked about attempts, beside making them, of the roles that ``selfloop.roles`` lists."""
    closing: str = ""
    """What ends the prompts of its tasks, and stands behind the mark of a role wherever a text like theirs follows."""
    claims: bool = False
    """Whether the proposals that a policy is shown claim an answer."""
    varies: ClassVar[bool] = False
    """Whether completions are texts that can be varied and kept in an archive: ``variation`` and ``applied``."""

    has_views: bool = False
    """Whether it can say a task in another way: ``view``."""
    by_heart: tuple[int, ...] = ()
    """Levels of so few problems that a policy learns each of them: nothing of these is held out."""
    suites_apart: bool = False
    """Whether ``tasks`` never draws what its guard suites hold."""
    game: ClassVar[bool] = False
    """Whether its tasks are deals of a game that a policy plays on every seat."""
    runs_code: bool = False
    """Whether completions are programs, which it runs in the sandbox."""

    @property
    def offers(self) -> set[str]:
        """The features that a recipe can ask for: levels, alphabet, plain positions, proposals, claims, variations,
        views, game, and each of its roles."""
        features = {
            "levels": self.levels is not None,
            "alphabet": self.alphabet is not None,
            "plain positions": self.alphabet is not None and self.restarts is None,
            "proposals": self.proposal_prompt is not None,
            "claims": self.claims,
            "variations": self.varies,
            "views": self.has_views,
            "game": self.game,
        }
        return {name for name, offered in features.items() if offered} | set(self.roles)

    def levels_among(self, levels: Iterable[int]) -> list[int]:
        """Those of some levels that it has; all of them where it has no scale of levels."""
        return [level for level in levels if self.levels is None or level in self.levels]

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The names of other environments that a member of this family is made of."""
        return []

    def files(self) -> list[str]:
        """The files and folders that its tasks are read from, as its name spells them: what changes there makes it
        another environment.
        """
        return []

    @abstractmethod
    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """``count`` tasks of one level, the same for the same seed, whether they are held out or not."""

    @property
    def source(self) -> str:
        """What messages about its problems call it."""
        return self.name

    @property
    def apart(self) -> bool:
        """Whether what it holds out is kept apart, as a split of a data set, and nothing of ``tasks`` is held out."""
        return False

    def held_out(self, level: int, count: int, seed: int) -> list[Task]:
        """``count`` tasks of those that it keeps ``apart``. Where it keeps none, some of the ``tasks`` are held out:
        which, is for ``selfloop.split`` to say.
        """
        return self.tasks(level, count, seed)

    def content(self, task: Task) -> str:
        """What makes a task the problem that it is, the same for the same problem in another dress: of two such, none
        is learnt from where the other is held out.
        """
        return " ".join(task.prompt.split())

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """Held-out tasks of further suites that a candidate must not lose, by name: out-of-distribution problems of a
        level that is mastered. ``count`` of each suite, the same for the same seed, with ids of their own.
        """
        return {}

    def demonstration(self, task: Task) -> str:
        """A completion that is right, as the policy should write it: what it is shown to begin with."""
        return task.answer

    def non_policy_spans(self, text: str) -> list[tuple[int, int]]:
        """The ranges of characters in a demonstration or a proposal that others wrote, such as a tool: none trains."""
        return []

    def parse_proposal(self, text: str, id: str) -> Task:
        """The task that a policy's text at the ``proposal_prompt`` proposes, its prompt in one form for equal ones. The
        text is everything that it wrote, and what tools answered.

        The true answer is in ``answer`` where it can be known. An answer that the proposer claims itself stands in the
        metadata as ``claimed``. Raises ``ValueError`` with the reason where the text is no task.
        """
        raise ValueError(f"{self.name} takes no proposals")

    def proposals(self, level: int, count: int, seed: int) -> list[str]:
        """``count`` texts as a proposer should write them: what it is shown to begin with."""
        return []

    def asked(self, role: str, task: Task, attempts: Sequence[str], told: str = "") -> Task:
        """What a policy is asked in a role about attempts at a task, which may be one of a role itself: a task of its
        own, whose answer is the truth where it is known. ``told`` is shown behind the attempts.

        Raises ``UserError`` for a role that it has not, and for too few or too many attempts.
        """
        if role not in self.roles:
            raise self.without(role)
        return roles.asked(self, role, task, attempts, told)

    def without(self, role: str) -> UserError:
        """That it has not this role."""
        known = ", ".join(self.roles) or "none"
        return UserError(
            f"Environment '{self.name}' has no role '{role}' (known: {known}): choose another environment."
        )

    def opinion(self, role: str, text: str) -> float | None:
        """What a policy's answer in a role says, from 0 to 1: how good an attempt is, or the first of two beside the
        other; ``None`` where it says nothing.
        """
        return roles.opinion(role, text)

    def spoilt(self, task: Task, errors: int, seed: int) -> str:
        """A completion that is wrong, and wrong in exactly so many of its steps."""
        raise UserError(f"Environment '{self.name}' makes no wrong answers: choose one that offers 'judge'.")

    def recomputed(self, task: Task, attempt: str) -> str:
        """What a tool makes of each step of an attempt, worked out from what is written before it."""
        raise UserError(f"Environment '{self.name}' works out no steps: choose one that offers 'grounded'.")

    def steps(self, completion: str) -> list[int]:
        """Where the steps of a completion end, in characters; one step where it has no parts."""
        return [len(completion)] if completion else []

    def traits(self, completion: str) -> dict[str, float]:
        """Numbers that describe a completion, by name, whose means a measurement tells."""
        return {}

    def restating(self, task: Task, attempt: str) -> str:
        """What one who restates a task from an attempt at it is shown, before the mark."""
        raise UserError(f"Environment '{self.name}' restates no tasks: choose one that offers 'restate'.")

    def restated(self, task: Task) -> str:
        """A task as one should write it who restates it."""
        raise UserError(f"Environment '{self.name}' restates no tasks: choose one that offers 'restate'.")

    def retold(self, task: Task, text: str) -> str:
        """The prompt of the task that a text says which restates this one."""
        raise UserError(f"Environment '{self.name}' restates no tasks: choose one that offers 'restate'.")

    def check_restated(self, task: Task, attempt: str, text: str) -> Grade:
        """Grade a text that restates a task from an attempt at it: right is a task that comes to this attempt."""
        raise UserError(f"Environment '{self.name}' restates no tasks: choose one that offers 'restate'.")

    def worked_back(self, task: Task, place: int, answer: str) -> str:
        """How the number at a place of a task, where it is masked, is worked out from an answer; empty where it is not.

        The number itself is left out.
        """
        return ""

    def view(self, task: Task) -> Task:
        """The same task said in another way, and its answer there; the other view of this one is the task again."""
        raise UserError(f"Environment '{self.name}' has no other view of a task: choose one that offers 'views'.")

    def from_view(self, answer: str) -> str:
        """What an answer at the other view of a task says at the task itself."""
        return answer

    def variation(self, text: str, level: int, id: str) -> Task:
        """The task to write a variation of a text, such as a better program, for an archive of them."""
        raise UserError(f"Environment '{self.name}' has no variations: choose one that offers them.")

    def applied(self, text: str, item: Task) -> Grade:
        """How a text of an archive does on one held-out item."""
        raise UserError(f"Environment '{self.name}' has no variations: choose one that offers them.")

    @abstractmethod
    def check(self, task: Task, completion: str) -> Grade:
        """Grade one completion that the policy ended by itself."""

    def extract_answer(self, completion: str) -> str:
        """The answer that a completion gives, what votes are counted on; where it is blank, there is no vote."""
        return completion

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the answers of each pair, as ``extract_answer`` gives them, say the same, and are one in a vote."""
        return [first == other for first, other in pairs]

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Grade a batch: ``ok`` (bool), ``score`` (float), ``reason`` (string), a row each."""
        rows = zip(tasks.to_pylist(), completions.to_pylist(), strict=True)
        return as_columns([self.check(Task(**row), completion) for row, completion in rows])


@cache
def say_once(sentence: str) -> None:
    """Log a sentence, the first time that it is said."""
    logging.getLogger(__name__).warning(sentence)


def unified(groups: Sequence[Sequence[str]], environment: Environment) -> list[list[str]]:
    """The answers of each group in one spelling: that of the first that says the same. A blank one is empty.

    Each turn compares, in all groups at once, the first answer that is not unified yet with the others.
    """
    spelt: list[dict[str, str]] = [{} for _ in groups]
    waiting = [list(dict.fromkeys(filter(str.strip, group))) for group in groups]
    while any(waiting):
        same = iter(environment.agree([(first, other) for first, *others in filter(None, waiting) for other in others]))
        for number, group in enumerate(waiting):
            verdicts = [(other, other == group[0] or next(same)) for other in group]
            spelt[number] |= {other: group[0] for other, is_same in verdicts if is_same}
            waiting[number] = [other for other, is_same in verdicts if not is_same]
    return [[found.get(answer, "") for answer in group] for group, found in zip(groups, spelt, strict=True)]


def distinct(drawn: Iterator[T], count: int, key: Callable[[T], Hashable] = lambda each: each) -> list[T]:
    """The first ``count`` of endless draws that differ in their key, or all that are found."""
    found: dict[Hashable, T] = {}
    while len(found) < count:
        before = len(found)
        for each in islice(drawn, PATIENCE):
            found.setdefault(key(each), each)
            if len(found) == count:
                break
        if len(found) == before:
            break
    return list(found.values())


class ExactAnswer(Environment):
    """An environment whose completion is right when it is the answer, letter by letter."""

    def check(self, task: Task, completion: str) -> Grade:
        """Compare one completion with the answer."""
        ok = completion == task.answer
        return Grade(ok, float(ok), "correct" if ok else "wrong answer")

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Compare a batch at once."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ok = pc.equal(completions, tasks["answer"])
        return ok, pc.cast(ok, pa.float64()), pc.if_else(ok, "correct", "wrong answer")


class Dressed(Environment):
    """The tasks of another environment in another dress, such as with a mark before them."""

    def __init__(self, below: Environment) -> None:
        self._below = below
        self.levels, self.by_heart, self.runs_code = below.levels, below.by_heart, below.runs_code
        self.alphabet, self.restarts, self.closing = below.alphabet, below.restarts, below.closing
        self.special_tokens, self.suites_apart = below.special_tokens, below.suites_apart

    @abstractmethod
    def dressed(self, task: Task, seed: int) -> Task:
        """A task of the environment below, in the dress."""

    @abstractmethod
    def undressed(self, task: Task) -> Task:
        """The task of the environment below that it is."""

    @property
    def apart(self) -> bool:
        """Whether the environment below keeps apart what it holds out."""
        return self._below.apart

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Those of the environment below."""
        return self._all(self._below.tasks(level, count, seed), seed)

    def held_out(self, level: int, count: int, seed: int) -> list[Task]:
        """What the environment below holds out."""
        return self._all(self._below.held_out(level, count, seed), seed)

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """Those of the environment below."""
        suites = self._below.guard_suites(level, count, seed)
        return {name: self._all(tasks, seed) for name, tasks in suites.items()}

    def _all(self, tasks: Sequence[Task], seed: int) -> list[Task]:
        return [self.dressed(task, seed_of(seed, task.id)) for task in tasks]

    def content(self, task: Task) -> str:
        """The problem below."""
        return self._below.content(self.undressed(task))

    def non_policy_spans(self, text: str) -> list[tuple[int, int]]:
        """As below."""
        return self._below.non_policy_spans(text)

    def traits(self, completion: str) -> dict[str, float]:
        """As below."""
        return self._below.traits(completion)


class Redressed(Dressed):
    """The tasks of another environment in another dress, with the answers that they have there."""

    def demonstration(self, task: Task) -> str:
        """As below."""
        return self._below.demonstration(self.undressed(task))

    def extract_answer(self, completion: str) -> str:
        """As below."""
        return self._below.extract_answer(completion)

    def check(self, task: Task, completion: str) -> Grade:
        """As below: what is good does not go by the dress."""
        return self._below.check(self.undressed(task), completion)


@cache
def environments() -> dict[str, type[Environment]]:
    """Every environment that comes with selfloop, by name; a family such as ``reasoning-gym`` is one entry."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {module.environment.name: module.environment for module in modules}


def find_environment(name: str) -> Environment:
    """The environment of this name. Raises ``UserError`` with the nearest name where there is none."""
    known = environments()
    family, _, member = name.partition(":")
    if family in known and (member or family == name):
        kind: Any = known[family]
    elif member:
        kind, member = imported("environment", name), ""
    else:
        raise unknown("environment", name, known)
    try:
        found = kind(member) if member else kind()
    except TypeError:
        raise UserError(f"'{name}' is not a family of environments: write '{family}' alone.") from None
    if not isinstance(found, Environment):
        raise UserError(f"'{name}' is not an environment: make it a subclass of selfloop.environments.Environment.")
    return found


@resolves("environment")
def named(name: str) -> Named:
    """The module of an environment of this name, where it is the user's own, and the files that it reads; of one that
    is made of others, theirs.
    """
    family, _, member = name.partition(":")
    kind: Any = environments().get(family)
    with suppress(UserError):
        if kind is not None and (made_of := list(map(named, kind.parts(member)))):
            return Named(
                [name for each in made_of for name in each.modules], [p for each in made_of for p in each.places]
            )
    modules = [name.rpartition(":")[0]] if kind is None and ":" in name else []
    with suppress(UserError, ImportError):  # not to be had here, where it may not be needed
        kind = kind or imported("environment", name)
        if not inspect.isclass(kind) or getattr(kind, "files", None) is not Environment.files:
            return Named(modules, find_environment(name).files())
    return Named(modules)
