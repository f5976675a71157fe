"""Where a person's files go: runs, the registry beside them, and what is written elsewhere."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfloop.addresses import check_address
from selfloop.errors import UserError, disk_is_full
from selfloop.store import CREDENTIALS

RUNS = Path("runs")
ROOM = 2**16
"""Bytes that a disk must have room for where something is to be written."""
TRACKING = "MLFLOW_TRACKING_URI"
STORE = "SELFLOOP_STORE"


def near(path: Path) -> Path:
    """A path as seen from here, where it lies below."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def check_output(place: Path, is_folder: bool = False) -> None:
    """Refuse, before anything is done, a place where what is made could not be written."""
    try:
        if place.exists() and place.is_dir() != is_folder:
            there, wanted = ("file", "folder") if is_folder else ("folder", "file")
            raise UserError(f"{place} is a {there}: give a {wanted} to write to.")
        above = place if place.is_dir() else place.absolute().parent
        nearest = next(each for each in (above, *above.parents) if each.exists())
        with tempfile.TemporaryFile(dir=nearest) as tried:
            tried.write(bytes(ROOM))
        if place.is_file():
            place.open("ab").close()
    except OSError as error:
        why = "the disk is full" if disk_is_full(error) else error.strerror
        raise UserError(f"{place} cannot be written ({why}): give another place for the output.") from None


def use_registry(tracking_uri: str | None, store: str | None, runs: Path) -> None:
    """Let this process, and those that it starts, use these; where none is given, a file and a folder in ``runs``."""
    given = tracking_uri or f"sqlite:///{runs.resolve()}/mlflow.db"
    if given.startswith(("http://", "https://")):
        check_address(given, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    # SQLAlchemy takes psycopg 3 where no driver is named
    os.environ[TRACKING] = re.sub("^postgresql://", "postgresql+psycopg2://", given)
    if store:
        os.environ[STORE] = check_address(store, CREDENTIALS)


@contextmanager
def registry(tracking_uri: str | None, store: str | None, runs: Path) -> Iterator[str]:
    """The same for a block, where the environment's are taken before those in ``runs``. Yields MLflow's address."""
    before = {name: os.environ.get(name) for name in (TRACKING, STORE)}
    try:
        use_registry(tracking_uri or before[TRACKING], store or before[STORE], runs)
        yield os.environ[TRACKING]
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
