"""Artifacts on this machine that came from elsewhere."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from selfloop.artifacts import check
from selfloop.errors import UserError
from selfloop.store import folders
from selfloop.store.contract import is_key, key_of

CACHE_BYTES = 50 * 10**9


class Cache:
    """Artifacts that were fetched, for all processes of a machine, up to a number of bytes.

    What a process has got it holds until it ends or closes the cache, and what is held is never removed, even where
    that is more than the limit. Otherwise the artifacts go first that were last got longest ago.
    """

    def __init__(self, place: Path, limit_bytes: int = CACHE_BYTES) -> None:
        self.place, self.limit_bytes = place, limit_bytes
        self._held: dict[str, int] = {}

    @classmethod
    def of_machine(cls) -> Self:
        """The cache that the environment names: ``SELFLOOP_CACHE`` and ``SELFLOOP_CACHE_BYTES``."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        place = Path(os.environ.get("SELFLOOP_CACHE") or Path(home, "selfloop")).expanduser()
        limit = os.environ.get("SELFLOOP_CACHE_BYTES") or str(CACHE_BYTES)
        if not limit.isdecimal():
            raise UserError(f"SELFLOOP_CACHE_BYTES is '{limit}': give a whole number of bytes.")
        return cls(place.absolute(), int(limit))

    def get(self, key: str, fetch: Callable[[Path], None]) -> Path:
        """An artifact's directory, held from now on; ``fetch`` fills it, or continues with it, and verifies."""
        self.place.mkdir(parents=True, exist_ok=True)
        fetched = False
        while not (key in self._held or self._hold(key, verified=fetched)):
            self._fill(key, fetch)
            fetched = True
        os.utime(self.place / key)
        return self.place / key

    def make_room(self, needed_bytes: int, key: str) -> None:
        """Remove what was last got longest ago, until there is room for an artifact."""
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path in self.place.iterdir():
            name = path.name.removeprefix(".").removesuffix(".partial")
            if is_key(name) and name != key and path.is_dir():
                sizes[name] = sizes.get(name, 0) + folders.bytes_in(path)
                with suppress(FileNotFoundError):
                    used[name] = max(used.get(name, 0.0), path.stat().st_mtime)
        excess = sum(sizes.values()) + needed_bytes - self.limit_bytes
        for name in sorted(used, key=used.__getitem__):
            if excess <= 0:
                break
            if self.remove(name):
                excess -= sizes[name]

    def remove(self, key: str) -> bool:
        """Remove an artifact that nobody holds. Returns whether nobody did."""
        held, filling = folders.lock_of(self.place, key), self._filling(key)
        try:
            with folders.locked(held, wait=False), folders.locked(filling, wait=False):
                folders.remove(self.place, key)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of what is held."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _hold(self, key: str, verified: bool) -> bool:
        """Hold an artifact that is here and is what was fetched. What is not goes, unless somebody else holds it."""
        lock = folders.lock(folders.lock_of(self.place, key), fcntl.LOCK_SH)
        try:
            if not folders.is_whole(self.place, key):
                os.close(lock)
                return False
            if not verified and key_of(check(self.place / key)) != key:
                raise UserError(
                    f"{self.place / key} holds another artifact than its name says: remove it, and run the same again."
                )
        except UserError:
            os.close(lock)
            if not self.remove(key):
                raise
            return False
        self._held[key] = lock
        return True

    def _fill(self, key: str, fetch: Callable[[Path], None]) -> None:
        with folders.locked(self._filling(key)):
            if folders.is_whole(self.place, key):
                return
            unfinished = folders.unfinished(self.place, key)
            unfinished.mkdir(exist_ok=True)
            fetch(unfinished)
            folders.finish(self.place, key)
        self.make_room(folders.bytes_in(self.place / key), key)

    def _filling(self, key: str) -> Path:
        """The lock of whoever fetches an artifact: who waits for it must not wait for those who hold the artifact."""
        return folders.lock_of(self.place, f"{key}.filling")
