"""Where a training leaves its checkpoints, and which of them is whole: what a killed training continues from.

A checkpoint is the library's own (weights as safetensors; optimizer and random states in torch's format, which is read
with ``weights_only=True``). It counts once it is marked, which happens last. The place is found again by the content of
what is trained, and goes when the stage ends well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from selfloop.artifacts import manifest_of, read_json, write_json
from selfloop.identity import work_key
from selfloop.stages import Params

MARK = "whole.json"


def scratch(output: str | Path, stage: str, params: Params, inputs: Mapping[str, str]) -> Path:
    """The place for the checkpoints of one training: in ``SELFLOOP_SCRATCH`` where that is set, else beside the output.

    ``inputs`` are sealed artifacts. Folders in ``.partial`` are left, since they are emptied before a stage runs again.
    """
    key = work_key(params, {name: manifest_of(path).digest for name, path in inputs.items()}, stage=stage)
    beside = Path(output).resolve().parent
    while beside.suffix == ".partial":
        beside = beside.parent
    return Path(os.environ.get("SELFLOOP_SCRATCH", beside)) / f".training-{key}"


def mark(checkpoint: Path, so_far: Mapping[str, float]) -> None:
    """Say that a checkpoint is whole, and what the training had come to."""
    write_json(checkpoint, dict(so_far), MARK)


def latest(place: Path) -> tuple[Path, dict[str, float]] | None:
    """The last whole checkpoint and what the training had come to; none where there is none."""
    whole = [made.parent for made in place.glob(f"checkpoint-*/{MARK}")]
    if not whole:
        return None
    last = max(whole, key=step_of)
    return last, read_json(last, MARK)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
