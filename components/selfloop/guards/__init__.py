"""Guards: what may go wrong in a loop that trains on its own work, one file each, found by name.

A guard says what it measures of a round: units that are independent, a task or an item or all those of one
``Task.cluster``, and the limit that a line puts on their mean. Two lines divide what it measures: where the mean is
*shown* to be beyond ``warn`` a round is yellow and asks for a person's approval, beyond ``halt`` it is red and refused.
The test, its memory and its budget are the same for all (``bounds``): a loop that is on the good side of every halt
line is ever halted with a probability of at most ``gate.guard_alpha``. What was measured of them: docs/guards.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.guards.bounds import (
    DIGITS,
    SOON,
    Column,
    Measured,
    bet_on,
    fewest,
    in_all,
    share,
)
from selfloop.records import Audit, ItemResult, Rollout, Task, beside, read, rows, whole_groups
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    import pyarrow as pa

LINES = ("warn", "halt")
ALPHA = 0.01
"""How likely all guards together may ever halt a healthy loop, unless it is said otherwise."""


class Sample(NamedTuple):
    """The sealed audit sample, a row each: what the verifier believed, the score it gave, the truth, and the unit that
    it is of.
    """

    ok: Column
    score: Column
    truth: Column
    unit: Sequence[str]


class Groups(NamedTuple):
    """The attempts at each task, a row each, for the tasks with at least two; its right attempts count as one.

    ``attempts`` and ``distinct`` count what was said; ``entropy`` is that of what was said, in nats; ``task`` names it.
    """

    attempts: Column
    distinct: Column
    entropy: Column
    task: Sequence[str]


class AbsentError(Exception):
    """A loop has no table of this name, which a guard asked for."""


class Evidence:
    """What a guard may look at: tables by their directories, and what is read of them, once, when it is asked for.

    ``tables`` are those of the round that there are: tasks, rollouts, verdicts, audit (the verdicts beside their
    truth), examples, others (the audit of another policy's attempts), results; ``candidate`` is the metadata of the
    candidate's manifest, ``past`` the rounds of the report's history, oldest first, ``audited`` the size of the sealed
    audit sample and ``seed`` its seed. ``alpha`` is how likely each guard may ever halt a healthy loop.
    """

    def __init__(
        self,
        tables: Mapping[str, str],
        *,
        candidate: Mapping[str, Any],
        past: Sequence[Mapping[str, Any]],
        audited: int,
        seed: int,
        alpha: float = ALPHA,
    ) -> None:
        self._tables = tables
        self.candidate, self.past, self.audited, self.seed, self.alpha = candidate, past, audited, seed, alpha

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

    def last(self, name: str) -> Mapping[str, Any]:
        """The alarm of the last round in which the guard of this name made a test; empty where it never did."""
        alarms = (round["decision"].get("guards", {}).get(name, {}) for round in reversed(self.past))
        return next((alarm for alarm in alarms if alarm.get("tested")), {})

    def level(self, *numbers: int) -> float:
        """How likely a bound may be wrong that a limit is reckoned from: half of ``alpha`` is for all of them together.

        The numbers count them, from 1 on: the second reference of a guard has a smaller share than the first.
        """
        return self.alpha / 2 * math.prod(map(share, numbers))

    def promoted(self, name: str) -> list[Any]:
        """What the guard of this name noted in the rounds whose candidate was promoted."""
        return [memory for promoted, memory in self.memories(name) if promoted]

    @cached_property
    def clusters(self) -> Mapping[str, str]:
        """The cluster of each task of the round that has one."""
        if "tasks" not in self._tables:
            return {}
        batches = read(self.table("tasks"), Task, ["id", "cluster"])
        named = (pair for batch in batches for pair in zip(*batch.to_pydict().values(), strict=True))
        return {task: cluster for task, cluster in named if cluster}

    def units(self, tasks: Iterable[str]) -> list[str]:
        """What is independent, of tasks of the round: their clusters, and else they themselves."""
        of = self.clusters
        return [f"cluster {of[task]}" if task in of else f"task {task}" for task in tasks]

    @cached_property
    def sample(self) -> Sample:
        """The sealed audit sample: ``audited`` of the verdicts whose truth is known, drawn from the whole table.

        Seed and row numbers alone choose, whatever the verdicts say. Fewer rows where fewer are known. What the
        verifier has no opinion of is not believed.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        rng, held = np.random.default_rng(self.seed), list[pa.Table]()
        for batch in read(self.table("audit"), Audit, ["ok", "score", "truth", "task"]):
            drawn = pa.Table.from_batches([batch]).append_column("drawn", pa.array(rng.random(batch.num_rows)))
            both = pa.concat_tables([*held, drawn.filter(pc.is_valid(drawn["truth"]))])
            lowest = np.argsort(both["drawn"].to_numpy(), kind="stable")[: self.audited]
            held = [both.take(pa.array(lowest))]
        if not held:
            return Sample(np.empty(0, bool), np.empty(0), np.empty(0, bool), [])
        (found,) = held
        ok, score, truth = (found[name].to_numpy() for name in ("ok", "score", "truth"))
        believed = np.array([bool(each) for each in ok], bool)
        return Sample(believed, score, truth.astype(bool), self.units(found["task"].to_pylist()))

    @cached_property
    def groups(self) -> Groups:
        """What diversity is measured on: the answers of attempts at tasks, where the right ones count as one.

        That these agree is what the loop is for: a task that is always solved is mastered, and does not count.
        """
        import numpy as np
        import pyarrow.compute as pc

        found = [
            counted(attempts["task"], pc.coalesce(verdicts["said"], attempts["completion"]), verdicts["truth"])
            for attempts, verdicts in self._whole_groups()
        ]
        attempts, distinct, entropy = (np.concatenate([np.empty(0), *(each[at] for each in found)]) for at in range(3))
        return Groups(attempts, distinct, entropy, list(chain.from_iterable(each.task for each in found)))

    def _whole_groups(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        attempts = whole_groups(read(self.table("rollouts"), Rollout, ["task", "completion"]))
        verdicts = whole_groups(read(self.table("audit"), Audit, ["task", "truth", "said"]))
        return beside(attempts, verdicts)  # both are cut where tasks end, so every slice ends with a task

    @cached_property
    def answers(self) -> list[ItemResult]:
        """Every held-out answer of champion and candidate."""
        return list(rows(self.table("results"), ItemResult))


def unit_of(answer: ItemResult) -> str:
    """What a held-out answer is of that is independent: the item's cluster, or else the item."""
    return f"cluster {answer.cluster}" if answer.cluster else f"item {answer.task} {answer.seed}"


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
    by_task = by_task.filter(pc.greater(by_task["votes_sum"], 1))
    attempts, distinct, sums = (by_task[name].to_numpy() for name in ("votes_sum", "votes_count", "sum_sum"))
    entropy = np.maximum(np.log(attempts) - sums / attempts, 0.0)
    return Groups(attempts, distinct, entropy, by_task["task"].to_pylist())


Beyond = Callable[[float], Sequence[Measured]]
"""What a line asks: in which ways the round may be beyond it. More ways than one share the guard's budget."""


class Reading(NamedTuple):
    """What a guard measured, and the same in words; ``value`` is ``None`` where this round has nothing to measure.

    ``memory`` is JSON that the guard finds again in later rounds. ``beyond`` is the evidence behind the value; without
    it the value is taken as it is, with no error. ``whole`` says that this evidence is of all rounds, not of this one
    alone, and is weighed anew in each.
    """

    value: float | None
    says: str
    memory: Any = None
    beyond: Beyond | None = None
    whole: bool = False


class Guard(Strategy):
    """What may go wrong in a loop that trains on its own work, measured in each round.

    ``bad`` says on which side of its lines trouble is, ``look`` where a person sees more. ``statistic`` is what it
    measures, ``limit`` what its lines are put against, ``remembers`` what it knows of earlier rounds. ``units`` says
    how many units a round has at most: as many as are audited, or the items of a suite.
    """

    kind = "guard"
    package = __name__
    bad: ClassVar[Literal["high", "low"]] = "high"
    look: ClassVar[str] = "the samples of this round"
    units: ClassVar[Literal["", "audited", "old", "target"]] = ""
    statistic: ClassVar[str] = ""
    limit: ClassVar[str] = "the line"
    remembers: ClassVar[str] = "the evidence of all rounds"
    warn: float = Field(allow_inf_nan=False, description="The yellow line: beyond it a person must approve.")
    halt: float = Field(allow_inf_nan=False, description="The red line: beyond it the loop halts.")

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

    def test(self, line: float) -> Measured | None:
        """The test of a line, still without units, in a loop that began as well as can be; none where the value is
        exact.
        """
        return None

    def fewest(self, alpha: float) -> float:
        """The units a round with which a loop that is half as bad as can be is halted within ``SOON`` rounds."""
        test = self.test(self.halt)
        return fewest(test, alpha / 2) if test else 0

    def reaches(self, value: float, line: float) -> bool:
        """Whether a value lies on a line, or beyond it on the bad side."""
        return value >= line if self.bad == "high" else value <= line

    def level(self, reading: Reading, shown: Mapping[str, bool]) -> Literal["green", "yellow", "red"]:
        """Red, yellow or green, by the lines that the value is beyond and is shown to be."""
        crossed = [name for name in LINES if shown[name] and self._crosses(reading.value, getattr(self, name))]
        return "red" if "halt" in crossed else "yellow" if crossed else "green"

    def _crosses(self, value: float | None, line: float) -> bool:
        return value is not None and self.reaches(value, line)

    @classmethod
    def facts(cls) -> dict[str, str]:
        """What it measures, what its lines are put against, what it remembers, and what is promised of it."""
        told = {"statistic": cls.statistic, "limit": cls.limit, "remembers": cls.remembers}
        return {**told, "bound": BOUND} if cls.statistic else {}


BOUND = (
    "one-sided, clustered by task; a healthy loop is ever halted by any guard with a probability of at most "
    "gate.guard_alpha, in all its rounds together. False alarms and detection as measured: docs/guards.md."
)


class Tested(NamedTuple):
    """The test of a reading: how many there were of this guard, its units, how many it needs to halt a loop soon that
    is half as bad as can be (none where no number would do), what its bets came to by lines, and what is missing of
    the evidence that a line asks for (both logarithms; the second is below 0 until the line is shown to be crossed).
    """

    looks: int
    units: int
    fewest: int | None
    wealth: Mapping[str, Sequence[float]]
    lacks: Mapping[str, float]


class Alarm(NamedTuple):
    """A guard's reading of a round, its lines, where a person looks, and the test, nothing where the value is exact."""

    value: float | None
    level: Literal["green", "yellow", "red"]
    says: str
    warn: float
    halt: float
    look: str
    memory: Any
    tested: Mapping[str, Any]


def refuse_twice(guards: Iterable[Guard]) -> None:
    """Raise ``UserError`` where two guards have one name, under which their readings are kept."""
    names = Counter(guard.label() for guard in guards)
    for name in (name for name, number in names.items() if number > 1):
        raise UserError(f"Two guards are named '{name}': name each once.")


def watch(evidence: Evidence, guards: Sequence[Guard]) -> dict[str, Alarm]:
    """What each of these guards says of a round, by its name. Raises ``UserError`` for what is not a number."""
    return {guard.label(): _alarm(evidence, guard) for guard in guards}


def _alarm(evidence: Evidence, guard: Guard) -> Alarm:
    name, reading = guard.label(), _reading(guard, evidence)
    if reading.value is not None and not math.isfinite(reading.value):
        raise UserError(f"Guard '{name}' measured {reading.value}: let it give a number, or None and say why.")
    tested = _tested(evidence, guard, reading.beyond, reading.whole) if reading.beyond else None
    shown = {line: tested is None or tested.lacks[line] >= 0 for line in LINES}
    says = reading.says + (_in_words(guard, reading, tested) if tested else "")
    level = guard.level(reading, shown)
    about = tested._asdict() if tested else {}
    return Alarm(reading.value, level, says, guard.warn, guard.halt, guard.look, reading.memory, about)


def _tested(evidence: Evidence, guard: Guard, beyond: Beyond, whole: bool) -> Tested:
    """The bets of this round on each line, after those of the rounds before where the line is the same."""
    last, asked = evidence.last(guard.label()), -math.log(evidence.alpha / 2)
    before = last.get("tested", {"looks": 0, "wealth": {}})
    looks, wealth = before["looks"] + 1, dict[str, list[float]]()
    for line in LINES:
        place = getattr(guard, line)
        kept = before["wealth"][line] if last.get(line) == place and not whole else ()
        wealth[line] = bet_on(beyond(place), kept, looks, asked)
    needed = min(fewest(way, evidence.alpha / 2, 1 if whole else SOON) for way in beyond(guard.halt))
    lacks = {line: round(min(in_all(money) - asked, 0.0), DIGITS) for line, money in wealth.items()}
    units = len(beyond(guard.halt)[0].units)
    return Tested(looks, units, None if math.isinf(needed) else int(needed), wealth, lacks)


def _in_words(guard: Guard, reading: Reading, tested: Tested) -> str:
    """What the test adds to what a guard says: a line that is not shown to be crossed, and what cannot be seen."""
    crossed = [line for line in LINES if guard._crosses(reading.value, getattr(guard, line))]
    unsure = [line for line in crossed if tested.lacks[line] < 0]
    said = f"; not shown to be beyond {getattr(guard, unsure[-1]):g}" if unsure else ""
    if tested.fewest is None:
        return f"{said}; no number of units could show it beyond {guard.halt:g} here"
    if tested.units < tested.fewest:
        soon = "at once" if reading.whole else f"within {SOON} rounds"
        said += f"; {tested.units} are too few to show half of the worst {soon}, {tested.fewest} would do"
    return said


def _reading(guard: Guard, evidence: Evidence) -> Reading:
    """What a guard measures; where a loop has not what it looks at, it says so and is green."""
    try:
        return guard(evidence)
    except AbsentError as absent:
        return Reading(None, f"this loop has no {absent}")
