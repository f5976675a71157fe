"""Work that may hang, in child processes that can be killed.

A library's own time limit rests on signals and cannot interrupt what runs inside C code; killing a process always can.
A child lives long and takes one item after the other, because starting it costs an import. It hears and says JSON
alone. What takes longer than the limit is killed with SIGKILL, and a new child continues with the next item. An item
whose child died is given to another once more: the kernel may have killed it for others' use of memory.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from selfloop.errors import UserError
from selfloop.lookup import imported

MIB = 2**20
CHILD = "import sys; from selfloop.workers import serve; serve(*sys.argv[1:])"
CRASHED = "crashed"
KILLED = ("timeout", CRASHED)
STARTING = 60.0
"""Seconds in which a child must have imported what it works with."""


class Outcome(NamedTuple):
    """What became of an item: what its function returned, or ``failure`` in a word or two, and the seconds it took."""

    value: Any
    failure: str
    seconds: float


class Worker:
    """One child that calls ``module:function`` on each item, and on ``warm`` before it says that it is ready."""

    def __init__(self, target: str, memory_limit: int, warm: Sequence[Any] = ()) -> None:
        command = [sys.executable, "-P", "-c", CHILD, target, str(memory_limit), json.dumps(warm)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment, close_fds=True
        )
        assert self._child.stdin
        assert self._child.stdout
        self._input, self.output = self._child.stdin, self._child.stdout
        self.began, self.deadline = time.monotonic(), time.monotonic() + STARTING
        self._heard = b""
        self.ready = False

    def give(self, item: Sequence[Any], time_limit: float) -> None:
        """Begin with an item. A child that died is noticed when it does not answer."""
        self.began = time.monotonic()
        self.deadline = self.began + time_limit
        waiting = memoryview(json.dumps([time_limit, item]).encode() + b"\n")
        with suppress(BrokenPipeError):
            while waiting:
                waiting = waiting[self._input.write(waiting) :]

    def hear(self) -> list[Any] | None:
        """What the child says now, ``None`` where it is not complete. Raises ``EOFError`` where the child is gone."""
        said = os.read(self.output.fileno(), 65_536)
        if not said:
            raise EOFError
        self._heard += said
        if not self._heard.endswith(b"\n"):
            return None
        line, self._heard = self._heard, b""
        return list(json.loads(line))

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._child.pid

    def kill(self) -> None:
        """End the child at once."""
        self._child.kill()
        self._child.wait()
        self._input.close()
        self.output.close()


class Pool:
    """Children for one function, that work through lists of items.

    ``time_limit`` is in seconds of wall time an item, ``memory_limit`` in MiB of address space a child. ``warm`` is an
    item that each child works through first, so that what is imported on first use counts for no item.
    """

    def __init__(
        self, target: str, workers: int, time_limit: float, memory_limit: int, warm: Sequence[Any] = ()
    ) -> None:
        self.target, self.number, self.warm = target, workers, warm
        self.time_limit, self.memory_limit = time_limit, memory_limit
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def map(self, items: Sequence[Sequence[Any]]) -> list[Outcome]:
        """What became of each item, in order; an item is the arguments of the function, as JSON takes them.

        Raises ``UserError`` where the children cannot start.
        """
        with self._lock:
            try:
                return self._mapped(items)
            except BaseException:
                self.close()  # a child that was left alone with an item would answer in the middle of the next list
                raise

    def _mapped(self, items: Sequence[Sequence[Any]]) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        waiting = deque(range(len(items)))
        again: set[int] = set()
        busy: dict[Worker, int] = {}
        with selectors.DefaultSelector() as selector:
            for worker in self._started(min(self.number, len(items))):
                selector.register(worker.output, selectors.EVENT_READ, worker)
                if worker.ready:
                    self._next(worker, waiting, items, busy)
            while len(found) < len(items):
                first = min(worker.deadline for worker in self._workers if worker in busy or not worker.ready)
                heard = [key.data for key, _ in selector.select(max(first - time.monotonic(), 0))]
                for worker in list(self._workers):
                    said = self._said(worker, worker in heard)
                    if said is None:
                        continue
                    if worker in busy:
                        number = busy.pop(worker)
                        if said.failure == CRASHED and number not in again:
                            again.add(number)
                            waiting.append(number)
                        else:
                            found[number] = said
                    if said.failure in KILLED:
                        selector.unregister(worker.output)
                        worker = self._replaced(worker)
                        selector.register(worker.output, selectors.EVENT_READ, worker)
                    elif worker.ready:
                        self._next(worker, waiting, items, busy)
        return [found[number] for number in range(len(items))]

    def _said(self, worker: Worker, heard: bool) -> Outcome | None:
        """What became of a worker's item by now; ``None`` where it still works, or has nothing to do."""
        spent = time.monotonic() - worker.began
        try:
            reply = worker.hear() if heard else None
        except EOFError:
            return self._lost(worker, CRASHED, spent)
        if reply is not None and not worker.ready:
            worker.ready = True
            return Outcome(None, "", spent)
        if reply is not None:
            return Outcome(reply[0], reply[1], spent)
        if time.monotonic() >= worker.deadline:
            worker.deadline = float("inf")
            return self._lost(worker, "timeout", spent)
        return None

    def _lost(self, worker: Worker, failure: str, spent: float) -> Outcome:
        if not worker.ready:
            self.close()
            raise UserError(
                f"A process that shall check answers with {self.target} cannot start ({failure}): give it more than "
                f"{self.memory_limit} MiB of memory, or look at what it says above."
            )
        return Outcome(None, failure, spent)

    def _next(
        self, worker: Worker, waiting: deque[int], items: Sequence[Sequence[Any]], busy: dict[Worker, int]
    ) -> None:
        worker.deadline = float("inf")
        if waiting:
            busy[worker] = waiting.popleft()
            worker.give(items[busy[worker]], self.time_limit)

    def _started(self, number: int) -> list[Worker]:
        while len(self._workers) < number:
            self._workers.append(Worker(self.target, self.memory_limit, self.warm))
        return self._workers

    def _replaced(self, worker: Worker) -> Worker:
        worker.kill()
        new = Worker(self.target, self.memory_limit, self.warm)
        self._workers[self._workers.index(worker)] = new
        return new

    @property
    def children(self) -> list[int]:
        """The processes that there are now."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End all children."""
        while self._workers:
            self._workers.pop().kill()


def pool(target: str, workers: int, time_limit: float, memory_limit: int, warm: tuple[Any, ...] = ()) -> Pool:
    """The pool of this function and these limits, which lives as long as the process; a fork has one of its own."""
    return _pool(os.getpid(), target, workers, time_limit, memory_limit, warm)


@cache
def _pool(_: int, target: str, workers: int, time_limit: float, memory_limit: int, warm: tuple[Any, ...]) -> Pool:
    made = Pool(target, workers, time_limit, memory_limit, warm)
    atexit.register(made.close)
    return made


def serve(target: str, memory: str, warm: str) -> None:
    """The life of a child: import, warm up, say so, then answer each item until there are no more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    work: Callable[..., Any] = imported("function", target)
    memory_limit = int(memory) * MIB
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.WARNING)
    if item := json.loads(warm):
        work(*item)
    answers.write(b"[]\n")
    for line in sys.stdin.buffer:
        time_limit, item = json.loads(line)
        _limit_processor(time_limit)
        try:
            said = [work(*item), ""]
        except MemoryError:
            said = [None, "out of memory"]
        except (Exception, RecursionError) as error:
            said = [None, type(error).__name__]
        answers.write(json.dumps(said).encode() + b"\n")


def _limit_processor(seconds: float) -> None:
    """Have the kernel end this process where its parent is no longer there to do so."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime + 2 * seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
