"""What an environment says of completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa


class Grade(NamedTuple):
    """What an environment says of one completion. ``score`` is in [0, 1]."""

    ok: bool
    score: float
    reason: str


def as_columns(grades: Sequence[Grade]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Grades as columns: ``ok`` (bool), ``score`` (float), ``reason`` (string)."""
    import pyarrow as pa

    ok, score, reason = zip(*grades, strict=True) if grades else ((), (), ())
    return pa.array(ok, pa.bool_()), pa.array(score, pa.float64()), pa.array(reason, pa.string())
