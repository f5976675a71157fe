"""Tables and the stages that only move rows: how many a second on one core, and in how much memory.

The rollouts are attempts at sums of 5 to 24 digits, two a task, 30 % of them wrong and 2 % without an end, in the
batches in which stages write them. Files are warm in the page cache when they are read. Where rates are measured, the
process is held to one core and Arrow to one thread. ``filter`` has room for every good rollout, so that it writes each
of them twice.

Targets: 1 M records a second read and written; 200,000 rollouts a second verified and filtered; ten million rollouts
through either stage within 1 GiB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from kfp.dsl import Dataset
from measuring import Spread, console, in_child, publish, seconds, show, spread, wants_small
from selfloop.artifacts import seal
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.records import Example, Rollout, Task, Verdict, as_rows, batch_of, read, rows, writing
from selfloop.verify import VerifyParams, verdict_batches, verify_rollouts

ATTEMPTS = 2
BLOCK_TASKS = 20_000
EASIEST, LEVELS = 5, 20
WRONG, ENDLESS = 0.3, 0.02
REPEATS = 5
MIB = 1024**2


def text(digits: np.ndarray[Any, Any]) -> pa.Array:
    """The rows of a matrix of characters as strings."""
    number, width = digits.shape
    ends = np.arange(0, number * width + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), number, [None, pa.py_buffer(ends), pa.py_buffer(digits.tobytes())])


def sums(level: int, number: int, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Reversed prompts and answers of one level, as matrices of characters."""
    a, b = rng.integers(0, 10, (2, number, level), dtype=np.uint8)
    total, carry = np.empty((number, level + 1), np.uint8), np.zeros(number, np.uint8)
    for digit in range(level):
        carry, total[:, digit] = np.divmod(a[:, digit] + b[:, digit] + carry, 10)
    total[:, level] = carry
    plus, equals = (np.full((number, 1), ord(sign) - ord("0"), np.int8).view(np.uint8) for sign in "+=")
    return np.hstack([a, plus, b, equals]) + np.uint8(ord("0")), total + np.uint8(ord("0"))


def block(index: int, level: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Tasks of one level, and the rollouts that are attempts at them."""
    rng = np.random.default_rng(index)
    prompts, answers = sums(level, BLOCK_TASKS, rng)
    first = index * BLOCK_TASKS
    names = pa.array([f"addition-{level}-{0x1F2E3D4C5B6A7988:x}-{first + n}" for n in range(BLOCK_TASKS)])
    whole = partial(np.full, BLOCK_TASKS)
    asked = {
        "id": names,
        "level": pa.array(whole(level)),
        "suite": pa.array(whole("train")),
        "prompt": text(prompts),
        "answer": text(answers),
        "attempts": pa.array(whole(ATTEMPTS)),
        "max_tokens": pa.array(whole(level + 2)),
    }
    tasks = batch_of(Task, asked)

    row = np.repeat(np.arange(BLOCK_TASKS), ATTEMPTS)
    said = answers[row]
    wrong = np.flatnonzero(rng.random(len(row)) < WRONG)
    said[wrong, rng.integers(0, level, len(wrong))] = ord("0") + rng.integers(0, 10, len(wrong), dtype=np.uint8)
    attempt = np.tile(np.arange(ATTEMPTS), BLOCK_TASKS)
    finished = rng.random(len(row)) >= ENDLESS
    given = tasks.take(pa.array(row))
    made = {
        "task": given["id"],
        "level": given["level"],
        "attempt": pa.array(attempt),
        "prompt": given["prompt"],
        "completion": pa.array(text(said)),
        "finished": pa.array(finished),
        "tokens": pa.array(level + 1 + finished),
    }
    return tasks, batch_of(Rollout, made)


def blocks(rollouts: int) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Blocks of tasks and rollouts, the levels in rising order."""
    number = max(rollouts // (BLOCK_TASKS * ATTEMPTS), 1)
    return (block(index, EASIEST + index * LEVELS // number) for index in range(number))


def make_tables(place: Path, rollouts: int) -> int:
    """Sealed tables of tasks and rollouts, and an empty replay pool. Returns the rows."""
    with (
        writing(place / "tasks", Task) as asked,
        writing(place / "rollouts", Rollout) as attempts,
        writing(place / "replay_pool", Example),
    ):
        for tasks, drawn in blocks(rollouts):
            asked.write(tasks)
            attempts.write(drawn)
    for name in ("tasks", "rollouts", "replay_pool"):
        seal(place / name, "Dataset", stage="benchmark")
    return attempts.rows


def artifact(place: Path, name: str) -> Dataset:
    """A table of a folder as an artifact."""
    return Dataset(name=name, uri=str(place / name))


def verify(place: Path) -> None:
    """The whole stage: check the inputs' digests, judge, write, seal."""
    made = {name: artifact(place, name) for name in ("verdicts", "audit")}
    given = {name: artifact(place, name) for name in ("tasks", "rollouts")}
    verify_rollouts.into(verify_rollouts.out(**made), VerifyParams(), **given)


def judge(place: Path) -> None:
    """What the stage itself does, without digests of files."""
    with writing(fresh(place, "judged"), Verdict) as table:
        for batch in verdict_batches(VerifyParams(), place / "tasks", place / "rollouts"):
            table.write(batch)


def keep(place: Path) -> None:
    """The whole stage of the filter, with room for all."""
    made = filter_rollouts.out(examples=artifact(place, "examples"), replay_pool=artifact(place, "new_pool"))
    given = {name: artifact(place, name) for name in ("rollouts", "verdicts", "replay_pool")}
    filter_rollouts.into(made, FilterParams(select=f"correct+unique+per-level,limit={10**9}"), **given)


def fresh(place: Path, *names: str) -> Path:
    """A folder without what an earlier repeat wrote there. Returns the first one's path."""
    for path in chain.from_iterable((place / name).glob("*") for name in names):
        path.unlink()
    return place / names[0]


def single() -> None:
    """Hold Arrow to one thread."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def repeated(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds of a call, several times; what comes before it is not counted."""
    found = []
    for _ in range(REPEATS):
        before()
        found.append(seconds(work))
    return found


def records_a_second(place: Path, rollouts: int) -> dict[str, Spread]:
    """Rates of writing and reading rollouts, as columns and as named tuples."""
    single()
    batches = [drawn for _, drawn in blocks(rollouts)]
    few = batches[: max(len(batches) // 10, 1)]
    tuples = [list(as_rows(batch, Rollout)) for batch in few]
    number, fewer = (sum(batch.num_rows for batch in some) for some in (batches, few))

    def write(given: list[Any]) -> None:
        with writing(place / "written", Rollout) as table:
            for batch in given:
                table.write(batch)

    before = partial(fresh, place, "written")
    measured = {
        "write": (number, repeated(partial(write, batches), before)),
        "read": (number, repeated(lambda: sum(batch.num_rows for batch in read(place / "written", Rollout)))),
        "write as named tuples": (fewer, repeated(partial(write, tuples), before)),
        "read as named tuples": (fewer, repeated(lambda: sum(1 for _ in rows(place / "written", Rollout)))),
    }
    return {name: spread(rows / s for s in took) for name, (rows, took) in measured.items()}


def stages_a_second(place: Path, rollouts: int) -> dict[str, Spread]:
    """Rates of the two stages."""
    single()
    number = make_tables(place, rollouts)
    measured = {
        "verify: judge and write": repeated(partial(judge, place)),
        "verify: whole stage": repeated(partial(verify, place), partial(fresh, place, "verdicts", "audit")),
        "filter: whole stage": repeated(partial(keep, place), partial(fresh, place, "examples", "next_kept")),
    }
    return {name: spread(number / s for s in took) for name, took in measured.items()}


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    some, many = (200_000, 400_000) if small else (2_000_000, 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("records", "stages", "many")]
        rates: dict[str, Spread] = {}
        for measure, place in zip((records_a_second, stages_a_second), places, strict=False):
            rates |= in_child(measure, place, some, core=0).returned
        console.print(f"[dim]making {many:,} rollouts[/]")
        made = in_child(make_tables, places[2], many)
        children = {name: in_child(work, places[2]) for name, work in (("verify", verify), ("filter", keep))}
    show(
        f"{some:,} rollouts, one core, median of {REPEATS} (lowest–highest)",
        ["what", "rows/s"],
        [(name, f"{r.median:,.0f} ({r.low:,.0f}–{r.high:,.0f})") for name, r in rates.items()],
    )
    show(
        f"{made.returned:,} rollouts, a process each, as many threads as Arrow takes",
        ["stage", "peak MiB", "s", "rollouts/s"],
        [
            (name, f"{child.peak_bytes / MIB:,.0f}", f"{child.seconds:.1f}", f"{made.returned / child.seconds:,.0f}")
            for name, child in children.items()
        ],
    )
    numbers = {
        "rows": some,
        "rows_per_second": {name: rate._asdict() for name, rate in rates.items()},
        "many_rows": made.returned,
        "many": {name: {"peak_bytes": c.peak_bytes, "seconds": c.seconds} for name, c in children.items()},
    }
    publish("records", small, numbers)


if __name__ == "__main__":
    main()
