"""``compare_archives``: the best text of candidate and champion on the same items."""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.archive import Archive
from selfloop.environments import find_environment
from selfloop.records import ItemResult, Task, rows, writing
from selfloop.stages import Params, stage


class CompareParams(Params):
    """Which environment applies a text."""

    inherits = frozenset({"environment"})

    environment: str = Field("sorting-network", description="The taskset that made the items.")


class ComparedArchives(NamedTuple):
    """How the best text of each archive did on each item."""

    results: Dataset


@stage(image="sandbox")
def compare_archives(
    out: ComparedArchives, params: CompareParams, candidate: Artifact, champion: Artifact, eval_items: Dataset
) -> None:
    """Apply the best text of both archives to the same held-out items."""
    environment = find_environment(params.environment)
    items = list(rows(eval_items.path, Task))
    with writing(out.results.path, ItemResult) as table:
        for name, archive in (("champion", Archive.of(champion)), ("candidate", Archive.of(candidate))):
            for item in items:
                best = archive.best(item.level)
                ok = best is not None and environment.applied(best.text, item).ok
                text = best.text if best else ""
                table.write([ItemResult(name, item.suite, item.level, item.id, 0, ok, text, item.seed, item.cluster)])
