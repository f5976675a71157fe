"""Mistakes that a person can mend, each said in one sentence."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What went wrong and how to mend it, in one sentence. The CLI prints it without a traceback."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones; it offers the nearest."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(names)}."
    return UserError(f"There is no {kind} '{name}': {hint}")


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
