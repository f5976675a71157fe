"""Items that a loop was judged on more than once: counted in each round, in room that does not grow with the loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

MOST = 1024
"""Items that are remembered one by one."""


class Used(NamedTuple):
    """Items that were judged on, by 48 bits of a hash of their ids.

    All are remembered up to ``MOST``; then those alone whose hash is a multiple of 2, of 4, ... (Wegman's adaptive
    sampling: Flajolet 1990, doi:10.1007/BF02241657). A count is exact as long as all are remembered; then it is that of
    those remembered, times what they stand for.
    """

    hashes: frozenset[int] = frozenset()
    halvings: int = 0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Used:
        """What a loop's state says; nothing where it says nothing."""
        return cls(frozenset(int(each, 16) for each in state.get("hashes", ())), state.get("halvings", 0))

    def as_state(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"hashes": [f"{each:x}" for each in sorted(self.hashes)], "halvings": self.halvings}

    def again(self, ids: Iterable[str]) -> int:
        """About how many of some items were judged on before."""
        return len(self.hashes & set(map(_hash, ids))) << self.halvings

    def after(self, ids: Iterable[str]) -> Used:
        """These items, and others."""
        hashes, halvings = self.hashes | set(map(_hash, ids)), self.halvings
        hashes = _thinned(hashes, halvings)
        while len(hashes) > MOST:
            halvings += 1
            hashes = _thinned(hashes, halvings)
        return Used(hashes, halvings)


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(), digest_size=6).digest(), "big")


def _thinned(hashes: Iterable[int], halvings: int) -> frozenset[int]:
    return frozenset(each for each in hashes if each % (1 << halvings) == 0)
