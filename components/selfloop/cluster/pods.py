"""The pods of a run and their logs, read with the user's own kubeconfig.

KFP's API (v2beta1) tells neither the names of pods nor their logs. Argo writes into each pod which task it is of.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from selfloop.cluster.connection import Connection
from selfloop.cluster.uploads import Planned, Task
from selfloop.errors import UserError

RUN_LABEL = "pipeline/runid"
NODE = "workflows.argoproj.io/node-name"
KFP_NAMESPACE = "kubeflow"
"""Where an installation for one user runs its pods."""
CONTAINER = "main"
TIMEOUT_S = 30
HALTED = re.compile(r"HaltedError: (.+)")

T = TypeVar("T")


@dataclass(frozen=True)
class Pod:
    """A pod that works at a stage."""

    name: str
    namespace: str
    task: Task
    phase: str
    began: datetime


def namespaces(connection: Connection) -> tuple[str, ...]:
    """Where the pods of its runs may be."""
    return (connection.namespace,) if connection.scope else (connection.namespace, KFP_NAMESPACE)


def kubernetes() -> CoreV1Api:
    """The cluster that the kubeconfig names, or this pod's own."""
    configuration = Configuration()
    configuration.retries = 2
    try:
        config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except ConfigException:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            raise UserError(
                "There is no kubeconfig, and logs come from Kubernetes: set KUBECONFIG, or look at the run's page in "
                "the KFP UI."
            ) from None
    return CoreV1Api(ApiClient(configuration))


def pods_of(api: CoreV1Api, run_id: str, places: tuple[str, ...], tasks: Sequence[Planned]) -> list[Pod]:
    """The pods that work, or worked, at the stages of a run, the first first."""
    found: list[Pod] = []
    for namespace in places:
        listed = _asked(
            lambda: api.list_namespaced_pod(
                namespace,  # noqa: B023 (called at once)
                label_selector=f"{RUN_LABEL}={run_id}",
                _request_timeout=TIMEOUT_S,
            ),
            namespace,
        )
        for pod in listed.items:
            about = pod.metadata
            task = task_of((about.annotations or {}).get(NODE, ""), tasks)
            if task is not None:
                found.append(Pod(about.name, namespace, task, pod.status.phase, about.creation_timestamp))
        if found:
            break
    return sorted(found, key=lambda pod: pod.began)


def choose(pods: list[Pod], run_id: str, stage: str | None) -> Pod:
    """The last pod of a stage named ``generate``, ``2/generate`` or ``round 2 · generate``; of none, a failed one."""
    if not pods:
        raise UserError(f"Run {run_id} has no pods (any more): look at its page in the KFP UI, which keeps logs.")
    if stage is None:
        return next((pod for pod in reversed(pods) if pod.phase == "Failed"), pods[-1])
    found = re.fullmatch(r"(?:(?:round )?(\d+)(?: · |/))?(.+)", stage)
    number, name = (found[1], found[2]) if found else (None, stage)
    matching = [pod for pod in pods if pod.task.stage == name and number in (None, str(pod.task.round))]
    if not matching:
        known = ", ".join(dict.fromkeys(pod.task.short for pod in pods))
        raise UserError(f"There is no pod of stage '{stage}' in run {run_id}: there are {known}.")
    return matching[-1]


def log(api: CoreV1Api, pod: Pod, follow: bool = False, lines: int | None = None) -> Iterator[str]:
    """What a pod has printed, piece by piece; where it is followed, until it ends."""
    options: dict[str, Any] = {"container": CONTAINER, "follow": follow, "_preload_content": False}
    if lines is not None:
        options["tail_lines"] = lines
    # one who follows waits as long as a stage is silent
    options["_request_timeout"] = (TIMEOUT_S, None if follow else TIMEOUT_S)
    answer = _asked(lambda: api.read_namespaced_pod_log(pod.name, pod.namespace, **options), pod.namespace)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    try:
        for piece in answer.stream(2**14):
            yield decoder.decode(piece)
    except HTTPError:
        raise UserError(f"The connection to pod {pod.name} broke: ask for its log again.") from None


def why_halted(connection: Connection, run_id: str, failed: Task, tasks: Sequence[Planned]) -> str:
    """What a guard said that halted the loop, where the log of the stage that failed can be read and says so."""
    try:
        api = kubernetes()
        pods = [pod for pod in pods_of(api, run_id, namespaces(connection), tasks) if pod.task == failed]
        halts = HALTED.findall("".join(log(api, pods[-1], lines=100))) if pods else []
    except UserError:
        return ""
    return str(halts[-1]).strip() if halts else ""


def task_of(node: str, tasks: Sequence[Planned]) -> Task | None:
    """The task that a pod is of, by its node: ``workflow.root.condition-2.generate-rollouts.executor(0)``."""
    parts = re.sub(r"\([^)]*\)", "", node).split(".")
    places = [each for each in tasks if _passes(each.path, parts)]
    return max(places, key=lambda each: len(each.path)).task if places else None


def _passes(path: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether all of the path is among the parts, in its order."""
    rest = iter(parts)
    return all(name in rest for name in path)


def _asked(ask: Callable[[], T], namespace: str) -> T:
    try:
        return ask()
    except ApiException as error:
        raise UserError(_refusal(error, namespace)) from None
    except HTTPError as error:
        why = type(getattr(error, "reason", error)).__name__
        raise UserError(f"Kubernetes cannot be reached ({why}): check the network and the kubeconfig.") from None


def _refusal(error: ApiException, namespace: str) -> str:
    try:
        why = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        why = error.reason
    if error.status == 401:
        return "Kubernetes does not know who asks: renew the kubeconfig's credentials, and try again."
    if error.status == 403:
        return f"Kubernetes forbids to read pods in namespace '{namespace}': correct --namespace, or ask for the right."
    return f"Kubernetes does not give the log ({why}): try again later, or look at the run's page in the KFP UI."
