"""What MLflow remembers: a run, a nested run a round, a registered version for each candidate, the alias ``champion``.

Tracking is on where ``MLFLOW_TRACKING_URI`` is set. A round joins the run that ``MLFLOW_RUN_ID`` names, be it opened by
the CLI or injected by KFP's MLflow plugin. All calls can be repeated: a stage that was killed and runs again finds what
it had written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop import __version__
from selfloop.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from selfloop.artifacts import Manifest

CHAMPION = "champion"
EXPERIMENT = "selfloop"


class Candidate(NamedTuple):
    """A policy on its way into the registry. ``uri`` is where its artifact lies, ``parent`` the digest it came from."""

    uri: str
    manifest: Manifest
    parent: str


def is_on() -> bool:
    """Whether there is a tracking server or file to write to."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def _client() -> MlflowClient:
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):  # the migrations of a new sqlite file fill the terminal
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient()


@contextmanager
def tracked_run(name: str, settings: Mapping[str, Any], note: Path, artifacts: Path) -> Iterator[str]:
    """Open the run that the rounds join, or go on with the one whose id is in the file ``note``. Yields its id."""
    from mlflow.exceptions import MlflowException

    client = _client()
    try:
        run_id = _open_run(client, name, settings, note, artifacts)
    except MlflowException as error:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        raise UserError(
            f"MLflow at {uri} cannot be used ({error}): mend it, or give another --tracking-uri."
        ) from error
    before = os.environ.get("MLFLOW_RUN_ID")
    os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        yield run_id
    except BaseException as error:
        with suppress(Exception):  # what went wrong first is what counts
            client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        client.set_terminated(run_id)
    finally:
        if before is None:
            del os.environ["MLFLOW_RUN_ID"]
        else:
            os.environ["MLFLOW_RUN_ID"] = before


def _open_run(client: MlflowClient, name: str, settings: Mapping[str, Any], note: Path, artifacts: Path) -> str:
    from mlflow.entities import Param

    if note.exists():
        run_id = note.read_text().strip()
        client.update_run(run_id, status="RUNNING")
        return run_id
    run_id = client.create_run(_experiment(client, artifacts), run_name=name, tags=_tags()).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in _flat(settings).items()])
    note.write_text(run_id)
    return str(run_id)


def _experiment(client: MlflowClient, artifacts: Path | None = None) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    if known:
        return str(known.experiment_id)
    return str(client.create_experiment(EXPERIMENT, str(artifacts.resolve()) if artifacts else None))


def finish(run_id: str, report: Path, measured: Mapping[str, Any]) -> None:
    """Add the report, where there is one, and the last measurements to a run."""
    client = _client()
    if report.exists():
        client.log_artifact(run_id, str(report), "report")
    for name, value in measured.items():
        if isinstance(value, int | float):
            client.log_metric(run_id, name, value)


def record_round(
    model: str,
    round: int,
    candidate: Candidate,
    champion: Candidate,
    decision: Mapping[str, Any],
    accuracy: Mapping[str, Mapping[int, float]],
    data: Mapping[str, str],
) -> None:
    """Log a round and register its candidate; where it was promoted, move the alias ``champion`` to it.

    ``accuracy`` is by policy and level, ``data`` maps names of tables to digests.
    """
    from mlflow.entities import Param

    client = _client()
    run_id = _round_run(client, round)
    force = "candidate" if decision["promoted"] else "champion"
    _log_metrics(client, run_id, round, decision, accuracy, force)
    for name, digest in data.items():
        client.set_tag(run_id, f"selfloop.data.{name}", digest)
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in candidate.manifest.params.items()])

    known = _register(client, model, champion, run_id, {})
    made = _register(
        client,
        model,
        candidate,
        run_id,
        {
            "selfloop.round": str(round),
            "selfloop.parent": known,
            "selfloop.promoted": str(decision["promoted"]).lower(),
            "selfloop.reason": decision["reason"],
            **{f"selfloop.data.{name}": digest for name, digest in data.items()},
        },
    )
    client.set_registered_model_alias(model, CHAMPION, made if decision["promoted"] else known)


def _round_run(client: MlflowClient, round: int) -> str:
    parent = os.environ.get("MLFLOW_RUN_ID")
    tags = _tags() | {"selfloop.round": str(round)}
    if not parent:
        return str(client.create_run(_experiment(client), run_name=f"round {round}", tags=tags).info.run_id)
    experiment_id = client.get_run(parent).info.experiment_id
    query = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.`selfloop.round` = '{round}'"
    known = client.search_runs([experiment_id], query, max_results=1)
    if known:
        return str(known[0].info.run_id)
    tags["mlflow.parentRunId"] = parent
    return str(client.create_run(experiment_id, run_name=f"round {round}", tags=tags).info.run_id)


def _log_metrics(
    client: MlflowClient,
    run_id: str,
    round: int,
    decision: Mapping[str, Any],
    accuracy: Mapping[str, Mapping[int, float]],
    force: str,
) -> None:
    from time import time

    from mlflow.entities import Metric

    now = int(time() * 1000)
    metrics = [
        Metric(f"accuracy.{policy}.level_{level:03}", value, now, round)
        for policy, levels in accuracy.items()
        for level, value in levels.items()
    ]
    metrics += [
        Metric(f"{suite}.{policy}", value, now, round)
        for suite in ("target", "old")
        for policy, value in decision[suite].items()
    ]
    client.log_batch(run_id, metrics)
    client.set_terminated(run_id)
    parent = os.environ.get("MLFLOW_RUN_ID")
    if parent:
        in_force = [Metric(f"accuracy.level_{level:03}", v, now, round) for level, v in accuracy[force].items()]
        in_force.append(Metric("promoted", float(decision["promoted"]), now, round))
        client.log_batch(parent, in_force)


def _register(client: MlflowClient, model: str, policy: Candidate, run_id: str, tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    digest = policy.manifest.digest
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    parent = os.environ.get("MLFLOW_RUN_ID", run_id)
    known = client.search_model_versions(f"name = '{model}' AND tags.`selfloop.key` = '{parent}:{digest}'")
    if known:
        return str(known[0].version)
    about = {
        "selfloop.key": f"{parent}:{digest}",
        "selfloop.digest": digest,
        "selfloop.parent_digest": policy.parent,
        "selfloop.stage": policy.manifest.stage,
        "selfloop.code": policy.manifest.code,
        "selfloop.version": __version__,
    }
    version = client.create_model_version(model, source=policy.uri, run_id=run_id, tags=about | dict(tags))
    return str(version.version)


def _tags() -> dict[str, str]:
    return {"selfloop.version": __version__}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
