"""The command ``selfloop``: its application, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from selfloop.errors import UserError, disk_is_full
from selfloop.texts import plain
from selfloop.trust import trust

app = typer.Typer(
    name="selfloop",
    help="Loops in which a language model improves itself, run as Kubeflow pipelines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


def main() -> None:
    """Run the command; a mistake that a person can mend is one sentence and a non-zero exit."""
    sys.path.append(os.getcwd())  # so that module:name finds what lies beside the user, and no more than that
    trust([])  # what a shell has in its environment is not said in this command
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("selfloop: %(message)s"))
    logging.getLogger("selfloop").addHandler(handler)
    try:
        app()
    except UserError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if not disk_is_full(error):
            raise
        _complain("The disk is full: free some space and run the same command again, finished stages are kept.")
        sys.exit(1)


def say(line: str) -> None:
    """Print a line as it is, whole."""
    console.print(line, markup=False, soft_wrap=True)


@contextmanager
def resumable(root: Path) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a clean stop."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; what is finished is kept in {root}. The same command continues from there."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(sentence: str) -> None:
    PlainConsole(stderr=True, highlight=False, soft_wrap=True).print(f"selfloop: {sentence}", markup=False)
