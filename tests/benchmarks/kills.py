"""Kills: the command ``selfloop run``, killed with -9 at random moments, over and over, and run again until it ends.

Each trial is a loop of two rounds without a model, in MLflow on a file of its own, which in one of eight is yet to be
made. Counted are the runs that did not end well when they were run again (stuck), those without a champion, and those
whose artifacts or whose versions and moves in the registry differ from those of a run that nobody killed. How long such
a run takes, which bounds the moments, is measured anew now and then. Ctrl-C ends the measurement early.

Target: none of all three.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from measuring import console, publish
from selfloop.lineage import tracking

loops: Any = importlib.import_module("tests.killed")
NEW = 1 / 8
"""The share of trials in which MLflow's file is yet to be made."""
CALM_EVERY = 20
"""After how many trials a run that nobody kills is measured: the machine may have become slower."""


def migrated(place: Path) -> Path:
    """A file of MLflow in which nothing is."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / loops.DATABASE}"
    tracking.client()
    del os.environ["MLFLOW_TRACKING_URI"]
    return place / str(loops.DATABASE)


def tally(wanted: int, chance: random.Random, folder: Path) -> dict[str, Any]:
    """Kill until there are so many kills: these, the runs, how many were wrong and how, and seconds of calm runs."""
    ready, kills, wrong, seconds = migrated(folder), 0, Counter[str](), list[float]()
    trials = 0
    with suppress(KeyboardInterrupt):
        while kills < wanted:
            if trials % CALM_EVERY == 0:
                last_s, expected = loops.calm(loops.copied(ready, folder / f"calm-{trials}"))
                seconds.append(last_s)
            place = folder / str(trials)
            place.mkdir() if chance.random() < NEW else loops.copied(ready, place)
            moments_s = [chance.uniform(0, last_s) for _ in range(chance.randint(1, 4))]
            bore, said = loops.trial(place, moments_s, expected)
            kills, trials = kills + bore, trials + 1
            wrong.update([said] if said else [])
            shutil.rmtree(place)
            console.print(f"[dim]{kills} kills, {trials} runs, {wrong.total()} wrong[/] {said}")
    return {"kills": kills, "runs": trials, "wrong": dict(wrong), "seconds_of_calm_runs": seconds}


def main() -> None:
    """Kill, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few kills, to try the benchmark out")
    parser.add_argument("--kills", type=int, default=300, help="Kills in all.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = tally(5 if asked.small else asked.kills, random.Random(asked.seed), Path(folder))
    publish("kills", asked.small, found)


if __name__ == "__main__":
    main()
