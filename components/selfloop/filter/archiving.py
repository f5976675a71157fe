"""``extend_archive``: what of a round's variations the archive keeps."""

from __future__ import annotations

import json
from typing import NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.archive import Archive, Entry
from selfloop.records import Rollout, Task, Verdict, rows
from selfloop.stages import Params, stage


class ExtendParams(Params):
    """What an archive takes in."""

    inherits = frozenset({"round"})

    least: float = Field(0.0, ge=0, le=1, description="A variation must score more than this.")
    capacity: int = Field(5000, ge=1, description="Entries at most; from then on no more are taken in.")
    round: int = Field(0, ge=0, description="The round, noted in each entry.")


class ExtendedArchive(NamedTuple):
    """The archive with the round's variations."""

    archive: Artifact


@stage()
def extend_archive(
    out: ExtendedArchive, params: ExtendParams, archive: Artifact, tasks: Dataset, rollouts: Dataset, verdicts: Dataset
) -> None:
    """Add the variations that score and are new to an archive; every one stays, the best and the stepping stones."""
    kept = Archive.of(archive)
    parents = {task.id: json.loads(task.metadata)["parent"] for task in rows(tasks.path, Task)}
    known, entries = {(entry.level, entry.text) for entry in kept.entries}, list(kept.entries)
    for rollout, verdict in zip(rows(rollouts.path, Rollout), rows(verdicts.path, Verdict), strict=True):
        place = (rollout.level, rollout.completion)
        if verdict.score <= params.least or place in known or len(entries) >= params.capacity:
            continue
        known.add(place)
        about = {"level": rollout.level, "score": verdict.score, "round": params.round}
        entries.append(Entry(text=rollout.completion, parent=parents[rollout.task], **about))
    Archive(entries=tuple(entries)).write(out.archive)
