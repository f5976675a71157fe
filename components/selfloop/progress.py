"""How a stage tells whoever watches how far it is, and how fast that is. Without a watcher, nothing happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[int, int, str], None]
STEP = "selfloop step "
"""What a process of a training begins a line with, to tell how far it is."""
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
    """Say that ``done`` of ``total`` units are finished; ``total`` is 0 where nobody knows how many there will be."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(done, total, unit)


class Pace:
    """How fast a count grows, and when it will be whole. What is there at the first note was made before."""

    def __init__(self, done: int, total: int, now: float) -> None:
        self.done, self.total, self._before, self._began, self._now = done, total, done, now, now

    def note(self, done: int, total: int, now: float) -> None:
        """Take the next report; ``now`` in seconds of any clock."""
        self.done, self.total, self._now = done, total, now

    @property
    def rate(self) -> float:
        """Units a second since the first note."""
        return (self.done - self._before) / max(self._now - self._began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at this rate; none where the end or the rate is not known."""
        if not self.total or self.rate <= 0:
            return None
        return (self.total - self.done) / self.rate
