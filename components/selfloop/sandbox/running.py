"""Programs in, outcomes out: a worker for each core drives an interpreter that forks a sandbox for each program."""

from __future__ import annotations

import json
import os
import queue
import resource
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from selfloop import machine
from selfloop.errors import UserError
from selfloop.sandbox.isolation import END_SECONDS, Way, end, is_unsafe, probe, unprotected
from selfloop.sandbox.replies import Answer, read_replies
from selfloop.sandbox.zygote import NOT_PYTHON, OUT_OF_MEMORY, TOO_MUCH, pack

Status = Literal["ok", "error", "timeout", "memory", "output", "syntax"]
AHEAD = 8
"""Programs that wait for each worker while the outcome of the first is not taken yet."""
GRACE_SECONDS = 5.0
"""How long after its time a program may still lack an outcome before its interpreter is given up."""
PIECE = 65_536
ATTEMPTS = 2
"""How often a program is run whose interpreter is lost, which is no fault of the program."""


class Limits(BaseModel):
    """What one program may use. ``memory_bytes`` is of address space, for each of its processes and threads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float = Field(5.0, gt=0, description="Seconds from start to end.")
    cpu_s: float = Field(5.0, gt=0, description="Seconds of processor time, rounded up to whole ones.")
    memory_bytes: int = Field(512 * 2**20, ge=64 * 2**20, description="Address space of a process.")
    disk_bytes: int = Field(16 * 2**20, ge=4096, description="What its private /tmp holds, and each of its files.")
    files: int = Field(1000, ge=8, description="Files and folders in its private /tmp.")
    output_bytes: int = Field(2**20, ge=1, description="Standard output, and standard error.")
    answer_bytes: int = Field(2**17, ge=1, description="What all its calls return, written down.")
    text_bytes: int = Field(2**23, ge=1, description="What it writes for all its texts, written down.")
    processes: int = Field(1, ge=1, description="Processes and threads at one time; one more where it has texts.")

    def of(self, program: Program) -> Limits:
        """The limits of a program: one with texts has the room for what it writes, and a thread to recurse in."""
        if not program.texts:
            return self
        return self.model_copy(update={"answer_bytes": self.text_bytes, "processes": self.processes + 1})


class Call(NamedTuple):
    """A call of one of the program's functions, with plain values."""

    function: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}


class Program(NamedTuple):
    """Source, what it reads on standard input, and the functions to call in it; or the texts to start it anew for.

    A program with calls runs as the module ``solution``, one without as ``__main__``. One with texts runs as
    ``__main__`` from its start for each of them, which is then its standard input; what it writes on standard output
    is its reply.
    """

    source: str
    stdin: str = ""
    calls: Sequence[Call] = ()
    texts: Sequence[str] = ()


class Outcome(NamedTuple):
    """How a program ended, what it wrote, and what it replied to its calls or texts. Nothing in it is to be trusted."""

    status: Status
    stdout: str
    stderr: str
    seconds: float
    replies: bytes = b""

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What the calls returned, or was written for the texts: at most one for each, in their order, and always
        plain values.
        """
        return read_replies(self.replies)


class Sandbox:
    """Workers that are ready to run programs; use it in ``with``, and in the thread that made it until it is left."""

    def __init__(self, limits: Limits | None = None, workers: int | None = None) -> None:
        """Raises ``UserError`` where programs cannot be kept apart, unless that was asked for."""
        self.limits = limits or Limits()
        way = unprotected() if is_unsafe() else probe()
        count = workers or workers_for(self.limits)
        self._workers = [_Worker(way) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._pool = ThreadPoolExecutor(count, "sandbox")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:  # all of them at once, and then one after the other waits for its own
            worker.close()
        for worker in self._workers:
            worker.stop()

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Run programs side by side. Yields their outcomes in order."""
        waiting: deque[Future[Outcome]] = deque()
        for program in programs:
            waiting.append(self._pool.submit(self._run, program))
            if len(waiting) > AHEAD * len(self._workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _run(self, program: Program) -> Outcome:
        worker = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    return worker.run(program, self.limits)
                except _LostError:
                    worker.restart()
        finally:
            self._idle.put(worker)
        return Outcome("error", "", "the sandbox was lost", 0.0)


def workers_for(limits: Limits) -> int:
    """How many programs run at one time: as many as this process has cores, and room for their memory, beside its own.

    One more than cores, because the kernel takes a while to take a namespace down.
    """
    whole, own = machine.memory_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    of_one = limits.memory_bytes * limits.processes + limits.disk_bytes
    fitting = (whole - own) // of_one if whole else machine.cores() + 1
    return max(1, min(machine.cores() + 1, fitting))


def run_programs(
    programs: Iterable[Program], limits: Limits | None = None, workers: int | None = None
) -> Iterator[Outcome]:
    """Run each program in a sandbox of its own, on all cores. Yields their outcomes in order.

    Raises ``UserError`` where programs cannot be kept apart.
    """
    with Sandbox(limits, workers) as sandbox:
        yield from sandbox.run(programs)


class _LostError(Exception):
    """A waiting interpreter died, or hangs: what became of its program is not known."""


class _Worker:
    """A waiting interpreter."""

    def __init__(self, way: Way) -> None:
        self._way, self._is_ready, self._inner = way, False, list[int]()
        self._process, self._control = way.start()

    def close(self) -> None:
        """Let the interpreter end."""
        self._control.close()

    def stop(self, patience_s: float = END_SECONDS) -> None:
        self.close()
        end(self._process, self._inner, patience_s)

    def restart(self) -> None:
        self.stop(patience_s=0.0)
        self._is_ready = False
        self._process, self._control = self._way.start()

    def run(self, program: Program, limits: Limits) -> Outcome:
        if not self._is_ready:
            self._await_ready()
        limits = limits.of(program)
        theirs, ours = _descriptors(program, limits)
        try:
            try:
                socket.send_fds(self._control, [limits.model_dump_json().encode()], theirs)
            finally:
                for fd in theirs:
                    os.close(fd)
            ending, outputs, is_cut = self._collect(ours, limits)
        except (ConnectionError, TimeoutError):
            raise _LostError from None
        finally:
            for fd in ours:
                os.close(fd)
        stdout, stderr, replies = outputs
        status = _status(ending, is_cut, limits)
        said, complained = (text.decode("utf-8", "replace") for text in (stdout, stderr))
        asked = len(program.texts or program.calls)
        replies = replies if replies.count(b"\n") <= asked else b""  # else some are not to what was asked
        return Outcome(status, said, complained, ending["seconds"], replies)

    def _await_ready(self) -> None:
        try:
            self._inner = self._way.await_ready(self._process, self._control)
        except OSError as error:
            raise UserError(f"The sandbox does not start ({error}): look at the machine's memory and load.") from None
        self._is_ready = True

    def _collect(self, fds: list[int], limits: Limits) -> tuple[dict[str, Any], list[bytes], bool]:
        """Read what the program writes until it has ended; one that writes too much is killed."""
        kept: dict[int, list[bytes]] = {fd: [] for fd in fds}
        room = dict(zip(fds, (limits.output_bytes, limits.output_bytes, limits.answer_bytes), strict=True))
        ending: dict[str, Any] | None = None
        poll, open_ = select.poll(), set(fds)
        for fd in (*fds, self._control.fileno()):
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + limits.wall_s + GRACE_SECONDS
        while ending is None or open_:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise TimeoutError
            for fd, _ in ready:
                if fd not in room:
                    message = self._control.recv(4096)
                    if not message:
                        raise ConnectionError
                    ending = json.loads(message)
                    poll.unregister(fd)
                    continue
                piece = os.read(fd, PIECE)
                kept[fd].append(piece[: max(0, room[fd])])
                was, room[fd] = room[fd], room[fd] - len(piece)
                if was >= 0 > room[fd] and ending is None:
                    self._control.send(b"kill")
                if not piece:
                    poll.unregister(fd)
                    open_.discard(fd)
        return ending, [b"".join(kept[fd]) for fd in fds], min(room.values()) < 0


def _descriptors(program: Program, limits: Limits) -> tuple[list[int], list[int]]:
    """The program's descriptors (input, output, error, request, answers), and the ends of them that are read here."""
    calls = [
        (name, list(map(pack, args)), {key: pack(value) for key, value in kwargs.items()})
        for name, args, kwargs in program.calls
    ]
    request = json.dumps(
        {"source": program.source, "calls": calls, "texts": program.texts, "most": limits.answer_bytes}
    ).encode()
    stdin, asked = _file(program.stdin.encode("utf-8", "surrogatepass")), _file(request)
    pipes = [os.pipe() for _ in range(3)]
    (_, out), (_, err), (_, answers) = pipes
    return [stdin, out, err, asked, answers], [read for read, _ in pipes]


def _file(content: bytes) -> int:
    fd = os.memfd_create("program")
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _status(ending: Mapping[str, Any], is_cut: bool, limits: Limits) -> Status:
    if is_cut:
        return "output"
    # the kernel counts the processor time that ends a program in ticks, and what it used exactly
    is_spent = ending["code"] == -signal.SIGKILL and ending["cpu_s"] > limits.cpu_s / 2
    if ending["late"] or is_spent:
        return "timeout"
    named: dict[int, Status] = {0: "ok", OUT_OF_MEMORY: "memory", NOT_PYTHON: "syntax", TOO_MUCH: "output"}
    return named.get(ending["code"], "error")
