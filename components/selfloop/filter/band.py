"""``band_tasks``: the frontier of a policy, tasks that it solves neither always nor never.

The label that a kept task carries is what most attempts agree on, as of the environment's ``extract_answer``; the true
answer stays in ``answer``, for the audit alone.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from kfp.dsl import Dataset
from pydantic import Field, model_validator

from selfloop import progress
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.filter.filter import with_verdicts
from selfloop.filter.selecting import beyond, changed, refuse_no_rate
from selfloop.records import Task, count, read, with_final_text, with_tasks, writing
from selfloop.stages import Params, stage
from selfloop.verify.contract import votes as votes_of

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.environments import Environment

BINS = 10


class BandParams(Params):
    """What a task's rate is, and which rates are the frontier.

    The default band is that of Agent0's and R-Zero's code; their paper's ``|p - 1/2| <= 0.25`` is 0.25 to 0.75.
    """

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    rate: Literal["agreement", "correct"] = Field(
        "agreement",
        description="A task's rate: the share of attempts that give its majority answer, or that the verifier calls "
        "good.",
    )
    votes: Literal["all", "parsable"] = Field(
        "parsable",
        description="agreement: the share of all attempts, or of those that ended with an answer.",
    )
    min_rate: float = Field(0.3, ge=0, le=1, description="The least rate of a task that is kept.")
    max_rate: float = Field(0.8, ge=0, le=1, description="The greatest rate of a task that is kept.")
    number: int = Field(
        100_000, ge=1, description="Tasks that are kept, at most: of more, evenly many from all over the table."
    )
    when_empty: Literal["stop", "continue"] = Field("stop", description="What a round does in which no task is kept.")

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> Self:
        refuse_no_rate(self.min_rate, self.max_rate)
        return self


class FrontierTasks(NamedTuple):
    """The tasks whose pass rate lies in the band."""

    band: Dataset


@stage()
def band_tasks(out: FrontierTasks, params: BandParams, tasks: Dataset, rollouts: Dataset, verdicts: Dataset) -> None:
    """Keep the tasks of the frontier, by their rate; each carries its rate and the majority's answer as its label."""
    judged = with_verdicts(rollouts, verdicts)
    environment, tally, total = find_environment(params.environment), Tally(), count(rollouts.path)
    progress.report(seen := 0, total, "rollouts")
    with TemporaryDirectory(dir=out.band.path) as place:
        with writing(place, Task) as found:
            groups = (with_final_text(batch) for batch in judged)
            for attempts, asked in with_tasks(groups, read(tasks.path, Task)):
                found.write(frontier(measured(attempts, asked, environment, params), params, tally))
                progress.report(seen := seen + attempts.num_rows, total, "rollouts")
        with writing(out.band.path, Task) as table:
            for batch in thinned(read(place, Task), found.rows, params.number):
                tally.keep(batch["level"])
                table.write(batch)
    about = tally.report()
    if not about["kept"]:
        about["empty"] = why_empty(about, params)
        if params.when_empty == "stop":
            raise UserError(
                f"{about['empty']}: widen 'min_rate' and 'max_rate', propose other tasks, or set 'when_empty' to "
                "'continue'."
            )
    out.band.metadata["band"] = about


class Measured(NamedTuple):
    """Tasks with their rate, and their label, which is null where no attempt can be read; a row each."""

    tasks: pa.RecordBatch
    rate: pa.Array
    label: pa.Array


def measured(attempts: pa.RecordBatch, asked: pa.RecordBatch, environment: Environment, params: BandParams) -> Measured:
    """The tasks of whole groups of attempts; ``asked`` are the attempts' tasks, row by row."""
    import numpy as np
    import pyarrow as pa

    group = attempts["group"].to_numpy()
    begins = pa.array(np.flatnonzero(np.diff(group, prepend=-1)))
    tasks, (agreement, label) = asked.take(begins), majority(attempts, environment, params.votes)
    return Measured(tasks, attempts["rate"].take(begins) if params.rate == "correct" else agreement, label)


def majority(
    attempts: pa.RecordBatch, environment: Environment, votes: Literal["all", "parsable"]
) -> tuple[pa.Array, pa.Array]:
    """The share of each group's attempts that give its most frequent answer, and that answer: of those that are level,
    the one that was given first. What did not end, or ended without an answer, has no vote.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    said, group = votes_of(attempts, environment), attempts["group"].to_numpy()
    groups = int(group[-1]) + 1
    readable = pc.and_(attempts["finished"], pc.not_equal(said, ""))
    cast = pa.table({"group": group, "said": said, "row": np.arange(len(group))}).filter(readable)
    counts = cast.group_by(["group", "said"]).aggregate([("row", "count"), ("row", "min")])
    of, votes_for, first = (counts[name].to_numpy() for name in ("group", "row_count", "row_min"))
    best = np.lexsort((first, -votes_for, of))
    best = best[np.flatnonzero(np.diff(of[best], prepend=-1))]  # the first of each group
    heard = cast["group"].to_numpy() if votes == "parsable" else group
    shares = np.zeros(groups)
    shares[of[best]] = votes_for[best] / np.bincount(heard, minlength=groups)[of[best]]
    place = np.full(groups, -1)
    place[of[best]] = first[best]
    return pa.array(shares), said.take(pa.array(place, mask=place < 0))


def frontier(found: Measured, params: BandParams, tally: Tally) -> pa.RecordBatch:
    """The tasks whose rate lies in the band, with their label and rate in their metadata; all are counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    unanswered = found.label.is_null()
    below, above = (pc.and_not(mask, unanswered) for mask in beyond(found.rate, params.min_rate, params.max_rate))
    tally.add(found, {"below": below, "above": above, "unanswered": unanswered})
    within = pc.invert(pc.or_(unanswered, pc.or_(below, above)))
    tasks, rate, label = (column.filter(within) for column in found)
    rows = zip(tasks["id"].to_pylist(), tasks["metadata"].to_pylist(), label.to_pylist(), rate.to_pylist(), strict=True)
    return changed(tasks, metadata=pa.array([labelled(*row) for row in rows], pa.string()))


def labelled(id: str, metadata: str, label: str, rate: float) -> str:
    """A task's metadata with its label and its rate among what it had."""
    try:
        return json.dumps(json.loads(metadata) | {"label": label, "rate": rate})
    except (ValueError, TypeError):
        raise UserError(
            f"The metadata of the task '{id}' are no JSON object, so that it cannot carry a label: mend what made it."
        ) from None


def thinned(batches: Iterator[pa.RecordBatch], rows: int, number: int) -> Iterator[pa.RecordBatch]:
    """All rows, or of more than ``number`` as many, evenly from the whole table: the band keeps its composition."""
    import numpy as np
    import pyarrow as pa

    first = 0
    for batch in batches:
        place = np.arange(first, first + batch.num_rows)
        first += batch.num_rows
        keep = (place + 1) * number // rows > place * number // rows if rows > number else np.ones(len(place), bool)
        yield batch.filter(pa.array(keep))


class Tally:
    """What became of the tasks, by level, and how their rates are spread.

    A task that is ``unanswered`` has no attempt that can be read, and its agreement is 0; one that is ``capped`` lies
    in the band, where there was no room for it.
    """

    def __init__(self) -> None:
        self._by_level: dict[int, Counter[str]] = {}
        self._rates: defaultdict[int, float] = defaultdict(float)
        self._bins = [0] * BINS

    def add(self, found: Measured, fates: Mapping[str, pa.Array]) -> None:
        """Count tasks, and those of them that are not in the band, by what keeps them out."""
        import numpy as np

        level, rate = found.tasks["level"].to_numpy(), found.rate.to_numpy()
        masks = {name: mask.to_numpy(zero_copy_only=False) for name, mask in fates.items()}
        for each in map(int, np.unique(level)):
            mine = level == each
            counts = Counter({name: int((mask & mine).sum()) for name, mask in masks.items()})
            self._by_level.setdefault(each, Counter()).update(counts + Counter(tasks=int(mine.sum())))
            self._rates[each] += float(rate[mine].sum())
        place = np.minimum((rate * BINS + 1e-9).astype(int), BINS - 1)  # 0.7 times 10 may be a little less than 7
        self._bins = (np.bincount(place, minlength=BINS) + self._bins).tolist()

    def keep(self, levels: pa.Array) -> None:
        """Count tasks that are kept."""
        for level in levels.to_pylist():
            self._by_level[level]["kept"] += 1

    def report(self) -> dict[str, Any]:
        """The counts, mean level and mean rate of all tasks, and how many have a rate in each tenth from 0 to 1."""
        whole = sum(self._by_level.values(), Counter[str]())
        levels = {
            str(level): self._counts(counts) | {"mean_rate": self._rates[level] / counts["tasks"]}
            for level, counts in sorted(self._by_level.items())
        }
        tasks = max(whole["tasks"], 1)
        mean = sum(self._rates.values()) / tasks
        level = sum(level * counts["tasks"] for level, counts in self._by_level.items()) / tasks
        about = {"mean_rate": mean, "mean_level": level, "histogram": self._bins, "levels": levels}
        return self._counts(whole) | about

    @staticmethod
    def _counts(counts: Counter[str]) -> dict[str, Any]:
        fates = {name: counts[name] for name in ("kept", "below", "above", "unanswered")}
        return {"tasks": counts["tasks"], **fates, "capped": counts["tasks"] - sum(fates.values())}


def why_empty(about: Mapping[str, Any], params: BandParams) -> str:
    """Why no task is kept."""
    band = f"{params.min_rate:g} to {params.max_rate:g}"
    if not about["tasks"]:
        return f"No task lies in the band from {band}: there were no attempts"
    unanswered = f", {about['unanswered']:,} had no answer that can be read" if about["unanswered"] else ""
    return (
        f"No task lies in the band from {band}: of {about['tasks']:,} tasks {about['below']:,} were below it, "
        f"{about['above']:,} above it{unanswered}"
    )
