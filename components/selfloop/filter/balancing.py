"""How warm a round samples: ``temper_tasks`` sets it, ``balance_sampling`` chooses it anew by what came of it.

Some of a round's tasks are tried at other temperatures than the rest, so that no generation of its own is needed to see
what these would bring. B-STaR probes 1,000 queries with each policy before it generates; here the probe is the round's
own, and what it says holds for the next.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import cycle, groupby
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from kfp.dsl import Artifact, Dataset
from pydantic import BaseModel, ConfigDict, Field, model_validator

from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.filter.filter import with_verdicts
from selfloop.filter.selecting import groups, scores
from selfloop.filter.selectors.balance import BalanceScores
from selfloop.records import Task, rows, writing
from selfloop.stages import Params, stage

if TYPE_CHECKING:
    import pyarrow as pa


class SamplingState(BaseModel):
    """The temperature of the next round, and what each that was tried came to: the mean balance score at the best
    threshold of scores, that threshold, and the share of tasks whose best two attempts hold a right one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float
    balance: dict[str, float] = {}
    threshold: dict[str, float] = {}
    best_two: dict[str, float] = {}


class SamplingParams(Params):
    """Where the temperature begins."""

    temperature: float = Field(1.0, gt=0, description="Temperature of the first round.")


class Sampling(NamedTuple):
    """How the next round samples."""

    sampling: Artifact


@stage()
def init_sampling(out: Sampling, params: SamplingParams) -> None:
    """Begin with a temperature of which nothing is known."""
    write_json(out.sampling.path, SamplingState(temperature=params.temperature).model_dump())


class TemperParams(Params):
    """Which temperatures are tried beside the one in force, and on how many tasks."""

    temperatures: list[float] = Field(
        [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2], min_length=1, description="Temperatures to choose from."
    )
    probe_every: int = Field(5, ge=1, description="Of so many tasks, one is tried at a temperature of these, in turn.")

    @model_validator(mode="after")
    def _each_is_one(self) -> Self:
        if any(each <= 0 for each in self.temperatures) or len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures are above 0, and none stands twice: correct the list")
        return self


class TemperedTasks(NamedTuple):
    """The same tasks, each with a temperature."""

    tempered: Dataset


@stage()
def temper_tasks(out: TemperedTasks, params: TemperParams, tasks: Dataset, sampling: Artifact) -> None:
    """Give each task the temperature in force, and some of each level one of those to choose from."""
    state = SamplingState.model_validate(read_json(sampling.path))
    with writing(out.tempered.path, Task) as table:
        for _, of_level in groupby(rows(tasks.path, Task), lambda task: task.level):
            probed = cycle(params.temperatures)
            table.write(
                task._replace(temperature=next(probed) if number % params.probe_every == 0 else state.temperature)
                for number, task in enumerate(of_level)
            )


class BalanceParams(Params):
    """What a temperature is chosen by."""

    by: Literal["balance score", "best two"] = Field(
        "balance score",
        description="A task's balance score, or whether one of its two highest scores is right (Reward-Pass@2).",
    )
    enough: int = Field(8, ge=1, description="Different correct completions of a task that are enough (n*).")


class BalancedSampling(NamedTuple):
    """How the next round samples."""

    next_sampling: Artifact


@stage()
def balance_sampling(
    out: BalancedSampling, params: BalanceParams, tasks: Dataset, rollouts: Dataset, verdicts: Dataset
) -> None:
    """Choose the temperature whose tasks have the highest mean balance score, at the best threshold of each.

    Zeng et al., "B-STaR" (arXiv:2412.17256), whose code, too, takes the first of the best. Or choose the one at which
    the best two of a task's attempts hold a right one most often, as Liu et al. do (arXiv:2412.17451).
    """
    import numpy as np
    import pyarrow as pa

    of_task = {task.id: task.temperature for task in rows(tasks.path, Task) if task.temperature is not None}
    seen: defaultdict[float, BalanceScores] = defaultdict(BalanceScores)
    best: defaultdict[float, list[bool]] = defaultdict(list)
    for batch in with_verdicts(rollouts, verdicts):
        own = np.array([of_task.get(task, np.nan) for task in batch["task"].to_pylist()])
        for temperature in np.unique(own[~np.isnan(own)]).tolist():
            of_temperature = batch.filter(pa.array(own == temperature))
            seen[temperature].add(of_temperature, params.enough)
            best[temperature] += best_hold(of_temperature, 2)
    if not seen:
        raise UserError("No rollout is of a task with a temperature: give balance_sampling those of temper_tasks.")
    found = {temperature: seen[temperature].best for temperature in sorted(seen)}
    top = {temperature: fmean(best[temperature]) for temperature in found}
    by = top if params.by == "best two" else {temperature: each.mean for temperature, each in found.items()}
    state = SamplingState(
        temperature=max(by, key=by.__getitem__),  # of equal ones the lowest
        balance={f"{each:g}": chosen.mean for each, chosen in found.items()},
        threshold={f"{each:g}": chosen.least for each, chosen in found.items()},
        best_two={f"{each:g}": share for each, share in top.items()},
    )
    write_json(out.next_sampling.path, state.model_dump())


def best_hold(batch: pa.RecordBatch, number: int) -> list[bool]:
    """Of each task, whether one of its highest scores is right: so many of them, the first of equal ones."""
    worth, good = scores(batch), batch["good"].to_numpy(zero_copy_only=False)
    return [bool(good[each][(-worth[each]).argsort(kind="stable")[:number]].any()) for each in groups(batch)]
