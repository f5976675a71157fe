"""The command ``selfloop``: its application, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from selfloop import __version__
from selfloop.errors import UserError, disk_is_full
from selfloop.texts import plain
from selfloop.trust import trust

app = typer.Typer(
    name="selfloop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"selfloop {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    """Loops in which a language model improves itself, run as Kubeflow pipelines."""


class PlainConsole(Console):
    """A console that shows texts and lets none of them steer the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is shown."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain(text), style, control)


console = PlainConsole(highlight=False)


class PlainFormatter(logging.Formatter):
    """The same for what is logged."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return plain(super().format(record))


class StoppedError(UserError):
    """A person stopped the run."""

    exit_code = 130


REFUSALS = (
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS
)  # fmt: skip
"""Errors of the system that are about a place and nobody's mistake here."""
FULL = "The disk is full: free some space and run the same command again, finished stages are kept."


def main() -> None:
    """Run the command; a mistake that a person can mend is one sentence and a non-zero exit."""
    sys.path.append(os.getcwd())  # so that module:name finds what lies beside the user, and no more than that
    trust([])  # what a shell has in its environment is not said in this command
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("selfloop: %(message)s"))
    logging.getLogger("selfloop").addHandler(handler)
    sys.exit(run_command(sys.argv[1:]))


def run_command(words: Sequence[str]) -> int:
    """Run the command with these words, and say in one sentence what goes wrong. Returns the exit code."""
    try:
        _command()(list(words))
    except SystemExit as ended:  # what the command line itself ends with
        return int(ended.code or 0)
    except UserError as error:
        _complain(str(error))
        return error.exit_code
    except Exception as error:
        _complain(FULL if disk_is_full(error) else _refused(error) or _unforeseen(error))
        return 1
    return 0


def _refused(error: Exception) -> str:
    """What to say of a file or a folder that the system refuses; empty where it is something else."""
    if not isinstance(error, OSError) or error.errno not in REFUSALS or not error.filename:
        return ""
    name = str(error.filename)
    shown = name if len(name) < 300 else f"{name[:100]}..."
    return f"{shown} cannot be used ({error.strerror}): mend that, or give another place."


@cache
def _command() -> Any:
    """The command with all that the modules of this package add to it."""
    return typer.main.get_command(app)


def _unforeseen(error: Exception) -> str:
    """What to say of an error that nobody thought of: what it is, and where its trace lies."""
    from selfloop.lineage.tracking import without_password

    said = " ".join(without_password(str(error)).split())[:200]
    trace = without_password("".join(traceback.format_exception(error)))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="selfloop-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as kept:
            kept.write(trace)
    except OSError:
        sys.stderr.write(trace)
        return f"An error that was not foreseen ({type(error).__name__}: {said}): its trace is above, please report it."
    return f"An error that was not foreseen ({type(error).__name__}: {said}): please report it with {kept.name}."


def say(line: str) -> None:
    """Print a line as it is, whole."""
    console.print(line, markup=False, soft_wrap=True)


@contextmanager
def resumable(root: Path) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a clean stop."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _stops_are_heard():
            yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; what is finished is kept in {root}. The same command continues from there."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stops_are_heard() -> Iterator[None]:
    """Raise a stop again where Python dropped it, as it drops what is raised in a destructor or while a weak reference
    is cleared: libraries do enough in both to lose one Ctrl-C in some tens."""
    before, again, here = sys.unraisablehook, list[threading.Timer](), threading.get_ident()

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            before(what)
            return
        again.append(threading.Timer(0.05, signal.pthread_kill, [here, signal.SIGTERM]))
        again[-1].start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()


def _complain(sentence: str) -> None:
    said = " ".join(sentence.split())  # what was typed may stand in it
    PlainConsole(stderr=True, highlight=False, soft_wrap=True).print(f"selfloop: {said}", markup=False)
