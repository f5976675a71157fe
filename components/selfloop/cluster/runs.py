"""Runs in KFP: begun once, watched, ended."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from kfp_server_api import (
    RunServiceApi,
    V2beta1PipelineVersionReference,
    V2beta1Run,
    V2beta1RuntimeConfig,
)

from selfloop.cluster.connection import PASSING, Connection, RefusedError
from selfloop.cluster.uploads import Package, Planned, Task, named, plan
from selfloop.errors import UserError
from selfloop.settings import run_of

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
URGENT = ("FAILED", "RUNNING", "CANCELING", "PENDING", "PAUSED", "CANCELED", "SUCCEEDED", "SKIPPED")
"""States, by what they tell of a stage that several pods share."""
LOOK_S = 5.0
PATIENCE = 40
"""So many looks in vain until a watcher gives up; each has tried some times itself."""
PART = re.compile(r"(?s)(.*) · part (\d+)")
"""The name of a run that continues another."""


@dataclass(frozen=True)
class StageStatus:
    """A stage of a run: its state as KFP names it, empty where it has not begun, and its time."""

    planned: Planned
    state: str = ""
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def task(self) -> Task:
        """Its round and its stage."""
        return self.planned.task

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
    statuses: tuple[StageStatus, ...]
    trouble: str = ""
    """Why this may be old."""
    is_whole: bool = True
    """Whether all is known that was done: KFP tells no more of the tasks of a run that has become large."""
    before: int = 0
    """Rounds of the loop that were done in the runs before this one, which counts its own from 1."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def failed(self) -> StageStatus | None:
        """The stage that failed first."""
        failed = [status for status in self.statuses if status.state == "FAILED"]
        return min(failed, key=lambda status: status.ended or datetime.max.replace(tzinfo=UTC), default=None)


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
        service_account=package.service_account,
    )

    def find() -> Any:
        same = named("display_name", name)
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


def has_ended(connection: Connection, run_id: str, is_at_work: Callable[[str], bool] = lambda run_id: False) -> bool:
    """Whether a run will do no more; one that KFP does not know (any more) will not unless it ``is_at_work``.

    Raises ``RefusedError`` where that cannot be known, such as at an address that is no API of KFP.
    """
    connection.recognize()
    try:
        return find_run(connection, run_id).state in ENDED
    except RefusedError as error:
        if error.status != 404:
            raise
        return not is_at_work(run_id)


def was_cancelled(run: Any) -> bool:
    """Whether somebody cancelled a run, which KFP tells as failed once it has ended."""
    return {"CANCELING", "CANCELED"} & {run.state, *(past.state for past in run.state_history or [])} != set()


def cancel(connection: Connection, run_id: str) -> None:
    """Begin to end a run that is at work, unless somebody did."""
    run = find_run(connection, run_id)
    if run.state in ENDED and state_of(run) != "CANCELED":
        raise UserError(f"Run {run_id} has ended ({run.state.lower()}): there is nothing to cancel.")
    if run.state not in ENDED:
        connection.call(RunServiceApi(connection.client).run_service_terminate_run, run_id)


class Witness(Protocol):
    """What else is known of a run than KFP tells."""

    def complete(self, told: Progress) -> Progress:
        """What KFP told, and what it did not."""
        ...


def is_over(connection: Connection, run_id: str) -> bool:
    """Wait for the end of a run that is being cancelled; whether it came."""
    for _ in range(PATIENCE):
        if find_run(connection, run_id).state in ENDED:
            return True
        time.sleep(LOOK_S)
    return False


def look(connection: Connection, run_id: str, tasks: Sequence[Planned], witness: Witness | None = None) -> Progress:
    """How far a run is now."""
    run = find_run(connection, run_id)
    details = (run.run_details.task_details if run.run_details else None) or []
    began, finished = _moment(run.created_at), _moment(run.finished_at)
    statuses = tuple(statuses_of(tasks, details))
    # what is told of a run that has ended was told at its end, unless something is still said to be at work
    is_whole = bool(details) and all(detail.state in (*ENDED, None) for detail in details)
    told = Progress(
        run_id,
        run.display_name,
        state_of(run),
        began,
        finished,
        statuses,
        is_whole=is_whole,
        before=rounds_before(run, tasks),
    )
    seen = witness.complete(told) if witness else told
    return replace(seen, statuses=tuple(_inferred(seen)))


def continues(run: Any) -> str:
    """The id of the run that this one continues; empty where it began by itself."""
    given = (run.runtime_config and run.runtime_config.parameters) or {}
    return run_of(str(given.get("origin", "")))


def rounds_before(run: Any, tasks: Iterable[Planned]) -> int:
    """How many rounds of a loop were done before this run of it: all that the runs before it hold, since they are of
    the same version, and a run is continued when its last round has ended well.
    """
    part = PART.fullmatch(run.display_name or "")
    if part is None or not continues(run):
        return 0
    return (int(part[2]) - 1) * max((each.task.round for each in tasks), default=0)


def state_of(run: Any) -> str:
    """The state of a run; KFP calls one that was cancelled failed in the end."""
    ended_badly = run.state in ENDED and run.state != "SUCCEEDED"
    return "CANCELED" if ended_badly and was_cancelled(run) else run.state or "PENDING"


def _inferred(seen: Progress) -> Iterable[StageStatus]:
    """The statuses, with what follows from them: a round begins when the one before has ended well, and of a run that
    has ended nothing is at work.
    """
    reached = max((each.task.round for each in seen.statuses if each.state not in ("", "SKIPPED")), default=-2)
    over = reached + (seen.state == "SUCCEEDED")
    well = ("SUCCEEDED", "SKIPPED", *(["FAILED"] if seen.state == "FAILED" else []))
    for each in seen.statuses:
        if each.task.round < over and each.state not in well:
            yield replace(each, state="SUCCEEDED", began=None, ended=None)
        elif seen.has_ended and each.state not in ENDED:  # what was not needed has no state of its own
            yield replace(each, state="SKIPPED" if seen.is_whole else "", began=None)
        elif seen.state == "CANCELED" and each.state == "FAILED":
            yield replace(each, state="CANCELED")
        else:
            yield each


def plan_of(connection: Connection, run_id: str) -> list[Planned]:
    """The tasks of a run's pipeline; none where it was deleted, or is no version."""
    reference = find_run(connection, run_id).pipeline_version_reference
    if not reference or not reference.pipeline_version_id:
        return []
    try:
        return plan(connection, reference)
    except RefusedError as error:
        if error.status != 404:
            raise
        return []


def statuses_of(tasks: Sequence[Planned], details: Iterable[Any]) -> list[StageStatus]:
    """The status of each task: what KFP says of it, or of its driver as long as that is all there is.

    KFP tells of tasks by their names in the pipeline, which are equal in every round, and does not tell of which round
    they are. Rounds come one after another: what began first is of the first.
    """
    found = TaskDetails(tasks, details)
    return [_with_driver(_status(each, found.of(each)), found.of(each, "-driver")) for each in tasks]


class TaskDetails:
    """What KFP tells of tasks, given out to those that bear the same name in turn."""

    def __init__(self, tasks: Sequence[Planned], details: Iterable[Any]) -> None:
        self._last = {each.key: each for each in tasks}
        self._left: dict[str, list[Any]] = {}
        for detail in sorted(details, key=lambda detail: str(_moment(detail.start_time) or "never")):
            self._left.setdefault(detail.display_name or "", []).append(detail)

    def of(self, planned: Planned, suffix: str = "") -> list[Any]:
        """What is of this task: as much as it has pods; what is left is of the last."""
        labelled = self._left.get(planned.task.title + suffix)
        if labelled:  # by the name that the UI shows, which is of one round
            return labelled
        left = self._left.get(planned.key + suffix, [])
        count = len(left) if self._last[planned.key] is planned else planned.pods
        taken, left[:count] = left[:count], []
        return taken


def _status(planned: Planned, details: list[Any]) -> StageStatus:
    states = {detail.state for detail in details}
    state = next((state for state in URGENT if state in states), "")
    began = [moment for detail in details if (moment := _moment(detail.start_time))]
    ended = [moment for detail in details if (moment := _moment(detail.end_time))]
    is_over = state in ENDED and bool(ended)
    return StageStatus(planned, state, min(began, default=None), max(ended) if is_over else None)


def _with_driver(status: StageStatus, details: list[Any]) -> StageStatus:
    """The status, or, where only its driver has begun, what that tells."""
    if status.state not in ("", "PENDING"):
        return status
    driver = _status(status.planned, details)
    return replace(driver, state="PENDING") if driver.state in ("RUNNING", "SUCCEEDED") else driver


def _moment(given: datetime | None) -> datetime | None:
    """A time, where it is one: KFP tells what has not happened as the year 1 or 1970."""
    return given if given is not None and given.year > 2000 else None


def watch(
    connection: Connection, run_id: str, show: Callable[[Progress], None], witness: Witness | None = None
) -> Progress:
    """Show how far a run is until it has ended; a connection that drops is made again."""
    tasks = plan_of(connection, run_id)
    progress = look(connection, run_id, tasks, witness)
    show(progress)
    in_vain = 0
    while not progress.has_ended:
        time.sleep(LOOK_S)
        try:
            progress, in_vain = look(connection, run_id, tasks, witness), 0
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
