"""What a stage spends: tokens drawn and trained on, seconds, and the cores and GPUs that it holds meanwhile.

It is noted in the sidecar of each of the stage's outputs, beside what the stages before it spent in the same round: the
end of a round finds there what all of the round's stages spent, whichever pods they ran in. No digest covers it.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from selfloop import machine
from selfloop.artifacts import sidecar_of

BEFORE = "before"
"""Where a sidecar holds what the stages before this one spent."""
SPENT = ("call", "stage", "round", "began", "seconds", "drawn", "trained", "cpus", "gpus", "peak_bytes")
"""What is noted of a stage's call: which one it is, and what it spent."""
_round: ContextVar[int | None] = ContextVar("round", default=None)
_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


class Meter:
    """A call of a stage at work: when it began, and the tokens that policies have written in it so far."""

    def __init__(self) -> None:
        self.began, self._clock, self.drawn = time.time(), time.perf_counter(), 0

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._clock

    def spent(self, call: str, stage: str, round: int, noted: Mapping[str, Any] = {}) -> dict[str, Any]:
        """What the call has spent until now; ``noted`` is what it says itself of processes that worked for it."""
        return {
            "call": call,
            "stage": stage,
            "round": round,
            "began": self.began,
            "seconds": self.seconds,
            "drawn": self.drawn + int(noted.get("drawn", 0)),
            "trained": int(noted.get("tokens", 0)),
            "cpus": noted.get("cpus", machine.cores()),
            "gpus": noted.get("gpus", machine.gpus()),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


@contextmanager
def metered() -> Iterator[Meter]:
    """Count what is drawn in this block."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def meter() -> Meter:
    """That of the stage at work; a new one where none is."""
    return _meter.get() or Meter()


def drew(tokens: int) -> None:
    """Say that a policy has written so many tokens."""
    if (at_work := _meter.get()) is not None:
        at_work.drawn += tokens


@contextmanager
def in_round(number: int) -> Iterator[None]:
    """Let the stages in this block count as those of a round."""
    token = _round.set(number)
    try:
        yield
    finally:
        _round.reset(token)


def round_of(params: Any) -> int:
    """The round that a stage works for: as whoever runs it said, or else as its parameters say."""
    said = _round.get()
    return getattr(params, "round", 0) if said is None else said


def call_of(origin: Mapping[str, Any]) -> str:
    """What tells a call from others: of the same stage, parameters and inputs it is the same, wherever it ran."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]


def spent_for(places: Iterable[Any], round: int) -> list[dict[str, Any]]:
    """What was spent in a round on artifacts, and on those that they were made of, a call once."""
    found: dict[str, dict[str, Any]] = {}
    for noted in map(sidecar_of, places):
        for entry in (*noted.get(BEFORE, ()), noted):
            if entry.get("round") == round and "call" in entry:
                found.setdefault(entry["call"], {name: entry[name] for name in SPENT})
    return sorted(found.values(), key=lambda entry: float(entry["began"]))
