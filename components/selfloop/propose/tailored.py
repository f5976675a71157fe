"""``tailor_tasks``: new tasks of the kinds that a policy failed at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from kfp.dsl import Dataset
from pydantic import Field

from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.records import Rollout, Task, Verdict, beside, read, rows, writing
from selfloop.seeds import STREAM, seed_for
from selfloop.split import draw_training
from selfloop.stages import Params, stage


class TailorParams(Params):
    """How many new tasks there are, and of which kinds."""

    inherits = frozenset({"environment", "seed", "round"})

    environment: str = Field("addition", description="The taskset to draw from.")
    number: int = Field(1000, ge=1, description="New tasks, in all.")
    by: Literal["failures", "evenly"] = Field(
        "failures", description="Of each level as many as its share of the failures, or as many as of the others."
    )
    seed: int = Field(0, ge=0, description="Seed of the tasks.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; each has tasks of its own.")


class TailoredTasks(NamedTuple):
    """The new tasks."""

    tailored: Dataset


@stage()
def tailor_tasks(
    out: TailoredTasks, params: TailorParams, tasks: Dataset, rollouts: Dataset, verdicts: Dataset
) -> None:
    """Draw new tasks to learn from, most of the levels whose attempts failed most."""
    environment = find_environment(params.environment)
    levels = sorted({task.level for task in rows(tasks.path, Task)})
    failed = Counter[int]()
    for attempts, judged in beside(read(rollouts.path, Rollout, ["level"]), read(verdicts.path, Verdict, ["ok"])):
        found = zip(attempts["level"].to_pylist(), judged["ok"].to_pylist(), strict=True)
        failed.update(level for level, ok in found if not ok)
    weights = {level: failed[level] for level in levels}
    if params.by == "evenly" or not failed:
        weights = dict.fromkeys(levels, 1)
    with writing(out.tailored.path, Task) as table:
        for level, number in allotted(weights, params.number).items():
            drawn = draw_training(environment, level, number, seed_for(params, "tailored", params.round, level))
            table.write([task._replace(suite="train") for task in drawn])
    out.tailored.metadata.update(failed={str(level): failed[level] for level in levels})


def allotted(weights: Mapping[int, int], number: int) -> dict[int, int]:
    """A number parted by weights, whole parts of which none is a whole one from its share; of equal remainders the
    lower level has more. Raises ``UserError`` where nothing weighs anything.
    """
    whole = sum(weights.values())
    if not whole:
        raise UserError("There is no task to tailor others to: draw tasks of some level.")
    parts = {level: number * weight // whole for level, weight in weights.items()}
    left = sorted(weights, key=lambda level: (-(number * weights[level] % whole), level))
    for level in left[: number - sum(parts.values())]:
        parts[level] += 1
    return parts
