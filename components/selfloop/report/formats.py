"""How numbers and intervals read in the report, and what its sections share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Round = Mapping[str, Any]
Compared = Mapping[str, Any]
"""The gate's numbers of a suite: the fields of ``selfloop.promote.gate.Comparison``."""


def by_level(values: Mapping[str, Any]) -> dict[int, Any]:
    """A mapping with the levels as the numbers that they are, in order: JSON has them as text."""
    return dict(sorted((int(level), value) for level, value in values.items()))


class Axis(NamedTuple):
    """The gains that an interval plot spans."""

    low: float
    high: float

    def at(self, gain: float) -> float:
        """Where a gain lies, in percent of the axis."""
        return round(100 * (gain - self.low) / (self.high - self.low), 1)

    def place(self, compared: Compared) -> dict[str, float]:
        """Where an interval begins and how wide it is, in percent of the axis, as are the gain and the bar."""
        begins = self.at(compared["lower"])
        return {
            "l": begins,
            "w": round(self.at(compared["upper"]) - begins, 1),
            "g": self.at(compared["gain"]),
            "b": self.at(compared["bar"]),
        }


def axis(compared: Iterable[Compared]) -> Axis:
    """The axis on which these intervals, their bars and zero lie, with some room on both sides."""
    ends = [0.0, *(suite[end] for suite in compared for end in ("lower", "upper", "bar"))]
    room = 0.04 * (max(ends) - min(ends)) or 1.0
    return Axis(min(ends) - room, max(ends) + room)


def signed(gain: float) -> str:
    """A gain with its sign."""
    return f"{gain:+z.3f}".replace("-", "−")


def interval(compared: Compared) -> str:
    """A gain with the bounds of its interval."""
    return f"{signed(compared['gain'])} [{signed(compared['lower'])}, {signed(compared['upper'])}]"


def reading(value: float | None) -> str:
    """What a guard measured."""
    if value is None:
        return "–"
    return f"{value:z.3f}".replace("-", "−") if abs(value) < 100 else f"{value:,.0f}".replace("-", "−")


def error(value: float | None) -> str:
    """An error of calibration."""
    return "—" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share in percent, which is 100% and 0% only where it is exact."""
    if share is None:
        return "—"
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share, 0.001), 0.999):.1%}"


def short(accuracy: float) -> str:
    """An accuracy in three characters, which is 1 and 0 only where it is exact."""
    return f"{accuracy:.0f}" if accuracy in (0, 1) else f"{min(accuracy, 0.99):.2f}".lstrip("0")


def decile(accuracy: float) -> int:
    """The shade of an accuracy, from 0 to 10."""
    return round(accuracy * 10)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(number_of_bytes: int) -> str:
    """Bytes in MiB, or GiB from a thousand MiB on."""
    mebibytes = number_of_bytes / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:,.1f} GiB"
