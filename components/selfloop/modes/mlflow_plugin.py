"""KFP's own MLflow plugin (2.17), which gives a run of a pipeline a run in MLflow and each of its tasks a nested one.

It tells a task's pod of them by variables with values. A pod that has one of these by reference is invalid, so the pods
of loops bear other names for what MLflow reads, and take MLflow's own where a stage begins. Which MLflow a loop writes
to, and as whom, is what selfloop's own configuration says; the run that the plugin opened there is joined.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

INJECTED = (
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_WORKSPACE",
)
"""The variables that the plugin may put into a pod."""
OWN = {name: name.replace("MLFLOW", "SELFLOOP", 1) for name in INJECTED}
"""What the pods of loops call them: ``SELFLOOP_TRACKING_URI`` is ``MLFLOW_TRACKING_URI`` in the stage."""
CONFIG = "KFP_MLFLOW_CONFIG"
"""What the plugin tells KFP's launcher, as JSON; with ``injectUserEnvVars`` or without."""


def variables(keys: Iterable[str]) -> dict[str, str]:
    """The variables of a pod for keys of a config map or a secret."""
    return {key: OWN.get(key, key) for key in keys}


def take_own() -> None:
    """In the pod of a loop, let MLflow be what the loop is told, and nothing of it what the plugin says.

    The task's own run is none of the loop's: a round has one, whichever tasks it is made of.
    """
    if OWN["MLFLOW_TRACKING_URI"] not in os.environ:
        return
    for name, own in OWN.items():
        if own in os.environ:
            os.environ[name] = os.environ[own]
        else:
            os.environ.pop(name, None)


def parent_run() -> str | None:
    """The id of the run in MLflow that the plugin opened for this run of KFP; none where there is no plugin."""
    return json.loads(os.environ.get(CONFIG, "{}")).get("parentRunId") or None
