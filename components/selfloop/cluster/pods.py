"""The pods of a run and their logs, read with the user's own kubeconfig.

KFP's API (v2beta1) tells neither the names of pods nor their logs. Argo writes into each pod which task it is of. Each
task has a pod that works at it, and before that one a driver's, in which KFP decides what the task is given.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from selfloop.cluster import reasons
from selfloop.cluster.connection import Connection
from selfloop.cluster.runs import ENDED
from selfloop.cluster.uploads import Planned, Task
from selfloop.errors import LAST_WORDS, UserError

RUN_LABEL = "pipeline/runid"
NODE = "workflows.argoproj.io/node-name"
KFP_NAMESPACE = "kubeflow"
"""Where an installation for one user runs its pods."""
CONTAINER = "main"
TIMEOUT_S = 30
LAST = 100
"""So many lines at the end of a log tell why a stage ended."""
ARCHIVE = "private-artifacts/{namespace}/*/{day:%Y/%m/%d}/*/main.log"
"""Where Argo keeps the logs of a run in the bucket of Kubeflow Pipelines, as these install it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pod:
    """A pod that works at a stage, or that drives it."""

    name: str
    namespace: str
    task: Task
    phase: str
    began: datetime
    node: str = ""
    """What it is of the run, whichever attempt at that it is."""
    drives: bool = False
    found: Any = None
    """All that Kubernetes says of it."""

    def title(self, before: int = 0) -> str:
        """What it does, where so many rounds came before those of its run."""
        title = self.task.after(before).title
        return f"the driver of {title}" if self.drives else title

    @property
    def ended(self) -> datetime | None:
        """When its container ended."""
        end = reasons.terminated(self.found, CONTAINER)
        return end.finished_at if end else None


class Why(NamedTuple):
    """Why a stage ended, in one sentence that may be empty, and whether that was a guard's halt."""

    sentence: str = ""
    halted: bool = False


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
    """The pods that work at the stages of a run or drive them, and those that did, the first first."""
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
        found += filter(None, (_pod(pod, namespace, tasks) for pod in listed.items))
        if found:
            break
    return sorted(found, key=lambda pod: pod.began)


def _pod(found: Any, namespace: str, tasks: Sequence[Planned]) -> Pod | None:
    about = found.metadata
    node = re.sub(r"\(\d+\)", "", (about.annotations or {}).get(NODE, ""))
    worked_at, driven = task_of(node, tasks), driven_task_of(node, tasks)
    task = worked_at or driven
    if task is None:
        return None
    began = found.status.start_time or about.creation_timestamp
    return Pod(about.name, namespace, task, found.status.phase, began, node, worked_at is None, found)


def newest(pods: Iterable[Pod]) -> list[Pod]:
    """The last attempt at each thing that pods do for a run, in their order."""
    return sorted({pod.node or pod.name: pod for pod in pods}.values(), key=lambda pod: pod.began)


def failed(pods: Iterable[Pod]) -> Pod | None:
    """The pod that failed last, and was not tried again."""
    return next((pod for pod in reversed(newest(pods)) if pod.phase == "Failed"), None)


def choose(pods: list[Pod], run_id: str, stage: str | None, before: int = 0) -> Pod:
    """The last pod of a stage named ``generate``, ``2/generate`` or ``round 2 · generate``; of none, a failed one.

    A round has the number that ``watch`` shows, counted over the runs of a loop, or the one that the KFP UI shows, of
    its run. No number is both: where rounds came before, they were as many as the run has, or more.
    """
    pods = [pod for pod in pods if not pod.drives or pod.phase == "Failed"]
    if not pods:
        raise UserError(f"Run {run_id} has no pods that worked at a stage: look at its page in the KFP UI.")
    if stage is None:
        return failed(pods) or pods[-1]
    found = re.fullmatch(r"(?:(?:round )?(\d+)(?: · |/))?(.+)", stage)
    number, name = (found[1], found[2]) if found else (None, stage)
    matching = [
        pod
        for pod in pods
        if pod.task.stage == name and number in (None, str(pod.task.round), str(pod.task.after(before).round))
    ]
    if not matching:
        known = ", ".join(dict.fromkeys(pod.task.after(before).short for pod in pods))
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


def why(api: CoreV1Api, pod: Pod) -> Why:
    """Why a pod that failed did: the sentence that its stage ended with, or what ended it from outside."""
    try:
        said = "".join(log(api, pod, lines=LAST))
    except UserError:  # such as of a container that was never started
        said = ""
    words = LAST_WORDS.findall(said)
    if words:
        halted, sentence = words[-1]
        return Why(sentence.strip(), bool(halted))
    end = reasons.End.of(pod.found, said.splitlines(), CONTAINER)
    sentence = reasons.of_stage(end, pod.task.stage)
    if pod.drives and not sentence:
        sentence = f"KFP's driver ended after it said '{end.words}': mend what that says." if end.words else ""
    return Why(sentence)


def without(connection: Connection, run: Any) -> UserError:
    """What there is to say of a run that has no pods: not yet, or not any more."""
    url = connection.run_url(run.run_id)
    if run.state not in ENDED:
        return UserError(f"Run {run.run_id} has no pods yet: wait, and look at {url} for what it waits for.")
    place = ARCHIVE.format(namespace=namespaces(connection)[-1], day=run.created_at)
    return UserError(
        f"Run {run.run_id} has no pods any more: its logs are in the archive of Argo, in the bucket of Kubeflow "
        f"Pipelines ({place}), and behind each task of {url}."
    )


def task_of(node: str, tasks: Sequence[Planned]) -> Task | None:
    """The task that a pod is of, by its node: ``workflow.root.condition-2.generate-rollouts.executor(0)``."""
    parts = re.sub(r"\([^)]*\)", "", node).split(".")
    places = [each for each in tasks if _passes(each.path, parts)]
    return max(places, key=lambda each: len(each.path)).task if places else None


def driven_task_of(node: str, tasks: Sequence[Planned]) -> Task | None:
    """The task that a driver is of, or the first one in the graph that it is of."""
    *around, last = re.sub(r"\([^)]*\)", "", node).split(".")
    if not last.endswith("driver"):
        return None
    names = {name for each in tasks for name in each.path}
    graphs = [part for part in (*around, last.removesuffix("-driver")) if part in names]
    inside = [each for each in tasks if _passes(graphs, each.path)]
    return min(inside, key=lambda each: len(each.path)).task if inside else None


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
