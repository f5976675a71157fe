"""The command ``selfloop run``, killed with -9 at given moments, and run again until it ends.

The loop is one of two rounds without a model, in MLflow on a file of its own. What it leaves is compared with what is
left by a run that nobody killed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import forked
from .conftest import digests

COMMAND = (*forked.CLI, "run", "tests.claims.coins:recipe", "--output", "run")
DATABASE = "mlflow.db"
TABLES = {
    "versions": "SELECT name, version, count(*) FROM model_versions GROUP BY name, version",
    "moves": "SELECT name, version, key, value FROM model_version_tags WHERE key IN "
    "('selfloop.version', 'selfloop.base', 'selfloop.kind') AND name LIKE '%.moves'",
    "aliases": "SELECT name, alias, version FROM registered_model_aliases",
}
HOME = Path(__file__).parents[1]


def surroundings() -> dict[str, str]:
    """The environment of a run: this repository's modules, and no registry and no store but those of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "SELFLOOP_"))}
    known["MLFLOW_DISABLE_TELEMETRY"] = "true"
    return known | {"PYTHONPATH": os.pathsep.join([str(HOME), *filter(None, [known.get("PYTHONPATH")])])}


def calm(place: Path) -> tuple[float, dict[str, Any]]:
    """How many seconds a run takes that nobody kills, and what it leaves."""
    forked.run("-c", "")  # the process that forks has to start first
    began = time.perf_counter()
    ended = forked.run(*COMMAND, cwd=place, env=surroundings())
    assert ended.returncode == 0, ended.stderr
    return time.perf_counter() - began, left(place)


def left(place: Path) -> dict[str, Any]:
    """What a run left: its artifacts by digest, and what the registry holds."""
    with sqlite3.connect(place / DATABASE) as found:
        tables = {name: sorted(found.execute(query).fetchall()) for name, query in TABLES.items()}
    return {"digests": digests(place / "run"), **tables}


def is_killed(place: Path, after_s: float) -> bool:
    """Whether a run was killed after so many seconds: it had not ended."""
    process = forked.Forked(*COMMAND, cwd=place, env=surroundings())
    try:
        process.communicate(after_s)
    except subprocess.TimeoutExpired:
        process.communicate()
        return True
    return False


def trial(place: Path, moments_s: Iterable[float], expected: dict[str, Any]) -> tuple[int, str]:
    """How many kills a run bore, each so many seconds after it was begun again, and what was wrong in the end."""
    kills = sum(is_killed(place, after_s) for after_s in moments_s)
    ended = forked.run(*COMMAND, cwd=place, env=surroundings())
    if ended.returncode:
        return kills, f"stuck: {ended.stderr.strip()[-300:]}"
    found = left(place)
    if not any(alias == "champion" for _, alias, _ in found["aliases"]):
        return kills, "without a champion"
    return kills, next((f"other {name}" for name in expected if found[name] != expected[name]), "")


def copied(ready: Path, place: Path) -> Path:
    """A new folder with a copy of a file of MLflow."""
    place.mkdir()
    shutil.copy(ready, place / DATABASE)
    return place
