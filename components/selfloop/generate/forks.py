"""Windows drawn side by side, in forks of this process: a small policy leaves all cores but one idle.

Each window is drawn as it is alone, so its rollouts are those that one process draws. Forks share what their parent has
loaded, and start at once. A policy that computes on several threads, or on a GPU, and attempts that call tools are
drawn here, one window after the other.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from selfloop import machine
from selfloop.generate.draw import Listener, draw
from selfloop.generate.engines import Engine, open_engine
from selfloop.generate.params import GenerateParams
from selfloop.metering import drew, metered
from selfloop.policy import SMALL, device, load, weight_bytes
from selfloop.records import Rollout, Task

FLOAT_BYTES = 4
LEAST = 256
"""Attempts in all windows from which on they are worth the start of forks."""


class Source(NamedTuple):
    """A policy as a process opens it: its folder and its digest."""

    directory: str
    digest: str


class Window(NamedTuple):
    """Tasks that a policy attempts together."""

    source: Source
    tasks: Sequence[Task]


def side_by_side(
    params: GenerateParams, windows: Sequence[Window], listener: Listener
) -> Generator[list[Rollout], None, None]:
    """The rollouts of each window, in order; ``listener`` hears of the attempts, one by one or a window's at once."""
    forks, sources = min(len(windows), machine.cores()), dict.fromkeys(each.source for each in windows)
    attempts = sum(params.attempts_at(task) for each in windows for task in each.tasks)
    alone = forks < 2 or attempts < LEAST or params.engine == "vllm" or params.protocol.toolbox
    if alone or not all(map(is_small, sources)):
        yield from one_by_one(params, windows, listener)
        return
    for source in sources:
        load(source.directory, source.digest)
    for drawn in _forked(params, windows, forks):
        listener(drawn)
        yield drawn


def is_small(source: Source) -> bool:
    """Whether a policy is drawn from on one thread of a processor."""
    return device() == "cpu" and weight_bytes(source.directory) < SMALL * FLOAT_BYTES


def one_by_one(
    params: GenerateParams, windows: Sequence[Window], listener: Listener = lambda rollouts: None
) -> Iterator[list[Rollout]]:
    """The rollouts of each window, drawn in this process; a policy is opened once for all its windows in a row."""
    opened: tuple[Source, Engine] | None = None
    for source, tasks in windows:
        if opened is None or opened[0] != source:
            opened = source, open_engine(params, source.directory, source.digest)
        [drawn] = draw(opened[1], tasks, params, listener)
        yield drawn


def _forked(params: GenerateParams, windows: Sequence[Window], forks: int) -> Iterator[list[Rollout]]:
    """The rollouts of each window; what a fork that died had to draw, or could not, is drawn here."""
    context = multiprocessing.get_context("fork")
    running = []
    try:
        for number in range(forks):
            heard, told = context.Pipe(duplex=False)
            process = context.Process(target=_draw, args=(params, windows[number::forks], told), daemon=True)
            process.start()
            told.close()  # before the next fork, which would hold it open
            running.append((process, heard))
        for number, window in enumerate(windows):
            drawn: list[Rollout] | None = None
            with suppress(EOFError, OSError):
                drawn, tokens = running[number % forks][1].recv()
                drew(tokens)
            yield drawn if drawn is not None else next(one_by_one(params, [window]))
    finally:
        for process, heard in running:
            heard.close()
            process.kill()
            process.join()


def _draw(params: GenerateParams, windows: Sequence[Window], told: Connection) -> None:
    """In a fork: draw windows, tell each, and end at once; what goes wrong, the parent meets as well, and says."""
    with suppress(BaseException), metered() as meter:
        for drawn in one_by_one(params, windows):
            told.send((drawn, meter.drawn))
            meter.drawn = 0
    os._exit(0)
