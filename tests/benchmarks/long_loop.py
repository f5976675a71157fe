"""Long loops: what their rounds take on the disk, and how long they take, early and late.

Two loops run in process, each in MLflow on a new sqlite file, with its store beside it: one without a model, of the
same frame, registry, history and report, for 1,000 rounds; and the smallest one with a model for 100. Counted are the
bytes of all that was left, a file with several names once, and the seconds from one round's end to the next, of the
clock and of the processor: the processor's leave out what else the machine does.

Target: 1,000 rounds in at most 1 GB, and the last rounds take no longer than the first.
"""

from __future__ import annotations

import importlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import SMALL, console, publish, show, wants_small
from selfloop import lineage
from selfloop.modes import inprocess
from selfloop.recipe import Recipe, find_recipe
from selfloop.stages import Stage

COINS: Recipe[Any] = importlib.import_module("tests.claims.coins").recipe
TINY: dict[str, Any] = {
    **SMALL,
    "gate": {"require": "nothing", "guards": []},
    "draw": {"per_level": 8, "items_per_level": 8},
    "finetune": {"steps": 1},
}
LOOPS: dict[str, tuple[Recipe[Any], dict[str, Any], list[int]]] = {
    "coins": (COINS, {}, [10, 100, 300, 1000]),
    "expert-iteration": (find_recipe("expert-iteration"), TINY, [10, 30, 100]),
}
"""The loops, with their settings and the rounds that are told of; the last is the number that are run."""
AROUND = 10
"""Rounds of whose seconds the median is told."""


class Rounds(inprocess.Silent):
    """Notes when each round ended, and after some of them what lies in a folder."""

    def __init__(self, place: Path, told: list[int]) -> None:
        self._place, self._told = place, told
        self._before = time.perf_counter(), time.process_time()
        self.spent: list[tuple[float, float]] = []
        self.found: dict[int, dict[str, float]] = {}

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        """Note the end of a round."""
        if stage.name != "close_round":
            return
        now = time.perf_counter(), time.process_time()
        self.spent.append((now[0] - self._before[0], now[1] - self._before[1]))
        if round in self._told:
            wall, cpu = (statistics.median(each) for each in zip(*self.spent[-AROUND:], strict=True))
            self.found[round] = {"bytes": bytes_below(self._place), "seconds": wall, "cpu_seconds": cpu}
            console.print(f"[dim]round {round}: {self.found[round]}[/]")
        self._before = time.perf_counter(), time.process_time()


def bytes_below(place: Path) -> int:
    """The bytes of a folder's blocks, a file with several names once."""
    files = {about.st_ino: about.st_blocks * 512 for about in (path.lstat() for path in place.rglob("*"))}
    return sum(files.values())


def measured(recipe: Recipe[Any], given: dict[str, Any], told: list[int]) -> dict[int, dict[str, float]]:
    """A loop's bytes and seconds a round, after each of the rounds that are told of."""
    known = {name: value for name, value in given.items() if name in recipe.settings.model_fields}
    settings = recipe.resolve(known, {"rounds": told[-1]})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        heard = Rounds(place, told)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        with lineage.tracked_run("run", settings.overrides(), place / "note", place / "mlflow"):
            inprocess.run(recipe, settings, place / "run", heard)
    return heard.found


def main() -> None:
    """Run, measure, publish."""
    small, loops = wants_small(__doc__), {}
    for name, (recipe, given, told) in LOOPS.items():
        loops[name] = measured(recipe, given, [2, 5] if small else told)
        rows = [
            (f"{round:,}", f"{each['bytes'] / 1e6:,.0f}", f"{each['seconds']:.2f}", f"{each['cpu_seconds']:.2f}")
            for round, each in loops[name].items()
        ]
        show(f"A long loop: {name}", ["rounds", "MB", "seconds a round", "of the processor"], rows)
    publish("long_loop", small, {"loops": loops})


if __name__ == "__main__":
    main()
