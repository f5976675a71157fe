"""Runs in KFP: begun once, watched, ended."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import (
    RunServiceApi,
    V2beta1PipelineVersionReference,
    V2beta1Run,
    V2beta1RuntimeConfig,
)

from selfloop.cluster.connection import PASSING, Connection, RefusedError
from selfloop.cluster.uploads import Package, Task, named, plan
from selfloop.errors import UserError

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
URGENT = ("FAILED", "RUNNING", "CANCELING", "PENDING", "PAUSED", "CANCELED", "SUCCEEDED", "SKIPPED")
"""States, by what they tell of a stage that several pods share."""
SERVICE_ACCOUNT = "selfloop"
"""Stages run as this one of the namespace."""
LOOK_S = 5.0
PATIENCE = 40
"""So many looks in vain until a watcher gives up; each has tried for half a minute."""


@dataclass(frozen=True)
class Step:
    """A stage of a run: its state as KFP names it, empty where it has not begun, and its time."""

    task: Task
    key: str
    state: str = ""
    began: datetime | None = None
    ended: datetime | None = None

    def seconds(self, now: datetime) -> float | None:
        """How long it has been at work."""
        if self.began is None or self.state == "PENDING":
            return None
        return max(((self.ended or now) - self.began).total_seconds(), 0.0)


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    run_id: str
    name: str
    state: str
    began: datetime | None
    finished: datetime | None
    steps: tuple[Step, ...]
    trouble: str = ""
    """Why this may be old."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def failed(self) -> Step | None:
        """The stage that failed first."""
        failed = [step for step in self.steps if step.state == "FAILED"]
        return min(failed, key=lambda step: step.ended or datetime.max.replace(tzinfo=UTC), default=None)


def parameters(package: Package, seed: int | None = None, origin: str | None = None) -> dict[str, Any]:
    """What fills the pipeline's form for one run; the rest stays as it was compiled."""
    given = {name: value for name, value in {"seed": seed, "origin": origin}.items() if value is not None}
    for name in given:
        if name not in package.form:
            raise UserError(f"The form of recipe '{package.recipe}' has no '{name}': leave it out.")
    return given


def submit(
    connection: Connection,
    package: Package,
    version: V2beta1PipelineVersionReference,
    experiment_id: str,
    values: Mapping[str, Any],
) -> str:
    """Begin a run; its id. Where it is open whether KFP began it, it is looked for before another is begun."""
    runs = RunServiceApi(connection.client)
    mark = f"Submitted by selfloop {uuid.uuid4()}"
    name = f"{package.recipe} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    wanted = V2beta1Run(
        display_name=name,
        description=mark,
        experiment_id=experiment_id,
        pipeline_version_reference=version,
        runtime_config=V2beta1RuntimeConfig(parameters=dict(values)),
        service_account=SERVICE_ACCOUNT,
    )

    def find() -> Any:
        same = named("EQUALS", "display_name", name)
        found = connection.listed(runs.run_service_list_runs, "runs", experiment_id=experiment_id, filter=same)
        return next((run for run in found if run.description == mark), None)

    return str(connection.create(lambda: runs.run_service_create_run(wanted), find).run_id)


def find_run(connection: Connection, run_id: str) -> Any:
    """A run by its id."""
    try:
        return connection.call(RunServiceApi(connection.client).run_service_get_run, run_id)
    except RefusedError as error:
        if error.status != 404:
            raise
        sentence = f"There is no run {run_id} at {connection.endpoint} (any more): give the id that 'submit' printed."
        raise RefusedError(sentence, 404) from None


def has_ended(connection: Connection, run_id: str) -> bool:
    """Whether a run will do no more; one that was deleted will not."""
    try:
        return find_run(connection, run_id).state in ENDED
    except RefusedError as error:
        if error.status != 404:
            raise
        return True


def cancel(connection: Connection, run_id: str) -> None:
    """End a run that is at work."""
    state = find_run(connection, run_id).state
    if state in ENDED:
        raise UserError(f"Run {run_id} has ended ({state.lower()}): there is nothing to cancel.")
    connection.call(RunServiceApi(connection.client).run_service_terminate_run, run_id)


def look(connection: Connection, run_id: str, tasks: Mapping[str, Task]) -> Progress:
    """How far a run is now."""
    run = find_run(connection, run_id)
    details = (run.run_details.task_details if run.run_details else None) or []
    return Progress(
        run_id,
        run.display_name,
        run.state or "PENDING",
        _moment(run.created_at),
        _moment(run.finished_at),
        tuple(steps(tasks, details)),
    )


def plan_of(connection: Connection, run_id: str) -> dict[str, Task]:
    """The tasks of a run's pipeline."""
    reference = find_run(connection, run_id).pipeline_version_reference
    return plan(connection, reference) if reference else {}


def steps(tasks: Mapping[str, Task], details: Iterable[Any]) -> list[Step]:
    """A step for each task, with what KFP tells of it under the task's name or under that of its driver.

    KFP names what it tells of by the key of the task in the pipeline, not by the name that its UI shows.
    """
    told: dict[str, list[Any]] = {}
    for detail in details:
        told.setdefault(detail.display_name or "", []).append(detail)
    made = {}
    for key, task in tasks.items():
        step = _step(task, key, told.get(key, []))
        if step.state in ("", "PENDING"):
            driver = _step(task, key, told.get(f"{key}-driver", []))
            begins = driver.state in ("PENDING", "RUNNING", "SUCCEEDED")
            step = replace(driver, state="PENDING" if begins else driver.state)
        made[key] = step
    return list(made.values())


def _step(task: Task, key: str, details: list[Any]) -> Step:
    states = {detail.state for detail in details}
    state = next((state for state in URGENT if state in states), "")
    began = [moment for detail in details if (moment := _moment(detail.start_time))]
    ended = [moment for detail in details if (moment := _moment(detail.end_time))]
    is_over = state in ENDED and bool(ended)
    return Step(task, key, state, min(began, default=None), max(ended) if is_over else None)


def _moment(told: datetime | None) -> datetime | None:
    """A time, where it is one: KFP tells what has not happened as the year 1 or 1970."""
    return told if told is not None and told.year > 2000 else None


def watch(connection: Connection, run_id: str, show: Callable[[Progress], None]) -> Progress:
    """Show how far a run is until it has ended; a connection that drops is made again."""
    tasks = plan_of(connection, run_id)
    progress = look(connection, run_id, tasks)
    show(progress)
    in_vain = 0
    while not progress.has_ended:
        time.sleep(LOOK_S)
        try:
            progress, in_vain = look(connection, run_id, tasks), 0
        except RefusedError as error:
            in_vain += 1
            if error.status not in (0, *PASSING) or in_vain > PATIENCE:
                raise _lost(error, run_id) from None
            progress = replace(progress, trouble=str(error))
        show(progress)
    return progress


def _lost(error: RefusedError, run_id: str) -> RefusedError:
    if error.status != 404:
        return error
    return RefusedError(f"Run {run_id} vanished while it was watched: somebody deleted it in KFP.", 404)
