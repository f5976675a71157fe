"""Mixtures: ``mixture:reverse@2-6+countdown@1-3``, levels of several environments as the levels of one.

Each level of a mixture is a cell, a level of one of its environments, in the order in which they are written: here 1 to
5 are of reverse, 6 to 8 of countdown. One policy learns all of it, so nobody may mistake a task of one environment for
one of another. It counts positions as its environments do where they agree, else plainly. Nobody proposes its tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from selfloop.environments import Environment, Grade, as_columns, find_environment
from selfloop.errors import UserError
from selfloop.records import Task

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLE = "mixture:reverse@2-6+countdown@1-3"
PART = re.compile(r"(.+)@(\d+)(?:-(\d+))?")
LOOKED_AT = 16
"""Tasks of each cell that are compared with those of other environments."""


class Cell(NamedTuple):
    """A level of an environment."""

    environment: Environment
    level: int


class Mixture(Environment):
    """Levels of several environments as those of one."""

    name = "mixture"
    summary = f"levels of several environments as those of one, such as {EXAMPLE}"

    def __init__(self, member: str = "") -> None:
        self.cells = _cells(member)
        self.levels = range(1, len(self.cells) + 1)
        self._environments = list(dict.fromkeys(cell.environment for cell in self.cells))
        alphabets = [each.alphabet for each in self._environments]
        if None not in alphabets:
            self.alphabet = "".join(dict.fromkeys("".join(map(str, alphabets))))
        self.special_tokens = tuple(
            dict.fromkeys(token for each in self._environments for token in each.special_tokens)
        )
        schemes = {each.restarts for each in self._environments}
        self.restarts = schemes.pop() if len(schemes) == 1 else None
        self.runs_code = any(each.runs_code for each in self._environments)
        self.suites_apart = all(each.suites_apart for each in self._environments)
        self.by_heart = tuple(n for n, cell in enumerate(self.cells, 1) if cell.level in cell.environment.by_heart)

    @property
    def apart(self) -> bool:
        """Whether its environments keep apart what they hold out."""
        return all(each.apart for each in self._environments)

    def content(self, task: Task) -> str:
        """What makes it a problem of its environment."""
        cell, given = self._given(task)
        return cell.environment.content(given)

    @classmethod
    def parts(cls, member: str) -> list[str]:
        """The environments that it is made of."""
        return list(dict.fromkeys(name for name, _, _ in _parts(member)))

    def files(self) -> list[str]:
        """Those of all its environments."""
        return [file for each in self._environments for file in each.files()]

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Tasks of a cell."""
        cell = self._cell(level)
        return self._there(level, count, cell.environment.tasks(cell.level, count, seed))

    def held_out(self, level: int, count: int, seed: int) -> list[Task]:
        """What the cell's environment holds out."""
        cell = self._cell(level)
        return self._there(level, count, cell.environment.held_out(cell.level, count, seed))

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        """Those of the cell's environment."""
        cell = self._cell(level)
        suites = cell.environment.guard_suites(cell.level, count, seed)
        return {name: [task._replace(level=level) for task in tasks] for name, tasks in suites.items()}

    def demonstration(self, task: Task) -> str:
        """As the cell's environment shows it."""
        cell, given = self._given(task)
        return cell.environment.demonstration(given)

    def non_policy_spans(self, text: str) -> list[tuple[int, int]]:
        """What others write in any of its environments."""
        return sorted({span for each in self._environments for span in each.non_policy_spans(text)})

    def check(self, task: Task, completion: str) -> Grade:
        """As the cell's environment grades it."""
        cell, given = self._given(task)
        return cell.environment.check(given, completion)

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Grade what is of one environment at once."""
        import pyarrow as pa

        cells = [self._cell(level) for level in tasks["level"].to_pylist()]
        levels = pa.array([cell.level for cell in cells], tasks.schema.field("level").type)
        given = tasks.set_column(tasks.schema.get_field_index("level"), tasks.schema.field("level"), levels)
        order, graded = list[int](), [as_columns([])]
        for environment in dict.fromkeys(cell.environment for cell in cells):
            rows = [row for row, cell in enumerate(cells) if cell.environment is environment]
            order += rows
            graded.append(environment.check_batch(given.take(pa.array(rows)), completions.take(pa.array(rows))))
        back = pa.array(sorted(range(len(order)), key=order.__getitem__), pa.int64())
        ok, score, reason = (pa.concat_arrays(column).take(back) for column in zip(*graded, strict=True))
        return ok, score, reason

    def extract_answer(self, completion: str) -> str:
        """What is left when each environment has taken its answer, in their order: a text says not whose it is."""
        for environment in self._environments:
            completion = environment.extract_answer(completion)
        return completion

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether some environment holds the answers of a pair equal."""
        return [any(each) for each in zip(*(one.agree(pairs) for one in self._environments), strict=True)]

    def _cell(self, level: int) -> Cell:
        if not 1 <= level <= len(self.cells):
            raise UserError(f"This mixture has the cells 1 to {len(self.cells)}, not {level}.")
        return self.cells[level - 1]

    def _given(self, task: Task) -> tuple[Cell, Task]:
        """The cell of a task, and the task as its environment gave it."""
        cell = self._cell(task.level)
        return cell, task._replace(level=cell.level)

    def _there(self, level: int, count: int, tasks: Sequence[Task]) -> list[Task]:
        if count and not tasks:
            cell = self._cell(level)
            raise _empty(cell.environment.name, cell.level)
        return [task._replace(level=level) for task in tasks]


def _parts(member: str) -> list[tuple[str, int, int]]:
    """The environments of a spelling with their first and last levels; + parts them behind a level alone."""
    found = [PART.fullmatch(part) for part in re.split(r"(?<=\d)\+", member)]
    if not member or None in found:
        raise UserError(f"'{member}' is no mixture: write environments with their levels, as in {EXAMPLE}.")
    return [(part[1], int(part[2]), int(part[3] or part[2])) for part in found if part]


@cache
def _cells(member: str) -> tuple[Cell, ...]:
    """The cells of a spelling. Raises ``UserError`` where one has no tasks, or where environments clash."""
    found: dict[str, Environment] = {}
    cells = list[Cell]()
    for name, first, last in _parts(member):
        environment = found.setdefault(name, find_environment(name))
        levels = range(first, last + 1)
        absent = [each for each in levels if environment.levels is not None and each not in environment.levels]
        if absent or not levels:
            raise _empty(name, absent[0] if absent else first)
        cells += [Cell(environment, level) for level in levels]
    if twice := {cell for cell in cells if cells.count(cell) > 1}:
        raise UserError(
            f"A mixture has level {min(cell.level for cell in twice)} of one environment twice: name it once."
        )
    if len({each.apart for each in found.values()}) > 1:
        apart = next(name for name, each in found.items() if each.apart)
        raise UserError(
            f"'{apart}' has held-out rows of its own, and others of the mixture have none: mix such with such."
        )
    for one, other in combinations(found, 2):
        _refuse_clash(one, other, found, cells)
    return tuple(cells)


def _empty(name: str, level: int) -> UserError:
    return UserError(f"A mixture's cell of level {level} of '{name}' has no tasks: take it out, or name other levels.")


def _refuse_clash(one: str, other: str, found: dict[str, Environment], cells: Sequence[Cell]) -> None:
    """Raise ``UserError`` where a policy could not tell the texts of two environments apart."""
    for this, that in ((one, other), (other, one)):
        alphabet = set(found[that].alphabet or "")
        if odd := [token for token in found[this].special_tokens if set(token) <= alphabet]:
            raise UserError(
                f"The alphabets of '{this}' and '{that}' clash: '{odd[0]}' is one token of the former, and characters "
                "of the latter. Mix others."
            )
    if type(found[one]) is type(found[other]):  # which ask alike, and mean the same
        return
    seen = [_forms(found[name], cells) for name in (one, other)]
    if both := seen[0].keys() & seen[1].keys():
        raise UserError(
            f"The alphabets of '{one}' and '{other}' clash: nothing tells which of them asks '{seen[0][min(both)]}'. "
            "Mix others, or other levels of them."
        )


def _forms(environment: Environment, cells: Sequence[Cell]) -> dict[str, str]:
    """Prompts of an environment's cells by their form: whatever digits stand in them."""
    levels = [cell.level for cell in cells if cell.environment is environment]
    prompts = [task.prompt for level in levels for task in environment.tasks(level, LOOKED_AT, level)]
    return {re.sub(r"\d", "0", prompt): prompt for prompt in prompts}


environment = Mixture
