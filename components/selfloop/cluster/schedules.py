"""Loops that run again and again: KFP's recurring runs, each begun from the loop's champion."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cronsim import CronSim, CronSimError
from kfp_server_api import (
    PipelineServiceApi,
    RecurringRunServiceApi,
    RunServiceApi,
    V2beta1CronSchedule,
    V2beta1PeriodicSchedule,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from selfloop.cluster.connection import Connection, RefusedError
from selfloop.cluster.runs import state_of
from selfloop.cluster.uploads import Package, named
from selfloop.errors import UserError
from selfloop.lookup import unknown

CHAMPION = "champion"
"""Where scheduled runs begin: the champion of the loop if there is one, otherwise the start."""
MARK = "Scheduled by selfloop"
UNITS_S = {"m": 60, "h": 3600, "d": 86400}
FOREIGN = re.compile(r"(?<![A-Z])L|#|W(?!ED)")
"""What crons know that KFP's does not."""


@dataclass(frozen=True)
class Schedule:
    """A recurring run, and what came of it last."""

    id: str
    name: str
    recipe: str
    when: str
    is_on: bool
    next: datetime | None
    last: datetime | None
    last_state: str


def trigger(cron: str | None, every: str | None) -> V2beta1Trigger:
    """When to run, as KFP takes it."""
    if (cron is None) == (every is None):
        raise UserError("A schedule needs either --cron, such as '0 2 * * *', or --every, such as 6h.")
    if cron is not None:
        return V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=in_six_fields(cron)))
    return V2beta1Trigger(periodic_schedule=V2beta1PeriodicSchedule(interval_second=str(seconds(every or ""))))


def in_six_fields(cron: str) -> str:
    """A cron expression as KFP takes it: with a field for seconds before the usual five."""
    fields = cron.upper().split()
    if len(fields) == 5:
        fields.insert(0, "0")
    try:
        whole = " ".join(fields)
        next(CronSim(whole, datetime.now(UTC)))
        if FOREIGN.search(whole):
            raise CronSimError("KFP knows no L, W and #")
        if re.search(r"(?<![/\d])7", fields[5]):
            raise CronSimError("KFP's Sunday is 0, not 7")
    except StopIteration:
        raise UserError(f"--cron '{cron}' names no moment that ever comes: give another.") from None
    except CronSimError as error:
        raise UserError(
            f"--cron '{cron}' cannot be read ({error}): give five fields, such as '0 2 * * *' for each night at two."
        ) from None
    return whole


def seconds(every: str) -> int:
    """An interval such as ``30m``, ``6h`` or ``1d``."""
    found = re.fullmatch(r"(\d+)\s*([mhd])", every.strip())
    if not found or int(found[1]) == 0:
        raise UserError(f"--every '{every}' is no interval: give a number with m, h or d behind it, such as 6h.")
    return int(found[1]) * UNITS_S[found[2]]


def schedule(
    connection: Connection,
    name: str,
    package: Package,
    version: V2beta1PipelineVersionReference,
    experiment_id: str,
    when: V2beta1Trigger,
    values: Mapping[str, Any],
) -> str:
    """Let a version run again and again, one at a time and without making up for what was missed; its id."""
    api = RecurringRunServiceApi(connection.client)
    if any(_recurring(connection, name)):
        raise UserError(
            f"There is a schedule '{name}' already: give another --name, or end that one with "
            f"'selfloop unschedule {name}'."
        )
    mark = f"{MARK} {uuid.uuid4()}"
    wanted = V2beta1RecurringRun(
        display_name=name,
        description=mark,
        experiment_id=experiment_id,
        pipeline_version_reference=version,
        runtime_config=V2beta1RuntimeConfig(parameters=dict(values)),
        service_account=package.service_account,
        trigger=when,
        mode="ENABLE",
        max_concurrency="1",
        no_catchup=True,
    )

    def find() -> Any:
        return next((one for one in _recurring(connection, name) if one.description == mark), None)

    made = connection.create(lambda: api.recurring_run_service_create_recurring_run(wanted), find)
    return str(made.recurring_run_id)


def schedules(connection: Connection) -> list[Schedule]:
    """What selfloop has scheduled in the namespace."""
    mine = [one for one in _recurring(connection) if (one.description or "").startswith(MARK)]
    return [_schedule(connection, one) for one in mine]


def unschedule(connection: Connection, name: str) -> None:
    """End a schedule; its runs stay."""
    api = RecurringRunServiceApi(connection.client)
    try:
        connection.call(api.recurring_run_service_delete_recurring_run, find_schedule(connection, name))
    except RefusedError as error:
        if error.status != 404:  # gone is what was wanted
            raise


def pause(connection: Connection, name: str) -> None:
    """Let no more runs begin until it is resumed."""
    api = RecurringRunServiceApi(connection.client)
    connection.call(api.recurring_run_service_disable_recurring_run, find_schedule(connection, name))


def resume(connection: Connection, name: str) -> None:
    """Let runs begin again."""
    api = RecurringRunServiceApi(connection.client)
    connection.call(api.recurring_run_service_enable_recurring_run, find_schedule(connection, name))


def find_schedule(connection: Connection, name: str) -> str:
    """The id of the schedule of this name, or of this id."""
    mine = [one for one in _recurring(connection) if (one.description or "").startswith(MARK)]
    ids = [str(one.recurring_run_id) for one in mine if name in (one.display_name, one.recurring_run_id)]
    if len(ids) > 1:
        raise UserError(f"There are {len(ids)} schedules named '{name}': give one of the ids {', '.join(ids)} instead.")
    if not ids and not mine:
        raise UserError(
            f"There is no schedule '{name}', nor any other, in '{connection.namespace}': correct --namespace."
        )
    if not ids:
        raise unknown("schedule", name, {str(one.display_name) for one in mine})
    return ids[0]


def _recurring(connection: Connection, name: str | None = None) -> Iterator[Any]:
    """The recurring runs of the namespace; those of one name where it is given."""
    wanted = {} if name is None else {"filter": named("display_name", name)}
    return connection.listed(
        RecurringRunServiceApi(connection.client).recurring_run_service_list_recurring_runs,
        "recurring_runs",
        **wanted,
        **connection.scope,
    )


def _schedule(connection: Connection, one: Any) -> Schedule:
    last = _last_run(connection, one)
    at = last.scheduled_at or last.created_at if last else None
    is_on = one.status == "ENABLED"
    return Schedule(
        one.recurring_run_id,
        one.display_name,
        _recipe(connection, one.pipeline_version_reference),
        _when(one.trigger),
        is_on,
        _next(one.trigger, at or one.created_at) if is_on else None,
        at,
        state_of(last) if last else "",
    )


def _last_run(connection: Connection, one: Any) -> Any:
    page = connection.call(
        RunServiceApi(connection.client).run_service_list_runs,
        experiment_id=one.experiment_id,
        page_size=1,
        sort_by="created_at desc",
        filter=named("recurring_run_id", one.recurring_run_id),
    )
    return next(iter(page.runs or []), None)


def _recipe(connection: Connection, reference: Any) -> str:
    try:
        pipeline = connection.call(
            PipelineServiceApi(connection.client).pipeline_service_get_pipeline, reference.pipeline_id
        )
    except RefusedError as error:
        if error.status != 404:
            raise
        return "(deleted)"
    return str(pipeline.display_name or pipeline.name)


def _when(when: Any) -> str:
    if when.cron_schedule:
        return str(when.cron_schedule.cron).removeprefix("0 ")
    left = int(when.periodic_schedule.interval_second)
    unit = next((unit for unit, size in reversed(UNITS_S.items()) if left % size == 0), None)
    return f"every {left // UNITS_S[unit]}{unit}" if unit else f"every {left}s"


def _next(when: Any, last: datetime) -> datetime | None:
    """When KFP begins the next run, by the clock of UTC, which is KFP's own unless its admin set another."""
    now = datetime.now(UTC)
    if when.cron_schedule:
        try:
            return next(CronSim(when.cron_schedule.cron, now))
        except (CronSimError, StopIteration):  # somebody else's, in words that only KFP knows
            return None
    return max(last + timedelta(seconds=int(when.periodic_schedule.interval_second)), now)
