"""Kills: the command ``selfloop run``, killed with -9 at random moments, over and over, and run again until it ends.

Each trial is a loop of two rounds without a model, in MLflow on a file of its own, which in one of eight is yet to be
made. Counted are the runs that did not end well when they were run again (stuck), those without a champion, and those
whose artifacts or whose versions and moves in the registry differ from those of a run that nobody killed.

Target: none of all three.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import console, publish
from selfloop.lineage import tracking

forked: Any = importlib.import_module("tests.forked")
digests: Any = importlib.import_module("tests.conftest").digests
COMMAND = (*forked.CLI, "run", "tests.claims.coins:recipe", "--output", "run")
DATABASE = "mlflow.db"
TABLES = {
    "versions": "SELECT name, version, count(*) FROM model_versions GROUP BY name, version",
    "moves": "SELECT name, version, key, value FROM model_version_tags WHERE key IN "
    "('selfloop.version', 'selfloop.base', 'selfloop.kind') AND name LIKE '%.moves'",
    "aliases": "SELECT name, alias, version FROM registered_model_aliases",
}
NEW = 1 / 8
"""The share of trials in which MLflow's file is yet to be made."""


def surroundings() -> dict[str, str]:
    """The environment of a run: no registry and no store but those of its own."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "SELFLOOP_STORE")
    return {name: value for name, value in os.environ.items() if name not in names}


def migrated(place: Path) -> Path:
    """A folder with a file of MLflow in which nothing is."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / DATABASE}"
    tracking.client()
    del os.environ["MLFLOW_TRACKING_URI"]
    return place


def left(place: Path) -> dict[str, Any]:
    """What a run left: its artifacts by digest, and what the registry holds."""
    with sqlite3.connect(place / DATABASE) as found:
        tables = {name: sorted(found.execute(query).fetchall()) for name, query in TABLES.items()}
    return {"digests": digests(place / "run"), **tables}


def killed(place: Path, after_s: float) -> bool:
    """Whether a run was killed after so many seconds: it had not ended."""
    process = forked.Forked(*COMMAND, cwd=place, env=surroundings())
    try:
        process.communicate(after_s)
    except subprocess.TimeoutExpired:
        process.communicate()
        return True
    return False


def trial(place: Path, chance: random.Random, whole_s: float, expected: dict[str, Any]) -> tuple[int, str]:
    """How many kills a run bore, and what was wrong with it in the end."""
    kills = sum(killed(place, chance.uniform(0, whole_s)) for _ in range(chance.choice((1, 1, 2, 3))))
    ended = forked.run(*COMMAND, cwd=place, env=surroundings())
    if ended.returncode:
        return kills, f"stuck: {ended.stderr.strip()[-300:]}"
    found = left(place)
    if not any(alias == "champion" for _, alias, _ in found["aliases"]):
        return kills, "without a champion"
    return kills, next((f"other {name}" for name in expected if found[name] != expected[name]), "")


def main() -> None:
    """Kill, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few kills, to try the benchmark out")
    parser.add_argument("--kills", type=int, default=300, help="Kills in all.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    asked = parser.parse_args()
    wanted, chance = 5 if asked.small else asked.kills, random.Random(asked.seed)
    kills, trials, wrong = 0, 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        ready, calm = migrated(Path(folder, "ready")), Path(folder, "calm")
        shutil.copytree(ready, calm)
        began = time.perf_counter()
        assert forked.run(*COMMAND, cwd=calm, env=surroundings()).returncode == 0
        whole_s, expected = time.perf_counter() - began, left(calm)
        while kills < wanted:
            place = Path(folder, str(trials))
            place.mkdir() if chance.random() < NEW else shutil.copytree(ready, place)
            bore, said = trial(place, chance, whole_s, expected)
            kills, trials = kills + bore, trials + 1
            if said:
                wrong[said] += 1
                console.print(f"trial {trials}: {said}")
            shutil.rmtree(place)
            console.print(f"[dim]{kills} kills, {trials} runs, {sum(wrong.values())} wrong[/]")
    publish("kills", asked.small, {"kills": kills, "runs": trials, "wrong": dict(wrong), "seconds": whole_s})


if __name__ == "__main__":
    main()
