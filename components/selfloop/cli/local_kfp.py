"""A pipeline on this machine by ``kfp.local``: what it prints goes into a file, and a person sees a line a task."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

from rich.console import Console

from selfloop.display import round_line
from selfloop.errors import LAST_WORDS, HaltedError, UserError
from selfloop.report.history import last_round, newest_history

LOG = "kfp.log"
"""The file in a run's folder that holds what ``kfp.local`` printed, the output of all tasks among it."""
EVENT = re.compile(r"(Executing task|Task) .*?'([\w-]+)'(?:.*finished with status .*?(SUCCESS|FAILURE))?")
COLOURS = re.compile(r"\x1b\[\d*m")
ENDS_A_ROUND = ("close", "round")
"""The tasks that end a round, by how their names begin."""


class Tasks(io.TextIOBase):
    """Takes what ``kfp.local`` prints: keeps it in a file, and shows each task that ends, and each round."""

    def __init__(self, log: TextIO, root: Path, console: Console, first: int) -> None:
        self._log, self._root, self._console, self._round = log, root, console, first - 1
        self._line, self._began = "", time.monotonic()

    def write(self, text: str) -> int:
        """Take some text."""
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._hear(COLOURS.sub("", line))
        return len(text)

    def flush(self) -> None:
        """Let the file have all of it."""
        self._log.flush()

    def _hear(self, line: str) -> None:
        event = EVENT.search(line)
        if event is None:
            return
        did, task, status = event.groups()
        if did == "Executing task":
            self._began = time.monotonic()
        elif status == "SUCCESS":
            self._console.print(f"round {self._round} · {task}: {time.monotonic() - self._began:.1f} s")
            self._count(task)

    def _count(self, task: str) -> None:
        if task.startswith(ENDS_A_ROUND) and (place := newest_history(self._root)) is not None:
            self._console.print(round_line(last_round(place)), soft_wrap=True)
        self._round += task.startswith(("start", *ENDS_A_ROUND))


@contextmanager
def shown(root: Path, console: Console, first: int) -> Iterator[None]:
    """Show the tasks of a pipeline whose first round is ``first``; what they print lies in the run's folder.

    Raises ``UserError`` for a task that failed, with its own sentence where it said one; ``HaltedError`` where that is
    a guard's.
    """
    place, screen = root / LOG, sys.stdout
    with place.open("w", encoding="utf-8") as log:
        told = Console(file=screen, highlight=False, width=console.width)
        try:
            with redirect_stdout(Tasks(log, root, told, first)):
                yield
        except RuntimeError as error:  # what kfp.local raises for a task that failed, and for much else
            failed = re.search(r"Inner task failed: [^']*'([^']+)'", str(error))  # the name is coloured
            if failed is None:
                raise
            log.flush()
            raise _why_it_failed(failed[1], place) from None


def _why_it_failed(task: str, log: Path) -> UserError:
    """What the last task said with its last words."""
    said = [line.strip() for line in log.read_text(encoding="utf-8").splitlines()]
    words = LAST_WORDS.findall("\n".join(said))
    if not words:
        return UserError(
            f"Task {task} failed, what it printed is at the end of {log}: mend the cause and run again in another "
            "--output."
        )
    halted, sentence = words[-1]
    return HaltedError(sentence) if halted else UserError(f"Task {task} failed: {sentence} Its log is {log}.")
