"""Seeds: all that is random in a run follows from its seed, the round, the purpose and the stream."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

STREAM = "Calls that are equal otherwise draw other random numbers under another name."


class Drawing(Protocol):
    """Parameters of a stage that draws random numbers."""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        ...

    @property
    def stream(self) -> str:
        """What tells calls with equal parameters and inputs apart; most have none."""
        ...


def seed_of(*parts: Any) -> int:
    """A seed of 63 bits, different for different parts (run seed, round, purpose)."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1


def seed_for(params: Drawing, *purpose: Any) -> int:
    """The seed of what a call draws for a purpose: that of the run's seed, and of the call's stream if it names one."""
    return seed_of(params.seed, *purpose, *([params.stream] if params.stream else []))
