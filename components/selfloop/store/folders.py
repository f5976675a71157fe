"""Folders of artifacts that several processes use at once: each key has its place, an unfinished one, and a lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfloop.artifacts import MANIFEST


def unfinished(root: Path, key: str) -> Path:
    """Where an artifact is made."""
    return root / f".{key}.partial"


def finish(root: Path, key: str) -> None:
    """Put what was made in its place."""
    shutil.rmtree(root / key, ignore_errors=True)
    os.rename(unfinished(root, key), root / key)


def is_whole(root: Path, key: str) -> bool:
    """Whether an artifact is there."""
    return (root / key / MANIFEST).is_file()


def remove(root: Path, key: str) -> None:
    """Remove an artifact and what is unfinished of it, the manifest first."""
    (root / key / MANIFEST).unlink(missing_ok=True)
    for path in (root / key, unfinished(root, key)):
        shutil.rmtree(path, ignore_errors=True)


def bytes_in(directory: Path) -> int:
    """The bytes of a folder's files; others may be removing some."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def lock_of(root: Path, key: str) -> Path:
    """The lock file of an artifact."""
    return root / f".{key}.lock"


def lock(path: Path, how: int) -> int:
    """The descriptor of a lock file, once it is locked and still has this name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, how)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Be the only one in this block, among all processes; the lock file goes at its end.

    Raises ``BlockingIOError`` at once where somebody else has the lock and this one does not wait.
    """
    descriptor = lock(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
