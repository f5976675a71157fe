"""What the benchmarks share: arms measured in turns, work in a child process, tables, and the JSON of a result."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table
from selfloop.artifacts import write_json
from selfloop.bench import machine

RESULTS = Path(__file__).parent / "results"
TRIED_OUT = Path("runs", "benchmarks")
sys.path.insert(0, str(Path(__file__).parents[2]))
SMALL: dict[str, Any] = importlib.import_module("tests.conftest").SMALL
console = Console(highlight=False, width=110)

T = TypeVar("T")


class Spread(NamedTuple):
    """The median of several measurements, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 3 if abs(self.median) < 10 else 1 if abs(self.median) < 1000 else 0
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


class Child(NamedTuple):
    """What a call in a child process returned, its wall and processor seconds, and its own peak memory."""

    returned: Any
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def spread(values: Iterable[float]) -> Spread:
    """Median, lowest and highest."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1])


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The spread of the ratio of two arms; each repeat is compared with itself."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(arms: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """What each arm gives at each repeat. The arms take turns, and the order turns round from repeat to repeat."""
    found: dict[str, list[T]] = {name: [] for name in arms}
    for repeat in range(repeats):
        for name in list(arms)[:: -1 if repeat % 2 else 1]:
            found[name].append(arms[name]())
            console.print(f"[dim]{name}, {repeat + 1} of {repeats}[/]")
    return found


def in_child(function: Callable[..., Any], *arguments: Any, core: int | None = None) -> Child:
    """Call a function of a module in a fresh interpreter, on one core where ``core`` names it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _on_core, (core,)) as pool:
        return pool.submit(_measured, function, arguments).result()


def _on_core(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})


def _measured(function: Callable[..., Any], arguments: Sequence[Any]) -> Child:
    wall, cpu = time.perf_counter(), time.process_time()
    returned = function(*arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Child(returned, wall, cpu, peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process has had. ``ru_maxrss`` would count that of its parent where there is a fork."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def cached_bytecode() -> Iterator[None]:
    """Let fresh interpreters keep compiled modules, as they do unless told otherwise, in a folder of this block."""
    before = os.environ.copy()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def wants_small(about: str | None) -> bool:
    """Read the command line: whether the benchmark shall only show that it works."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the benchmark out")
    return bool(parser.parse_args().small)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, the first column to the left and the others to the right."""
    table = Table(box=None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(f"\n[bold]{title}[/]")
    console.print(table)


def publish(name: str, small: bool, numbers: Mapping[str, Any]) -> None:
    """Write the numbers, with where, when and with what they were measured; git ignores those of small sizes."""
    about = {"command": shlex.join(["python", *sys.argv]), "small": small, **machine(), "load": os.getloadavg()[0]}
    place = TRIED_OUT if small else RESULTS
    write_json(place, {**about, **numbers}, f"{name}.json")
    console.print(f"{place / name}.json")
