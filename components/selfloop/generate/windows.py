"""The work in windows of tasks: made by one process or several, kept through a kill, the same rows either way.

A window has a fixed number of tasks, so what is decoded beside what does not depend on who shares the work. Each
finished window is a Parquet file in a folder beside the output, named after all that it depends on; a stage that is run
again takes what is there. The folder goes when the stage ends. In a pod it lives as long as the pod's disk.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfloop import progress
from selfloop.errors import UserError
from selfloop.generate.draw import draw
from selfloop.generate.engines import Engine, open_engine
from selfloop.generate.forks import Source, Window, side_by_side
from selfloop.generate.params import GenerateParams
from selfloop.identity import work_key
from selfloop.metering import drew
from selfloop.records import Rollout, Task, batched, count, rows, to_batch

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
Work = tuple[int, list[Task]]
"""A window: its number, and its tasks."""
AT_ONCE = 16
"""Windows that are taken up together, to be drawn side by side."""


class Kept:
    """Finished windows beside an output."""

    def __init__(self, output: str | Path, key: str) -> None:
        self._root = Path(output).with_name(f".{Path(output).name}.windows")
        self._place = self._root / key
        for other in self._root.glob("*"):
            if other != self._place:
                shutil.rmtree(other)
        self._place.mkdir(parents=True, exist_ok=True)

    def _file(self, number: int) -> Path:
        return self._place / f"window-{number:06}.parquet"

    def has(self, number: int) -> bool:
        """Whether this window is finished."""
        return self._file(number).exists()

    def write(self, number: int, rollouts: list[Rollout]) -> None:
        """Keep a finished window: its file is there whole, or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        unfinished = self._place / f"{number}-{os.getpid()}.partial"
        pq.write_table(pa.Table.from_batches([to_batch(Rollout, rollouts)]), unfinished)
        os.replace(unfinished, self._file(number))

    def counts(self, numbers: Collection[int]) -> tuple[int, int]:
        """Attempts and tokens of finished windows."""
        import pyarrow.compute as pc

        batches = [batch for number in numbers for batch in self.read(number)]
        return sum(map(attempts_in, batches)), sum(pc.sum(batch["tokens"]).as_py() or 0 for batch in batches)

    def read(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of a finished window."""
        import pyarrow.parquet as pq

        yield from pq.read_table(self._file(number)).to_batches()

    def remove(self) -> None:
        """Drop all windows."""
        shutil.rmtree(self._root)


def key_of(params: GenerateParams, inputs: Mapping[str, str]) -> str:
    """SHA-256 of all that the rows depend on; who shares the work is no part of it."""
    return work_key(params, inputs, exclude=frozenset({"workers"}))


def of_shard(tasks: str, params: GenerateParams) -> range:
    """The numbers of the windows that this call of the stage makes: consecutive ones, so that parts can be joined."""
    windows = -(-count(tasks) // params.window)
    return range(windows * params.shard // params.shards, windows * (params.shard + 1) // params.shards)


def to_make(tasks: str, params: GenerateParams, numbers: Collection[int]) -> Iterator[Work]:
    """The windows of a table of tasks that have these numbers."""
    for number, window in enumerate(batched(rows(tasks, Task), params.window)):
        if number in numbers:
            yield number, window


def attempts_in(rollouts: pa.RecordBatch) -> int:
    """How many attempts there are: the roles of an episode share one."""
    import pyarrow.compute as pc

    alone = pc.sum(pc.equal(rollouts["episode"], "")).as_py() or 0
    return int(alone + pc.count_distinct(pc.filter(rollouts["episode"], pc.not_equal(rollouts["episode"], ""))).as_py())


class Tally:
    """Counts attempts and tokens, and reports them."""

    def __init__(self, total: int, unit: str, done: int = 0, tokens: int = 0) -> None:
        """``done`` and ``tokens`` are what was found finished."""
        self._total, self._unit, self._done, self._tokens = total, unit, done, tokens
        self.note(0, 0)

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Count attempts: the roles of an episode share one."""
        attempts = len({rollout.episode or number for number, rollout in enumerate(rollouts)})
        self.note(attempts, sum(rollout.tokens for rollout in rollouts))

    def note(self, attempts: int, tokens: int) -> None:
        """Count attempts."""
        self._done += attempts
        self._tokens += tokens
        progress.report(self._tokens, 0, "tokens")
        progress.report(self._done, self._total, self._unit)


def make(params: GenerateParams, source: Source, work: Iterator[Work], kept: Kept, tally: Tally) -> None:
    """Draw windows and keep them, in this process or in several."""
    if params.workers > 1:
        _share(params, source, work, kept, tally)
        return
    for some in batched(work, AT_ONCE):
        windows = [Window(source, tasks) for _, tasks in some]
        for (number, _), drawn in zip(some, side_by_side(params, windows, tally.add), strict=True):
            kept.write(number, drawn)


def _share(params: GenerateParams, source: Source, work: Iterator[Work], kept: Kept, tally: Tally) -> None:
    """Draw windows in several processes. Where one dies, as when memory is used up, what was under way is drawn again;
    raises ``UserError`` where one dies of the same windows once more.
    """
    before: set[int] = set()
    while lost := _drawn_by_pool(params, source, work, kept, tally):
        twice = sorted(before & lost.keys())
        if twice:
            raise UserError(
                f"A process that draws attempts died twice (at window {twice[0]} or beside it): lower workers, "
                "window or max_tokens, or give it more memory, and run it again: finished windows are kept."
            )
        log.warning("A process that draws attempts died; the %d windows under way are drawn again.", len(lost))
        before, work = set(lost), chain(lost.items(), work)


def _drawn_by_pool(
    params: GenerateParams, source: Source, work: Iterator[Work], kept: Kept, tally: Tally
) -> dict[int, list[Task]]:
    """Draw windows in several processes, to the end or until one dies. Returns what was under way then."""
    context = multiprocessing.get_context("spawn")
    slots = context.SimpleQueue()
    for slot in range(params.workers):
        slots.put(slot)
    begin = (params, source, kept, slots)
    under_way: dict[int, list[Task]] = {}
    running: dict[Future[tuple[int, int]], int] = {}

    def wait_for_one() -> None:
        for window in wait(running, return_when=FIRST_COMPLETED).done:
            attempts, tokens = window.result()
            tally.note(attempts, tokens)
            drew(tokens)
            del under_way[running.pop(window)]

    with ProcessPoolExecutor(params.workers, context, _Worker.begin, begin) as pool, suppress(BrokenProcessPool):
        for number, tasks in work:
            under_way[number] = tasks
            running[pool.submit(_Worker.draw, number, tasks)] = number
            if len(running) >= 2 * params.workers:
                wait_for_one()
        while running:
            wait_for_one()
    return under_way


class _Worker:
    """A process that draws windows; it ends when its parent does, however that ends."""

    params: GenerateParams
    source: Source
    kept: Kept
    engine: Engine | None = None

    @classmethod
    def begin(cls, params: GenerateParams, source: Source, kept: Kept, slots: Any) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
        cls.params, cls.source, cls.kept = params, source, kept
        _take_devices(slots.get(), params.tensor_parallel)

    @classmethod
    def draw(cls, number: int, tasks: list[Task]) -> tuple[int, int]:
        """Draw and keep a window. Returns its attempts and tokens."""
        cls.engine = cls.engine or open_engine(cls.params, cls.source.directory, cls.source.digest)
        [drawn] = draw(cls.engine, tasks, cls.params)
        cls.kept.write(number, drawn)
        return sum(map(cls.params.attempts_at, tasks)), sum(rollout.tokens for rollout in drawn)


def _follow(parent: Any) -> None:
    """End with the parent, however it ends."""
    parent.join()
    os._exit(1)


def _take_devices(slot: int, each: int) -> None:
    """Let this process see the GPUs of its slot only; those that there are go round."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        known = [str(number) for number in range(torch.cuda.device_count())]
    else:
        known = [name for name in given.split(",") if name]
    if known:
        mine = [known[(slot * each + number) % len(known)] for number in range(each)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(mine))
