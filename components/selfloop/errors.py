"""Mistakes that a person can mend, each said in one sentence."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from selfloop.texts import bounded, plain

LAST_WORDS = re.compile(r"^selfloop( halted)?: (.+)$", re.MULTILINE)
"""The line in a pod's log that says in one sentence why its stage ended, and whether a guard halted the loop."""


class UserError(Exception):
    """What went wrong and how to mend it, in one sentence. It is printed without a traceback, and ``exit_code`` is
    what the process ends with. However much was typed, the sentence is of bounded length.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(bounded(sentence))


class HaltedError(UserError):
    """A guard stopped the loop: which, where to look, and that the champion stays in force."""

    exit_code = 3

    @classmethod
    def because(cls, reason: str) -> "HaltedError":
        """The error for a decision's reason."""
        return cls(f"{reason}{'' if reason.endswith('?') else '.'} The champion stays in force.")


@contextmanager
def ending_plainly() -> Iterator[None]:
    """End this process, a stage's, with the sentence of a mistake alone: the line that ``LAST_WORDS`` finds."""
    try:
        yield
    except UserError as error:
        halted = " halted" if isinstance(error, HaltedError) else ""
        print(plain(f"selfloop{halted}: {' '.join(str(error).split())}"), file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Import what not every image has; where it is not installed, say in one sentence what needs it, and its remedy."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs the package {error.name}, which is not installed here: pip install 'selfloop[{extra}]', or "
            f"build the images with EXTRAS={extra}."
        ) from None


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is that of a full disk; libraries say it in their own ways."""
    while error is not None:
        said = str(error)
        if (
            getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            or "No space left" in said
            or "disk is full" in said
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
