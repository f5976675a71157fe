"""Mistakes that a person can mend, each said in one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What went wrong and how to mend it, in one sentence. The CLI prints it without a traceback."""


class HaltedError(UserError):
    """A guard stopped the loop: which, where to look, and that the champion stays in force."""

    @classmethod
    def because(cls, reason: str) -> "HaltedError":
        """The error for a decision's reason."""
        return cls(f"{reason}{'' if reason.endswith('?') else '.'} The champion stays in force.")


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
