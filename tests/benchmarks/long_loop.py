"""A long loop: what its rounds take on the disk, and how long they take, early and late.

A tiny loop runs in process for 1,000 rounds, in MLflow on a new sqlite file, with its store beside it. Counted are the
bytes of all that it left, a file with several names once, and the seconds from one round's end to the next.

Target: 1,000 rounds in at most 1 GB, and the last rounds take no longer than the first.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import SMALL, console, publish, show, wants_small
from selfloop import lineage
from selfloop.modes import inprocess
from selfloop.recipe import find_recipe
from selfloop.stage import Stage

RECIPE = "expert-iteration"
TINY: dict[str, Any] = {
    **SMALL,
    "gate": {"require": "nothing", "guards": []},
    "draw": {"per_level": 8, "items_per_level": 8},
    "finetune": {"steps": 1},
}
PARTS = 5


class Rounds(inprocess.Silent):
    """Notes when each round ended, and now and then what lies in a folder."""

    def __init__(self, place: Path, every: int) -> None:
        self._place, self._every = place, every
        self.ended: list[float] = [time.perf_counter()]
        self.bytes: dict[int, int] = {}

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        """Note the end of a round."""
        if stage.name != "close_round":
            return
        self.ended.append(time.perf_counter())
        if round % self._every == 0:
            self.bytes[round] = bytes_below(self._place)
            took = self.ended[-1] - self.ended[-1 - self._every]
            console.print(f"round {round}: {self.bytes[round] / 1e6:.0f} MB, {took / self._every:.2f} s a round")


def bytes_below(place: Path) -> int:
    """The bytes of a folder's blocks, a file with several names once."""
    files = {about.st_ino: about.st_blocks * 512 for about in (path.lstat() for path in place.rglob("*"))}
    return sum(files.values())


def main() -> None:
    """Run, measure, publish."""
    small = wants_small(__doc__)
    rounds = 10 if small else 1000
    recipe = find_recipe(RECIPE)
    known = {name: value for name, value in TINY.items() if name in recipe.settings.model_fields}
    settings = recipe.resolve(known, {"rounds": rounds})
    with tempfile.TemporaryDirectory() as folder:
        place, heard = Path(folder), Rounds(Path(folder), rounds // PARTS)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        with lineage.tracked_run("run", settings.overrides(), place / "note", place / "mlflow"):
            inprocess.run(recipe, settings, place / "run", heard)
    spent = [after - before for before, after in zip(heard.ended, heard.ended[1:], strict=False)]
    parts = {round: statistics.median(spent[round - rounds // PARTS : round]) for round in heard.bytes}
    rows = [(f"{round:,}", f"{heard.bytes[round] / 1e6:,.0f}", f"{parts[round]:.2f}") for round in heard.bytes]
    show("A long loop", ["rounds", "MB", "seconds a round"], rows)
    publish("long_loop", small, {"bytes": heard.bytes, "seconds_a_round": parts})


if __name__ == "__main__":
    main()
