"""A run in MLflow, with a nested run a round.

A round joins the run that ``MLFLOW_RUN_ID`` names: opened by the CLI, by whoever started the CLI, or by KFP's MLflow
plugin, which gives each task a nested run of its own. All calls can be repeated: a stage that was killed and runs again
finds what it had written.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from selfloop import __version__
from selfloop.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "selfloop"
OURS = "selfloop.run"
PARENT = "mlflow.parentRunId"


def is_on() -> bool:
    """Whether there is a tracking server or file to write to."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def client() -> MlflowClient:
    """MLflow, without its telemetry and the log of its migrations."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with reachable():
        return MlflowClient()


@contextmanager
def reachable() -> Iterator[None]:
    """Say in one sentence what MLflow complains of."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        uri = re.sub(r"//[^/@]*@", "//", os.environ.get("MLFLOW_TRACKING_URI", ""))  # no password in a message
        said = re.sub(r"//[^/@\s]*@", "//", str(error)).strip().split("\n")[0][:300]
        raise UserError(f"MLflow at {uri} cannot be used ({said}): mend it, or give another --tracking-uri.") from error


@contextmanager
def tracked_run(name: str, settings: Mapping[str, Any], note: Path, artifacts: Path) -> Iterator[str]:
    """Open the run that the rounds join, or go on with the one whose id is in the file ``note``. Yields its id."""
    made, given = client(), os.environ.get("MLFLOW_RUN_ID")
    with reachable():
        run_id = _open_run(made, name, settings, note, artifacts, given)
    os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        yield run_id
    except BaseException as error:
        with suppress(Exception):  # what went wrong first is what counts
            made.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        if run_id != given:
            made.set_terminated(run_id)
    finally:
        if given is None:
            del os.environ["MLFLOW_RUN_ID"]
        else:
            os.environ["MLFLOW_RUN_ID"] = given


def _open_run(
    made: MlflowClient, name: str, settings: Mapping[str, Any], note: Path, artifacts: Path, given: str | None
) -> str:
    from mlflow.entities import Param

    if note.exists():
        run_id = note.read_text().strip()
        made.update_run(run_id, status="RUNNING")
        return run_id
    run_id = given or made.create_run(_experiment(made, artifacts), run_name=name).info.run_id
    made.log_batch(run_id, params=[Param(key, str(value)) for key, value in _flat(settings).items()])
    for key, value in {OURS: name, "selfloop.version": __version__}.items():
        made.set_tag(run_id, key, value)
    note.write_text(run_id)
    return str(run_id)


def _experiment(made: MlflowClient, artifacts: Path | None = None) -> str:
    known = made.get_experiment_by_name(EXPERIMENT)
    if known:
        return str(known.experiment_id)
    return str(made.create_experiment(EXPERIMENT, str(artifacts.resolve()) if artifacts else None))


def finish(run_id: str, report: Path, measured: Mapping[str, Any]) -> None:
    """Add the report, where there is one, and the last measurements to a run."""
    made = client()
    if report.exists():
        made.log_artifact(run_id, str(report), "report")
    for name, value in measured.items():
        if isinstance(value, int | float):
            made.log_metric(run_id, name, value)


def whole_run(made: MlflowClient) -> Run | None:
    """The run that all rounds of this loop share; none where MLflow was given none."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    run = made.get_run(run_id)
    parent = run.data.tags.get(PARENT)
    return made.get_run(parent) if parent else run


def kfp_run(run: Run | None) -> str:
    """The id of the KFP run, as KFP's plugin notes it in the tags of the run that it opens; empty where it did not."""
    tags = run.data.tags if run is not None else {}
    return next((value for name, value in tags.items() if "kfp" in name and "run_id" in name), "")


def round_run(made: MlflowClient, round: int) -> str:
    """The run that a round logs into: nested in the run that the CLI opened, or the one that KFP gave its task."""
    given = os.environ.get("MLFLOW_RUN_ID")
    tags = {"selfloop.version": __version__, "selfloop.round": str(round)}
    if not given:
        return str(made.create_run(_experiment(made), run_name=f"round {round}", tags=tags).info.run_id)
    run = made.get_run(given)
    if OURS not in run.data.tags:
        return given
    query = f"tags.`{PARENT}` = '{given}' AND tags.`selfloop.round` = '{round}'"
    known = made.search_runs([run.info.experiment_id], query, max_results=1)
    if known:
        return str(known[0].info.run_id)
    nested = tags | {PARENT: given}
    return str(made.create_run(run.info.experiment_id, run_name=f"round {round}", tags=nested).info.run_id)


def log_round(
    made: MlflowClient, run_id: str, round: int, decision: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    """Log what the gate measured: pass@k and gain by suite, accuracy by level, the guards' readings."""
    from mlflow.entities import Metric, Param

    now = int(time() * 1000)
    accuracy = decision.get("accuracy", {})
    values = {
        f"accuracy.{policy}.level_{int(level):03}": value
        for policy, levels in accuracy.items()
        for level, value in levels.items()
    }
    for suite, seen in decision.get("suites", {}).items():
        values[f"{suite}.gain"] = seen["gain"]
        for policy in ("champion", "candidate"):
            values |= {f"{suite}.{policy}.{name.replace('@', '_at_')}": value for name, value in seen[policy].items()}
    for name, alarm in decision.get("guards", {}).items():
        if alarm["value"] is not None:
            values[f"guard.{name}"] = alarm["value"]
    made.log_batch(
        run_id,
        [Metric(name, value, now, round) for name, value in values.items()],
        [Param(key, str(value)[:500]) for key, value in _flat(params).items()],
    )
    made.set_tag(run_id, "selfloop.verdict", decision.get("verdict", ""))
    made.set_tag(run_id, "selfloop.reason", decision["reason"][:4000])
    parent = os.environ.get("MLFLOW_RUN_ID")
    if parent and parent != run_id:
        force = "candidate" if decision["promoted"] else "champion"
        in_force = [Metric(f"accuracy.level_{int(k):03}", v, now, round) for k, v in accuracy.get(force, {}).items()]
        made.log_batch(parent, [*in_force, Metric("promoted", float(decision["promoted"]), now, round)])
        made.set_terminated(run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
