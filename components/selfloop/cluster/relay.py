"""A loop that is longer than a run of KFP: its runs follow each other, each begun by the one before it.

Which run continues which is told by two facts that KFP keeps: a continuation's name follows from that of the run before
it, and its input ``origin`` names that run. So it is looked for before it is begun, and is begun once.
"""

from __future__ import annotations

from typing import Any

from kfp_server_api import RunServiceApi, V2beta1Run, V2beta1RuntimeConfig

from selfloop.cluster.connection import Connection
from selfloop.cluster.runs import PART, cancel, continues, find_run, was_cancelled
from selfloop.cluster.uploads import named
from selfloop.errors import UserError
from selfloop.settings import RUN


def next_name(name: str) -> str:
    """What the run is called that continues the one of this name."""
    found = PART.fullmatch(name)
    whole, part = (found[1], int(found[2])) if found else (name, 1)
    return f"{whole} · part {part + 1}"


def continuation_of(connection: Connection, run: Any) -> Any:
    """The run that continues this one; none where there is none, or none yet."""
    same = named("display_name", next_name(run.display_name))
    listing = RunServiceApi(connection.client).run_service_list_runs
    found = connection.listed(listing, "runs", experiment_id=run.experiment_id, filter=same, sort_by="created_at")
    return next((each for each in found if continues(each) == run.run_id), None)


def newest_of(connection: Connection, run_id: str) -> Any:
    """The run at which a loop is now: the given one, or the last of those that continue it."""
    run = find_run(connection, run_id)
    while following := continuation_of(connection, run):
        run = following
    return run


def cancel_newest(connection: Connection, run_id: str) -> str:
    """End the run at which a loop is now, also where that was begun only this moment; its id."""
    newest = str(newest_of(connection, run_id).run_id)
    cancel(connection, newest)
    begun = str(newest_of(connection, newest).run_id)
    if begun != newest:
        cancel(connection, begun)
    return begun


def begin_next(connection: Connection, run_id: str, model: str) -> str:
    """Begin the run that continues this one, unless it was begun before: the same version with the same inputs, but for
    where it begins and the name of the loop. Returns its id.

    Raises ``UserError`` where the run was cancelled, or KFP refuses.
    """
    run, runs = find_run(connection, run_id), RunServiceApi(connection.client)
    if was_cancelled(run):
        raise UserError(f"Run {run_id} was cancelled: the loop ends with it.")
    given = run.runtime_config or V2beta1RuntimeConfig()
    wanted = V2beta1Run(
        display_name=next_name(run.display_name),
        description=f"Continues run {run_id}",
        experiment_id=run.experiment_id,
        pipeline_version_reference=run.pipeline_version_reference,
        pipeline_spec=run.pipeline_spec,
        runtime_config=V2beta1RuntimeConfig(
            parameters=(given.parameters or {}) | {"origin": f"{RUN}{run_id}", "model": model},
            pipeline_root=given.pipeline_root,
        ),
        service_account=run.service_account,
        plugins_input=run.plugins_input,
    )

    def find() -> Any:
        return continuation_of(connection, run)

    found = find() or connection.create(lambda: runs.run_service_create_run(wanted), find)
    return str(found.run_id)
