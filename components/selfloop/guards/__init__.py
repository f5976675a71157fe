"""Guards: what may go wrong in a loop that trains on its own work, one file each, found by name.

A guard measures one number of a round. Two lines divide it: beyond ``warn`` a round is yellow and asks for a person's
approval, beyond ``halt`` it is red and refused. The default lines were laid on length generalization with seeds 10 to
12, between what healthy loops read and what those of ``tests/guards/planted.py`` do.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.records import Audit, ItemResult, Rollout, beside, read, rows, whole_groups
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Column = np.ndarray[Any, Any]

ENOUGH = 30
"""What a guard needs at least, of tasks or of believed rollouts, before it says anything."""


class Sample(NamedTuple):
    """The sealed audit sample, a row each: what the verifier believed, the score it gave, and the truth."""

    ok: Column
    score: Column
    truth: Column


class Groups(NamedTuple):
    """The attempts at each task, a row each, for the tasks with at least two; its right attempts count as one.

    ``attempts`` and ``distinct`` count completions; ``entropy`` is that of the completions, in nats.
    """

    attempts: Column
    distinct: Column
    entropy: Column


class AbsentError(Exception):
    """A loop has no table of this name, which a guard asked for."""


class Evidence:
    """What a guard may look at: tables by their directories, and what is read of them, once, when it is asked for.

    ``tables`` are those of the round that there are: rollouts, verdicts, audit (the verdicts beside their truth),
    examples, results; ``candidate`` is the metadata of the candidate's manifest, ``past`` the rounds of the report's
    history, oldest first, ``audited`` the size of the sealed audit sample and ``seed`` its seed.
    """

    def __init__(
        self,
        tables: Mapping[str, str],
        *,
        candidate: Mapping[str, Any],
        past: Sequence[Mapping[str, Any]],
        audited: int,
        seed: int,
    ) -> None:
        self._tables = tables
        self.candidate, self.past, self.audited, self.seed = candidate, past, audited, seed

    def table(self, name: str) -> str:
        """The directory of a table. Raises ``AbsentError`` where the loop has none of this name."""
        if name not in self._tables:
            raise AbsentError(name)
        return self._tables[name]

    def remembered(self, name: str) -> Any:
        """What the guard of this name noted last, and ``None`` where it never did."""
        return next((memory for _, memory in self.memories(name)), None)

    def memories(self, name: str) -> Iterator[tuple[bool, Any]]:
        """Whether a round's candidate was promoted, and what the guard of this name noted in it; newest round first."""
        for round in reversed(self.past):
            memory = round["decision"].get("guards", {}).get(name, {}).get("memory")
            if memory is not None:
                yield bool(round["decision"]["promoted"]), memory

    @cached_property
    def sample(self) -> Sample:
        """The sealed audit sample: ``audited`` of the verdicts whose truth is known, drawn from the whole table.

        Seed and row numbers alone choose, whatever the verdicts say. Fewer rows where fewer are known. What the
        verifier has no opinion of is not believed.
        """
        import numpy as np
        import pyarrow.compute as pc

        rng = np.random.default_rng(self.seed)
        held = [np.empty(0), np.empty(0, bool), np.empty(0), np.empty(0, bool)]
        for batch in read(self.table("audit"), Audit, ["ok", "score", "truth"]):
            known = batch["truth"].is_valid().to_numpy(zero_copy_only=False)
            columns = pc.fill_null(batch["ok"], False), batch["score"], batch["truth"]
            drawn = [rng.random(batch.num_rows), *(c.to_numpy(zero_copy_only=False) for c in columns)]
            held = [np.concatenate([a, b[known].astype(a.dtype)]) for a, b in zip(held, drawn, strict=True)]
            lowest = np.argsort(held[0], kind="stable")[: self.audited]
            held = [column[lowest] for column in held]
        return Sample(*held[1:])

    @cached_property
    def groups(self) -> Groups:
        """What diversity is measured on: attempts at tasks, where the right ones count as one.

        That these agree is what the loop is for: a task that is always solved is mastered, and does not count.
        """
        import numpy as np

        found = [
            counted(attempts["task"], attempts["completion"], verdicts["truth"])
            for attempts, verdicts in self._whole_groups()
        ]
        columns = list(zip(*found, strict=True)) or [(np.empty(0),)] * 3
        return Groups(*(np.concatenate(column) for column in columns))

    def _whole_groups(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        attempts = whole_groups(read(self.table("rollouts"), Rollout, ["task", "completion"]))
        verdicts = whole_groups(read(self.table("audit"), Audit, ["task", "truth"]))
        return beside(attempts, verdicts)  # both are cut where tasks end, so every slice ends with a task

    @cached_property
    def answers(self) -> list[ItemResult]:
        """Every held-out answer of champion and candidate."""
        return list(rows(self.table("results"), ItemResult))


def counted(tasks: pa.Array, completions: pa.Array, truth: pa.Array) -> Groups:
    """Attempts, distinct completions and entropy of each task, where right attempts at a task count as one.

    Tasks that then have one attempt are left out.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    right = pc.fill_null(truth, False)
    of_right = pa.table({"task": tasks, "row": np.arange(len(tasks))}).filter(right)
    first = of_right.group_by("task").aggregate([("row", "min")])["row_min"]
    count = np.logical_not(right.to_numpy(zero_copy_only=False))
    count[first.to_numpy()] = True
    said = pa.table({"task": tasks, "said": completions}).filter(pa.array(count))
    votes = said.group_by(["task", "said"]).aggregate([([], "count_all")])
    number = votes["count_all"].to_numpy()
    each = pa.table({"task": votes["task"], "votes": number, "sum": number * np.log(number)})
    by_task = each.group_by("task").aggregate([("votes", "sum"), ("votes", "count"), ("sum", "sum")])
    attempts, distinct, sums = (by_task[name].to_numpy() for name in ("votes_sum", "votes_count", "sum_sum"))
    several = attempts > 1
    attempts, distinct, sums = attempts[several], distinct[several], sums[several]
    return Groups(attempts, distinct, np.maximum(np.log(attempts) - sums / attempts, 0.0))


class Reading(NamedTuple):
    """What a guard measured, and the same in words; ``value`` is ``None`` where this round has nothing to measure.

    ``memory`` is JSON that the guard finds again in later rounds.
    """

    value: float | None
    says: str
    memory: Any = None


class Guard(Strategy):
    """What may go wrong in a loop that trains on its own work, measured in each round.

    ``bad`` says on which side of its lines trouble is, ``look`` where a person sees more.
    """

    kind = "guard"
    package = __name__
    bad: ClassVar[Literal["high", "low"]] = "high"
    look: ClassVar[str] = "the samples of this round"
    warn: float = Field(allow_inf_nan=False, description="The yellow line: from it on a person must approve.")
    halt: float = Field(allow_inf_nan=False, description="The red line: from it on the loop halts.")

    @model_validator(mode="after")
    def _warns_before_it_halts(self) -> Self:
        if not self.reaches(self.halt, self.warn):
            raise UserError(
                f"Guard '{self.label()}' would halt at {self.halt:g} before it warns at {self.warn:g}: "
                f"{'raise' if self.bad == 'high' else 'lower'} its halt line, or move its warn line."
            )
        return self

    @abstractmethod
    def __call__(self, evidence: Evidence) -> Reading:
        """What it measures of a round."""

    def reaches(self, value: float, line: float) -> bool:
        """Whether a value lies on a line, or beyond it on the bad side."""
        return value >= line if self.bad == "high" else value <= line

    def level(self, value: float | None) -> Literal["green", "yellow", "red"]:
        """Green, yellow from the warn line on, red from the halt line on; what was not measured is green."""
        if value is None or not self.reaches(value, self.warn):
            return "green"
        return "red" if self.reaches(value, self.halt) else "yellow"


class Alarm(NamedTuple):
    """A guard's reading of a round, its lines, and where a person looks."""

    value: float | None
    level: Literal["green", "yellow", "red"]
    says: str
    warn: float
    halt: float
    look: str
    memory: Any


def refuse_twice(guards: Iterable[Guard]) -> None:
    """Raise ``UserError`` where two guards have one name, under which their readings are kept."""
    names = Counter(guard.label() for guard in guards)
    for name in (name for name, number in names.items() if number > 1):
        raise UserError(f"Two guards are named '{name}': name each once.")


def watch(evidence: Evidence, guards: Sequence[Guard]) -> dict[str, Alarm]:
    """What each of these guards says of a round, by its name. Raises ``UserError`` for what is not a number."""
    alarms = {}
    for guard in guards:
        value, says, memory = _reading(guard, evidence)
        if value is not None and not math.isfinite(value):
            raise UserError(f"Guard '{guard.label()}' measured {value}: let it give a number, or None and say why.")
        alarms[guard.label()] = Alarm(value, guard.level(value), says, guard.warn, guard.halt, guard.look, memory)
    return alarms


def _reading(guard: Guard, evidence: Evidence) -> Reading:
    """What a guard measures; where a loop has not what it looks at, it says so and is green."""
    try:
        return guard(evidence)
    except AbsentError as absent:
        return Reading(None, f"this loop has no {absent}")
