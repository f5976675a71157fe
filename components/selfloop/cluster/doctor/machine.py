"""Whether loops can run on this machine itself: what they compute with, what keeps generated code apart, and room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from selfloop.cluster.doctor.findings import Case, Finding, bad, unseen, well
from selfloop.errors import UserError
from selfloop.machine import cores, gpus

ROOM = 2 * 2**30
"""Bytes free below which a run soon ends: a loop of small policies takes some hundred MB, its packages 2 GB."""


def check_machine(case: Case) -> Iterator[Finding]:
    """That loops can run here, in process: in a pod each stage has a machine of its own."""
    if case.is_in_pod:
        return
    yield _torch()
    yield _threads()
    yield _bubblewrap()
    yield _disk(Path.cwd())


def _torch() -> Finding:
    try:
        return well("torch", f"{version('torch')} and transformers {version('transformers')} are installed")
    except PackageNotFoundError as error:
        remedy = "pip install 'selfloop[run]'"
        return unseen("torch", f"{error.name or 'torch'} is not installed: 'selfloop run' does not run here", remedy)


def _threads() -> Finding:
    there, given = cores(), os.environ.get("OMP_NUM_THREADS", "")
    said = f"{there} core{'s' * (there != 1)} and {gpus()} GPUs may be used"
    if given.isdigit() and int(given) > there:
        return bad(
            "threads", f"{said}, and OMP_NUM_THREADS asks for {given} threads", f"set it to {there}, or unset it"
        )
    return well("threads", f"{said}, by {given or 'as many'} threads")


def _bubblewrap() -> Finding:
    from selfloop.sandbox.isolation import probe

    try:
        probe()
    except UserError as error:
        why, _, remedy = str(error).partition(": ")
        return unseen("bubblewrap", why, remedy.rstrip("."))
    return well("bubblewrap", "keeps generated code apart")


def _disk(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    said = f"{free / 2**30:.1f} GiB are free in {place}"
    return well("disk", said) if free >= ROOM else bad("disk", said, "free some space: runs are kept in runs/")
