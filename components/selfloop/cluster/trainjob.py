"""A command on several nodes as a TrainJob of Kubeflow's Trainer: created, listened to, and deleted in the end.

The TrainJob is owned by this pod, so it goes when the pod goes; and it is deleted once it is over, however that came
about, a SIGTERM included. It is looked at every few seconds: that needs no right to watch, and a connection that breaks
breaks nothing. The service account needs to get, create and delete trainjobs, to get and list pods, to get pods/log and
to list events in its own namespace; the nodes themselves need no right at all.

Its name comes from the content of the work. A TrainJob of that name that is already there is this pod's own (its
creation was answered and the answer lost), or was left by a pod that ended. If it is complete, it did this very work,
and counts. Otherwise it is replaced: it would go the moment that its own pod is collected, and to change its owner
would take one more right. One whose pod still runs is left alone, and refused.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from selfloop.cluster import reasons
from selfloop.cluster.access import TIMEOUT_S, Access, answered, is_in_pod, of_pod, said
from selfloop.errors import UserError
from selfloop.trust import TRUSTED

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "selfloop-torch"
CONTAINER = reasons.CONTAINER
PART_OF = "app.kubernetes.io/part-of"
OF_JOB = "jobset.sigs.k8s.io/jobset-name={},jobset.sigs.k8s.io/replicatedjob-name=node"
QUEUE = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
PLAIN = (
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "HF_HUB_OFFLINE",
    "MLFLOW_S3_ENDPOINT_URL",
    "SELFLOOP_STORE",
    TRUSTED,
)
"""What a node is told of what this pod knows: addresses, and no secret. Which secrets nodes have says the
TrainingRuntime alone.
"""
LOOK_EVERY_S = 3.0
OWNER_EVERY_S = 30.0
PATIENCE_S = 600.0
"""How long the API server may be away while a TrainJob runs."""
GONE_WITHIN_S = 300.0
LAST_TRIES = 10
"""How often the log of a node that is done is asked for."""
SLACK_S = 10
"""Seconds of a log that are read twice, so that clocks need not agree."""


class Cancelled(BaseException):
    """This process was told to end."""


def run(name: str, command: Sequence[str], nodes: int, hear: Callable[[str], None]) -> None:
    """Run a command on so many nodes to its end, and hear each line that the first of them says.

    The command is told this pod's name and uid as its last words, for ``end_with``.

    Raises ``UserError``, one sentence, where the cluster refuses it or a node fails.
    """
    if not is_in_pod():
        raise UserError(
            "Training that spans nodes is started from a pod on a cluster: submit the loop there, or set nodes to 1."
        )
    access = of_pod()
    pod = own_pod(access)
    job = TrainJob(access, described(name, command, nodes, pod, os.environ), hear)
    with ended_by_signal():
        try:
            job.begin()
            while not job.is_over():
                nap(LOOK_EVERY_S)
        finally:
            job.delete()


def delete(api: CustomObjectsApi, namespace: str, name: str, uid: str = "") -> None:
    """Delete a TrainJob, the one with this uid where one is given."""
    # it stays until its pods are gone, so that another one of this name does not meet them
    options: dict[str, Any] = {"propagationPolicy": "Foreground"}
    if uid:
        options["preconditions"] = {"uid": uid}
    try:
        api.delete_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, name, body=options, _request_timeout=TIMEOUT_S
        )
    except ApiException as error:
        if error.status not in (404, 409):  # gone, or another one by now
            raise


def nap(pause_s: float) -> None:
    """Do nothing until it is time to look again."""
    time.sleep(pause_s)


def own_pod(access: Access) -> Any:
    """The pod that this process runs in, as the API knows it."""
    name = os.environ.get("POD_NAME") or os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
    with answered(f"This pod, '{name}',", access, "get pods"):
        try:
            return CoreV1Api(access.api).read_namespaced_pod(name, access.namespace, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            if error.status == 404:
                raise UserError(
                    f"There is no pod '{name}' in namespace {access.namespace}, and it ought to be this one: set "
                    "POD_NAME from metadata.name in the pod's own template."
                ) from None
            raise


def runs(access: Access, name: str, uid: str) -> bool:
    """Whether a pod is still there and has not ended."""
    with answered(f"Pod {name}", access, "get pods"):
        try:
            pod = CoreV1Api(access.api).read_namespaced_pod(name, access.namespace, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
    return bool(pod.metadata.uid == uid and pod.status.phase not in ("Succeeded", "Failed"))


def end_with(name: str, uid: str) -> None:
    """End this process, a node, by SIGTERM soon after the pod that it works for has ended.

    A pod that is ended by Kubeflow Pipelines may be gone before it has deleted its TrainJob, and nobody would wait for
    what the nodes make later. A node that may not look at pods says so and works on.
    """

    def is_there(access: Access) -> bool:
        try:
            return runs(access, name, uid)
        except UserError as error:
            if may_pass(error.__context__):
                return True
            raise

    def look() -> None:
        try:
            access = of_pod()
            while is_there(access):
                nap(OWNER_EVERY_S)
            print(f"Pod {name}, which this node works for, has ended: so does this node.", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        except UserError as error:
            print(f"{error} This node does not see whether pod {name} still waits for it, and works on.", flush=True)

    threading.Thread(target=look, daemon=True).start()


def described(
    name: str, command: Sequence[str], nodes: int, pod: Any, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The TrainJob: this pod's image, the addresses that it knows, and the resources of a node.

    These are what ``SELFLOOP_NODE_RESOURCES`` says (JSON: ``{"cpu": "8", "nvidia.com/gpu": "8"}``), or this pod's own.
    """
    container = next((each for each in pod.spec.containers if each.name == "main"), pod.spec.containers[0])
    resources = resources_of_node(container, environment.get("SELFLOOP_NODE_RESOURCES", ""))
    gpus = sum(int(amount) for kind, amount in resources.items() if "gpu" in kind)
    trainer: dict[str, Any] = {
        "image": environment.get("SELFLOOP_IMAGE") or container.image,
        "command": [*command, pod.metadata.name, pod.metadata.uid],
        "numNodes": nodes,
        "numProcPerNode": max(1, gpus),
        "env": [{"name": name, "value": environment[name]} for name in PLAIN if environment.get(name)],
    }
    if resources:
        trainer["resourcesPerNode"] = {"requests": resources, "limits": resources}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
    labels = {key: value for key, value in (pod.metadata.labels or {}).items() if key in QUEUE}
    spec = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": RUNTIME},
        "trainer": trainer,
    }
    if pod.spec.active_deadline_seconds:  # where the pod's time is up, nobody is left to delete the TrainJob
        spec["activeDeadlineSeconds"] = pod.spec.active_deadline_seconds
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": {PART_OF: "selfloop", **labels},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def resources_of_node(container: Any, said: str) -> dict[str, str]:
    """What a node is to have. Raises ``UserError`` for what is no JSON of quantities."""
    if not said:
        own = container.resources
        return {**((own and own.requests) or {}), **((own and own.limits) or {})}
    try:
        given = json.loads(said)
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str | int) for value in given.values()):
        raise UserError(
            "SELFLOOP_NODE_RESOURCES is no JSON of quantities by resource: give such as "
            '{"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8"}.'
        )
    return {str(kind): str(amount) for kind, amount in given.items()}


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Turn the first SIGTERM in this block into an exception, and end the process by it after the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def cancel(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Cancelled

    before = signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    except Cancelled:
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def may_pass(error: BaseException | None) -> bool:
    """Whether the API server may answer the next time."""
    status = getattr(error, "status", None) or 0
    return isinstance(error, HTTPError) or status >= 500 or status == 429


def moment(stamp: str) -> str:
    """The time of a log's line in a form that sorts: with all nine digits of its second."""
    second, _, rest = stamp.partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    return f"{second.rstrip('Z')}.{digits.ljust(9, '0')}"


class Read(NamedTuple):
    """How far a log was read: the time of its last line, and when that was."""

    last: str
    at: float


class TrainJob:
    """One TrainJob, from its creation to its deletion."""

    def __init__(self, access: Access, wanted: dict[str, Any], hear: Callable[[str], None]) -> None:
        self.name: str = wanted["metadata"]["name"]
        self._access, self._wanted, self._hear = access, wanted, hear
        self._core, self._custom = CoreV1Api(access.api), CustomObjectsApi(access.api)
        self._mine, self._tries = False, LAST_TRIES
        self._read: dict[str, Read] = {}
        self._ends: dict[str, reasons.End] = {}
        self._answered_at = time.monotonic()
        self._waiting = reasons.Waiting(self.name, wanted["spec"]["trainer"]["numNodes"])

    def begin(self) -> None:
        """Create it, or continue with the one that is there, or replace that."""
        until = time.monotonic() + GONE_WITHIN_S
        while not self._create():
            found = self._get()
            if found is None:
                continue
            if self._may_stay(found):
                return
            if time.monotonic() > until:
                raise UserError(f"{self}, left by a pod that ended, does not go: delete it, and start the stage again.")
            if "deletionTimestamp" not in found["metadata"]:
                print(f"{self} was left by a pod that ended, and is replaced.", flush=True)
                self._delete(found["metadata"]["uid"])
            nap(LOOK_EVERY_S)

    def is_over(self) -> bool:
        """Look once: hear what is new, and see whether it is complete. Raises ``UserError`` where it is not to be."""
        try:
            found = self._get()
            pods = self._pods(found) if found else []
            self._answered_at = time.monotonic()
        except UserError as error:
            if not may_pass(error.__context__) or time.monotonic() - self._answered_at > PATIENCE_S:
                raise
            return False
        if found is None:
            raise UserError(f"{self} was deleted by somebody before it was done: start the stage again.")
        heard = self._listen(pods)
        conditions = {each["type"]: each for each in reasons.true(found)}
        if "Complete" in conditions:
            self._tries -= not heard
            return heard or not self._tries
        self._note_ends(pods, "Failed" in conditions)
        refused = [end.refused for end in self._ends.values() if end.refused]
        if refused:  # it would refuse again, however often the Trainer starts it
            raise UserError(refused[0])
        if "Failed" in conditions:
            raise UserError(reasons.failure(self.name, conditions["Failed"], self._ends.values()))
        self._waiting.look(found, pods, self._warnings)
        return False

    def delete(self) -> None:
        """Delete it where it is this process's. What the API refuses is said, and no error: it goes with the pod."""
        if not self._mine:
            return
        try:
            self._delete()
        except UserError as error:
            print(f"{error} {self} goes with this pod.", flush=True)

    def __str__(self) -> str:
        return f"TrainJob {self.name}"

    def _create(self) -> bool:
        """Whether it was created; it was not where there is one already."""
        self._mine = True
        with self._asking("create"):
            try:
                self._custom.create_namespaced_custom_object(
                    GROUP, VERSION, self._access.namespace, PLURAL, self._wanted, _request_timeout=TIMEOUT_S
                )
                return True
            except ApiException as error:
                self._mine = error.status >= 500
                if error.status == 409:
                    return False
                if error.status == 404:
                    raise UserError(
                        f"{self} cannot be created in namespace {self._access.namespace}: install Kubeflow's Trainer "
                        f"with its runtime {RUNTIME}, or set nodes to 1."
                    ) from None
                if error.status in (400, 422):
                    raise UserError(f"{self} is refused by the cluster: {said(error)}.") from None
                raise

    def _may_stay(self, found: Mapping[str, Any]) -> bool:
        """Whether the one that is there does this work for this pod. Raises ``UserError`` where it does for another."""
        if "deletionTimestamp" in found["metadata"]:
            return False
        owners = [each for each in found["metadata"].get("ownerReferences", []) if each["kind"] == "Pod"]
        mine = self._wanted["metadata"]["ownerReferences"][0]["uid"]
        complete = any(each["type"] == "Complete" for each in reasons.true(found))
        if complete or any(each["uid"] == mine for each in owners):
            self._mine = True
            return True
        for owner in owners:
            if runs(self._access, owner["name"], owner["uid"]):
                raise UserError(
                    f"{self} does this very work for pod {owner['name']}, which still runs: wait for its result, or "
                    "end that run."
                )
        return False

    def _get(self) -> Any:
        with self._asking("get"):
            try:
                return self._custom.get_namespaced_custom_object(
                    GROUP, VERSION, self._access.namespace, PLURAL, self.name, _request_timeout=TIMEOUT_S
                )
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

    def _delete(self, uid: str = "") -> None:
        with self._asking("delete"):
            delete(self._custom, self._access.namespace, self.name, uid)

    def _pods(self, job: Mapping[str, Any]) -> list[Any]:
        """Its pods, the oldest first, and none of an earlier one's of this name."""
        with self._asking("list", "pods"):
            found = self._core.list_namespaced_pod(
                self._access.namespace, label_selector=OF_JOB.format(self.name), _request_timeout=TIMEOUT_S
            )
        since = datetime.datetime.fromisoformat(job["metadata"]["creationTimestamp"])
        own = [pod for pod in found.items if pod.metadata.creation_timestamp >= since]
        return sorted(own, key=lambda pod: pod.metadata.creation_timestamp)

    def _warnings(self) -> list[str]:
        """What the cluster warns of about it and all that is made for it, the oldest first; none while it is away."""
        try:
            with self._asking("list", "events"):
                found = self._core.list_namespaced_event(
                    self._access.namespace, field_selector="type=Warning", _request_timeout=TIMEOUT_S
                )
        except UserError as error:
            if may_pass(error.__context__):
                return []
            raise
        about = re.compile(rf"{re.escape(self.name)}(-.*)?")
        return [each.message or each.reason for each in found.items if about.fullmatch(each.involved_object.name)]

    def _listen(self, pods: Sequence[Any]) -> bool:
        """Hand on what the first node said since it was last heard. Returns whether it could be heard."""
        heard = True
        for pod in pods:
            if reasons.node_of(pod) == "0" and reasons.has_started(pod):
                before, now = self._read.get(pod.metadata.uid, Read("", 0.0)), time.monotonic()
                since = {"since_seconds": int(now - before.at) + SLACK_S} if before.last else {}
                lines = self._log(pod, **since)
                new = [(stamp, line) for stamp, line in lines or [] if stamp > before.last]
                for _, line in new:
                    self._hear(line)
                heard = heard and lines is not None
                if new:
                    self._read[pod.metadata.uid] = Read(new[-1][0], now)
        return heard

    def _log(self, pod: Any, **how: Any) -> list[tuple[str, str]] | None:
        """Lines of a node's log with their times; none while nobody can say what it said."""
        with self._asking("get", "pods/log"):
            try:
                answer = self._core.read_namespaced_pod_log(
                    pod.metadata.name,
                    self._access.namespace,
                    container=CONTAINER,
                    timestamps=True,
                    _preload_content=False,
                    _request_timeout=TIMEOUT_S,
                    **how,
                )
                text = answer.data.decode(errors="replace")
            except (ApiException, HTTPError) as error:
                if getattr(error, "status", 0) in (401, 403):
                    raise
                return None
        parts = (each.partition(" ") for each in text.splitlines(keepends=True))
        return [(moment(stamp), line) for stamp, _, line in parts]

    def _note_ends(self, pods: Sequence[Any], failed: bool) -> None:
        """Remember how each node ended that did not end well: its pod may be gone before the TrainJob is.

        What was before the Trainer started all nodes again is forgotten.
        """
        if pods:
            there = {pod.metadata.uid for pod in pods}
            self._ends = {uid: end for uid, end in self._ends.items() if uid in there}
        for pod in pods:
            known = self._ends.get(pod.metadata.uid)
            if reasons.has_failed(pod) and (known is None or known.restarts != reasons.restarts(pod)):
                how = {"previous": True} if reasons.was_restarted(pod) else {}
                lines = self._log(pod, tail_lines=20, **how)
                if lines is not None or failed:
                    self._ends[pod.metadata.uid] = reasons.End.of(pod, [line for _, line in lines or []])

    @contextmanager
    def _asking(self, verb: str, what: str = PLURAL) -> Iterator[None]:
        with answered(str(self), self._access, f"{verb} {what}"):
            yield
