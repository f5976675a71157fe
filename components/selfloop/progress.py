"""How a stage tells whoever watches how far it is. Without a watcher, nothing happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[int, int, str], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Send the progress of the stages in this block to ``watcher(done, total, unit)``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def report(done: int, total: int, unit: str) -> None:
    """Say that ``done`` of ``total`` units are finished."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(done, total, unit)
