"""A run's history: what each round did, without the times, which are of the moment and stay in its sidecar.

Its rounds lie in files of 1, 8, 64, ... rounds each, as the digits of their number say. A history takes the files of
the one before it as they are, hard links where the file system allows it: what the histories of a loop take on a disk
grows as its rounds do, and not as their square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from selfloop.artifacts import MANIFEST, SIDECAR, read_json, sidecar_of, write_json
from selfloop.costs import Spent
from selfloop.links import link

BASE = 8
MOMENTS = 64
"""Rounds whose moments are kept one by one."""


def read_history(place: str | Path) -> dict[str, Any]:
    """A run's history, with all its ``rounds``."""
    history: dict[str, Any] = read_json(place)
    files = [file for _, file in _files(history["number"])]
    return history | {"rounds": [round for file in files for round in read_json(place, file)]}


def newest_history(root: Path) -> Path | None:
    """The history that the last round of a run left somewhere below its folder; none where no stage of it is kept."""
    places = [path.parent for path in root.rglob(f"*history/{MANIFEST}")]
    return max(places, key=lambda place: (read_json(place)["number"], place), default=None)


def last_round(place: str | Path) -> dict[str, Any]:
    """The last round of a history that has one."""
    *_, (_, file) = _files(read_json(place)["number"])
    return dict(read_json(place, file)[-1])


def write_history(place: Path, history: Mapping[str, Any], before: Path | None = None) -> None:
    """Write a history; what it shares with the one before it is taken from there."""
    rounds = history["rounds"]
    about = {name: value for name, value in history.items() if name != "rounds"}
    write_json(place, about | {"number": len(rounds)})
    for part, file in _files(len(rounds)):
        if before is not None and (before / file).is_file():
            link(before / file, place / file)
        else:
            write_json(place, rounds[part], file)


def _files(number: int) -> Iterator[tuple[slice, str]]:
    """The rounds that each file holds, and its name, in their order."""
    digits = [int(digit) for digit in f"{number:o}"]
    sizes = [
        BASE**power for power, digit in zip(reversed(range(len(digits))), digits, strict=True) for _ in range(digit)
    ]
    for end, size in zip(accumulate(sizes), sizes, strict=True):
        yield slice(end - size, end), f"rounds-{end - size:06}-{end:06}.json"


def read_moments(place: str | Path) -> list[dict[str, Any]]:
    """The moments of a history's stages, by rounds."""
    return list(sidecar_of(place).get("rounds", []))


def write_moments(place: Path, moments: Sequence[Mapping[str, Any]]) -> None:
    """Keep the moments of the last rounds beside a history, and the sums of those before in the first one."""
    first, *later = moments
    old, kept = later[:-MOMENTS], later[-MOMENTS:]
    gained = sum(moment.get("gained", 0.0) for moment in (first, *old))
    write_json(place, {"rounds": [{**first, "stages": _summed([first, *old]), "gained": gained}, *kept]}, SIDECAR)


def _summed(moments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages of some rounds, each once: since when, what they spent, and the most memory."""
    found: dict[str, dict[str, Any]] = {}
    for entry in (entry for moment in moments for entry in moment["stages"] if "stage" in entry):
        known = found.setdefault(entry["stage"], {**entry, **dict.fromkeys(Spent._fields, 0)})
        known.update({name: known[name] + entry.get(name, 0) for name in Spent._fields})
        known["began"] = min(known["began"], entry["began"])
        known["peak_bytes"] = max(known["peak_bytes"], entry["peak_bytes"])
    return list(found.values())
