"""A run in MLflow, with a nested run a round.

A round joins the run that ``MLFLOW_RUN_ID`` names: opened by the CLI, by whoever started the CLI, by the first task of
a pipeline, or by KFP's MLflow plugin, which gives a run of KFP a run and each task a nested one. All calls can be
repeated: a stage that was killed and runs again finds what it had written.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from time import time
from typing import TYPE_CHECKING, Any, cast

from selfloop import __version__
from selfloop.addresses import check_private
from selfloop.artifacts import known
from selfloop.costs import Costs
from selfloop.decision import deciding_look
from selfloop.errors import UserError
from selfloop.reaching import answers, within

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunTag

log = logging.getLogger(__name__)
EXPERIMENT = "selfloop"
OURS = "selfloop.run"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
LEVELS = "accuracy_by_level.json"
"""The artifact of a run that holds a table: the accuracy of champion and candidate by round and level."""
PARAMS, PARAM_CHARACTERS = 100, 6000
"""What MLflow takes at a time, and of each."""
KFP_RUN = "selfloop.kfp.run_id"
THIS_RUN = "SELFLOOP_KFP_RUN"
"""The variable that tells the pods of a run of KFP its id."""
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
SQLITE = "sqlite:///"
DATABASES = ("postgresql", "mysql", "mssql")


def is_on() -> bool:
    """Whether there is a tracking server or file to write to."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def address() -> str:
    """That of the server, or the file's."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def is_there() -> bool:
    """Whether MLflow's file is there; a server is taken to be."""
    file = _file()
    return file is None or file.is_file()


def client() -> MlflowClient:
    """MLflow at ``address()``, whatever ``mlflow.set_tracking_uri`` named: no telemetry, no log of migrations."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if not _retries_are_given():
        os.environ.setdefault(RETRIES, "4")  # half a minute: a wrong address is said soon
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = _file()
    with reachable():
        if file is None:
            _check_secrets(address())
            return MlflowClient(address())
        with _alone(file):
            _make(file)
            return cast("MlflowClient", _OneByOne(MlflowClient(address()), file))


def _check_secrets(uri: str) -> None:
    """Refuse a server that would be sent, where others read it, what MLflow finds in the environment or in its file of
    credentials.
    """
    from mlflow.utils.credentials import read_mlflow_creds

    if uri.startswith("http://"):
        found = read_mlflow_creds()
        if os.environ.get("MLFLOW_TRACKING_TOKEN"):
            check_private(uri, "a token")
        elif found.username or found.password:
            check_private(uri, "a password")


@cache
def _retries_are_given() -> bool:
    return RETRIES in os.environ


@contextmanager
def patient() -> Iterator[None]:
    """Bear with a server that is away for some minutes, as when it starts anew, unless it is said otherwise."""
    if _retries_are_given():
        yield
        return
    before = os.environ.get(RETRIES, "4")
    os.environ[RETRIES] = "8"
    try:
        yield
    finally:
        os.environ[RETRIES] = before


def _file() -> Path | None:
    """The file that MLflow is; none where it is a server."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").partition("?")[0]
    named = uri.startswith(SQLITE) and not uri.endswith(":memory:")
    return Path(uri.removeprefix(SQLITE)).absolute() if named else None


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process at a time use a file: SQLite refuses whoever writes second, and two would make its tables."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_name(f"{file.name}.lock").open("w")
    except OSError as error:
        raise UserError(
            f"MLflow's file {file} cannot be used ({error.strerror}): give another --tracking-uri."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(file: Path) -> None:
    """Make MLflow's tables where there is no file, beside it: killed meanwhile, it is not there.

    MLflow's own experiment, whose runs a loop may be told to join, would keep its artifacts in the current folder.
    """
    if file.exists() and file.stat().st_size:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = file.with_name(f"{file.name}.partial")
    for left in (partial, partial.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    SqlAlchemyStore(f"{SQLITE}{partial}", str(_artifacts_beside(file))).engine.dispose()
    os.replace(partial, file)


def _artifacts_beside(file: Path) -> Path:
    """Where the artifacts of runs lie that are in a file."""
    return file.with_name("mlflow-artifacts")


class _OneByOne:
    """MLflow in a file, a call at a time of all the processes that use it."""

    def __init__(self, client: MlflowClient, file: Path) -> None:
        self._client, self._file = client, file

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._client, name)

        def call(*words: Any, **named: Any) -> Any:
            with _alone(self._file):
                return asked(*words, **named)

        return call if callable(asked) else asked


@contextmanager
def reachable() -> Iterator[None]:
    """Say in one sentence what MLflow, its database or the lack of a driver for it complains of."""
    try:
        yield
    except complaints() as error:
        raise _unusable(os.environ.get("MLFLOW_TRACKING_URI", ""), error) from None


def _unusable(uri: str, error: Exception) -> UserError:
    said = without_password(str(error)).strip().split("\n")[0][:300]
    return UserError(
        f"MLflow at {without_password(uri)} cannot be used ({said}): mend it, or give another --tracking-uri."
    )


def complaints(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of MLflow and of its database, and others.

    A process that speaks to a server has no database: SQLAlchemy is loaded only where MLflow opened one, and the images
    lack it.
    """
    from mlflow.exceptions import MlflowException

    database = sys.modules.get("sqlalchemy.exc")
    return (*others, MlflowException, ImportError, *([database.SQLAlchemyError] if database else []))


def without_password(text: str) -> str:
    """Text whose addresses name no user and no password."""
    return re.sub(r"//[^/\s]*@", "//", text)


def check_answers(uri: str) -> None:
    """Refuse, in seconds, a server or a database that does not answer: MLflow itself would try for minutes."""
    try:
        if uri.startswith(("http://", "https://")):
            from requests.utils import get_environ_proxies

            if not get_environ_proxies(uri):  # a proxy may reach what this machine does not
                answers(uri)
        elif uri.startswith(DATABASES):
            within(partial(_open_database, uri))
    except complaints(OSError, ValueError) as error:
        raise _unusable(uri, error) from None


def _open_database(uri: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def check_place(tracking_uri: str, store: str | None) -> None:
    """Refuse, before anything starts, a store that is none, that cannot be reached or that MLflow's server refuses."""
    from selfloop.lineage import record
    from selfloop.store import open_store

    place = store or record.store_uri()
    if tracking_uri.startswith(("http://", "https://")) and not place.startswith("s3://"):
        raise UserError(
            f"MLflow's server takes no version whose files lie in a folder ({place}): set --store to s3://bucket/prefix."
        )
    check_answers(tracking_uri)
    with open_store(place) as opened:
        opened.check()


@contextmanager
def tracked_run(name: str, settings: Mapping[str, Any], note: Path, artifacts: Path) -> Iterator[str]:
    """Open the run that the rounds join, or continue with the one whose id is in the file ``note``. Yields its id."""
    made, given = client(), os.environ.get("MLFLOW_RUN_ID")
    with reachable():
        run_id = _open_run(made, name, settings, note, given)
    os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        with patient():
            yield run_id
    except BaseException as error:
        with suppress(Exception):  # what went wrong first is what counts
            if isinstance(error, UserError):
                made.set_tag(run_id, NOTE, str(error))
            made.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        if run_id != given:
            with patient(), reachable():
                made.set_terminated(run_id)
    finally:
        if given is None:
            del os.environ["MLFLOW_RUN_ID"]
        else:
            os.environ["MLFLOW_RUN_ID"] = given


def _open_run(made: MlflowClient, name: str, settings: Mapping[str, Any], note: Path, given: str | None) -> str:
    if note.exists():
        return _noted_run(made, note)
    run_id = _described(made, name, settings, given)
    partial = note.with_name(f"{note.name}.partial")
    partial.write_text(run_id)
    os.replace(partial, note)
    return run_id


def _described(made: MlflowClient, name: str, settings: Mapping[str, Any], given: str | None) -> str:
    """A run that tells its settings: the given one, or a new one."""
    from mlflow.entities import Param, RunTag

    run_id = given or str(made.create_run(_experiment(made), run_name=name).info.run_id)
    params = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in _flat(settings).items()]
    made.log_batch(run_id, params=params[:PARAMS], tags=[RunTag(OURS, name), RunTag("selfloop.version", __version__)])
    for first in range(PARAMS, len(params), PARAMS):
        made.log_batch(run_id, params=params[first : first + PARAMS])
    return run_id


def begun_as(kfp_run: str) -> tuple[str, int] | None:
    """The origin and the first round of a run of KFP that has begun before: what its first task decides, it decides
    once, also where KFP runs it again.
    """
    made = client()
    with reachable():
        found = _of_kfp(made, kfp_run)
    params = found.data.params if found else {}
    return (params["origin"], int(params["first"])) if {"origin", "first"} <= params.keys() else None


def kill(kfp_run: str) -> bool:
    """End the run of a run of KFP as killed. Returns whether there is one."""
    made = client()
    with reachable():
        found = _of_kfp(made, kfp_run)
        if found is not None:
            made.set_terminated(found.info.run_id, "KILLED")
    return found is not None


def _of_kfp(made: MlflowClient, kfp_run: str) -> Run | None:
    """The run that was opened for a run of KFP, or that its plugin opened in an experiment of its own."""
    places = [each.experiment_id for each in made.search_experiments()]
    return next(iter(made.search_runs(places, f"tags.`{KFP_RUN}` = '{kfp_run}'", max_results=1)), None)


def opened_run(name: str, settings: Mapping[str, Any], kfp_run: str, parent: str | None = None) -> str:
    """The run that the rounds of a pipeline join, and its id: the one that MLflow was given; the ``parent`` that KFP's
    own plugin opened, where this MLflow has it; or the one that was opened for this run of KFP, now or before.
    """
    made, given = client(), os.environ.get("MLFLOW_RUN_ID")
    with reachable():
        if given:
            return given
        if parent and _has_run(made, parent):
            made.set_tag(parent, KFP_RUN, kfp_run)
            return _described(made, name, settings, parent)
        known = _of_kfp(made, kfp_run)
        if known:
            return str(known.info.run_id)
        tags = {KFP_RUN: kfp_run}
        run_id = str(made.create_run(_experiment(made), run_name=name, tags=tags).info.run_id)
        _described(made, name, settings, run_id)
        made.set_terminated(run_id)  # no later task is sure to come; metrics are taken all the same
    return run_id


def join_run(run_id: str, before: str, by: str) -> None:
    """Let a run of KFP write to a run of MLflow, as the one that continues the run ``before``.

    Raises ``UserError`` where another run of KFP does so already.
    """
    made = client()
    with reachable():
        now = made.get_run(run_id).data.tags.get(KFP_RUN, before)
        if now not in (before, by):
            raise UserError(f"Run {before} is continued by run {now} already: begin another run from NAME@champion.")
        made.set_tag(run_id, KFP_RUN, by)


def _has_run(made: MlflowClient, run_id: str) -> bool:
    """Whether MLflow has a run, which is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(made.get_run(run_id).info.lifecycle_stage != "deleted")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _noted_run(made: MlflowClient, note: Path) -> str:
    """Open the run again that a note names."""
    remedy = f"remove {note} to continue in a new run of MLflow"
    run_id = note.read_text().strip()
    if not run_id:
        raise UserError(f"{note} names no run of MLflow, it is empty: {remedy}.")
    if not _has_run(made, run_id):
        raise UserError(
            f"MLflow has no run {run_id} (any more), which {note} names: give the --tracking-uri that this run began "
            f"with, or {remedy}."
        )
    made.update_run(run_id, status="RUNNING")
    return run_id


def _experiment(made: MlflowClient) -> str:
    """The experiment, which a run beside this one may make first; its artifacts lie beside MLflow's file, and where a
    server says, if there is one.
    """
    from mlflow.exceptions import MlflowException

    if (known := made.get_experiment_by_name(EXPERIMENT)) is None:
        file = _file()
        try:
            return str(made.create_experiment(EXPERIMENT, str(_artifacts_beside(file)) if file else None))
        except MlflowException:
            if (known := made.get_experiment_by_name(EXPERIMENT)) is None:
                raise
    return str(known.experiment_id)


def finish(run_id: str, report: Path, measured: Mapping[str, Any]) -> None:
    """Add the report, where there is one, and the last measurements to a run."""
    made = client()
    with reachable():
        if report.exists():
            made.log_artifact(run_id, str(report), "report")
        for name, value in known(measured).items():
            if isinstance(value, int | float):
                made.log_metric(run_id, name, value)


def whole_run(made: MlflowClient) -> Run | None:
    """The run that all rounds of this loop share; none where MLflow was given none."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    run = made.get_run(run_id)
    parent = run.data.tags.get(PARENT)  # of a run that KFP gave its task; ours may be nested in anything
    return made.get_run(parent) if parent and OURS not in run.data.tags else run


def kfp_run(run: Run | None) -> str:
    """The id of the KFP run that this process is of, as ``resolve`` told it, or as KFP's plugin notes it in the tags of
    the run that it opens; empty where neither did.
    """
    tags = run.data.tags if run is not None else {}
    return os.environ.get(THIS_RUN) or next(
        (value for name, value in tags.items() if "kfp" in name and "run_id" in name), ""
    )


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


def forget(made: MlflowClient, run_id: str) -> None:
    """Delete the run that a round logged into, unless it was given."""
    if run_id != os.environ.get("MLFLOW_RUN_ID"):
        made.delete_run(run_id)


def log_round(
    made: MlflowClient,
    run_id: str,
    round: int,
    decision: Mapping[str, Any],
    params: Mapping[str, Any],
    costs: Costs = Costs(),
) -> None:
    """Log what the gate measured: pass@k and gain by suite, the guards' readings; and what the round's stages spent."""
    from mlflow.entities import Metric, Param

    now = int(time() * 1000)
    values = {name: value for name, value in measured(decision).items() if ".level_" not in name or "audit" in name}
    made.log_batch(
        run_id,
        [Metric(name, value, now, round) for name, value in (values | costs.of_round()).items()],
        [Param(key, str(value)[:500]) for key, value in _flat(params).items()],
        _said(decision),
    )


def log_standing(
    made: MlflowClient,
    run_id: str,
    round: int,
    decision: Mapping[str, Any],
    in_force: int,
    costs: Costs = Costs(),
    rounds: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Log on the run that all rounds share where the loop stands after one of them: what MLflow's first page shows.

    ``rounds`` are those of the history: their accuracy by level is one table.
    """
    from mlflow.entities import Metric, RunTag

    parent = os.environ.get("MLFLOW_RUN_ID")
    if not parent or parent == run_id:
        return
    now = int(time() * 1000)
    levels = decision.get("accuracy", {}).get("candidate" if decision["promoted"] else "champion", {})
    look = deciding_look(decision)
    values = {
        **({"accuracy": fmean(levels.values())} if levels else {}),
        **({"gain": look["gain"]} if look else {}),
        "promoted": float(decision["promoted"]),
        "champion_version": float(in_force),
        **costs.of_loop(),
    }
    note = f"Round {round}: {decision.get('verdict', '')}. {decision['reason']}."
    if costs.over:
        note += f" The budget ended the loop: {costs.over}"
    tags = [*_said(decision), RunTag(NOTE, note)] + ([RunTag("selfloop.ended", costs.over)] if costs.over else [])
    if rounds:
        tags.append(RunTag("mlflow.loggedArtifacts", json.dumps([{"path": LEVELS, "type": "table"}])))
    made.log_batch(parent, [Metric(name, value, now, round) for name, value in values.items()], tags=tags)
    if rounds:
        _log_levels(made, parent, rounds)
    made.set_terminated(run_id)


def _log_levels(made: MlflowClient, run_id: str, rounds: Sequence[Mapping[str, Any]]) -> None:
    """The accuracy by level of these rounds, as a table."""
    rows = [
        [round["round"], int(level), policy, value]
        for round in rounds
        for policy, levels in round["accuracy"].items()
        for level, value in levels.items()
    ]
    try:
        made.log_dict(run_id, {"columns": ["round", "level", "policy", "accuracy"], "data": rows}, LEVELS)
    except Exception as error:  # its artifacts may lie anywhere, behind a library that this image lacks
        why = without_password(str(error)).strip().split("\n")[0][:200]
        log.warning("The table of accuracy by level is not in MLflow (%s): the report has it.", why)


def _said(decision: Mapping[str, Any]) -> list[RunTag]:
    """The gate's verdict and its reason, as tags."""
    from mlflow.entities import RunTag

    return [
        RunTag("selfloop.verdict", decision.get("verdict", "")),
        RunTag("selfloop.reason", decision["reason"][:4000]),
    ]


def measured(decision: Mapping[str, Any]) -> dict[str, float]:
    """What the gate measured, under the names that MLflow and the KFP run page show."""
    values = {
        f"accuracy.{policy}.level_{int(level):03}": value
        for policy, levels in decision.get("accuracy", {}).items()
        for level, value in levels.items()
    }
    for suite, seen in decision.get("suites", {}).items():
        values[f"{suite}.gain"] = seen["gain"]
        for policy in ("champion", "candidate"):
            values |= {f"{suite}.{policy}.{name.replace('@', '_at_')}": value for name, value in seen[policy].items()}
    values |= {f"guard.{name}": alarm["value"] for name, alarm in decision.get("guards", {}).items()}
    return dict(known(values | _audited(decision.get("audit", {}))))


def _audited(audit: Mapping[str, Any]) -> dict[str, float]:
    """What the label audit measured: of all rollouts, ``audit.precision``, and by difficulty, ``audit.level_3.ece``."""
    measured = {"audit": audit} | {f"audit.{each['name'].replace(' ', '_')}": each for each in audit.get("strata", ())}
    return {
        f"{prefix}.{name}": values[name]
        for prefix, values in measured.items()
        for name in ("precision", "recall", "ece", "brier")
        if name in values
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
