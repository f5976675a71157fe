"""Why a TrainJob does not start, and why it or a stage ended: a sentence for a person, from what the cluster says of
pods.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from selfloop.errors import UserError
from selfloop.progress import STEP

CONTAINER = "node"
"""The Trainer's name for the container, and for the replicated job, that trains."""
REFUSED = "selfloop refused "
"""What a node's last line begins with where its work was refused; then follows the sentence, as JSON."""
BROKEN = {
    "ErrImagePull": "let SELFLOOP_IMAGE name an image that the nodes may pull",
    "ImagePullBackOff": "let SELFLOOP_IMAGE name an image that the nodes may pull",
    "InvalidImageName": "let SELFLOOP_IMAGE name an image that the nodes may pull",
    "CreateContainerConfigError": "create the config maps and secrets that the stages name",
    "CreateContainerError": "correct the TrainingRuntime",
    "RunContainerError": "correct the TrainingRuntime",
}
"""Why a container waits that no waiting will start, and what will."""
BROKEN_S = 120.0
START_WITHIN_S = 1800.0
"""How long a TrainJob that no queue holds back may take until all its nodes have started."""
LAST_LINES, LAST_CHARACTERS = 3, 400
LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)
KILLED = 137
"""The status of a process that was ended by SIGKILL."""
LAUNCHER_KILLED = "signal: killed"
"""What KFP's launcher says where the kernel killed the stage and not the launcher with it."""


class End(NamedTuple):
    """How a node ended: what the cluster calls it, what else it says, the node's last words, and what it refused."""

    node: str
    reason: str
    status: int
    message: str
    words: str
    refused: str
    memory: str
    at: datetime.datetime
    restarts: int = 0

    @classmethod
    def of(cls, pod: Any, last: Sequence[str], name: str = CONTAINER) -> Self:
        """The end of a pod's container of this name; ``last`` are the last lines that it said."""
        found = terminated(pod, name)
        refused = [line.removeprefix(REFUSED) for line in last if line.startswith(REFUSED)]
        said = [line.strip() for line in last if line.strip() and not line.startswith(STEP)]
        words = " / ".join(said[-LAST_LINES:])[-LAST_CHARACTERS:]
        mine = next((each for each in pod.spec.containers if each.name == name), pod.spec.containers[0])
        limits = mine.resources and mine.resources.limits
        return cls(
            node=node_of(pod),
            reason=pod.status.reason or (found.reason if found else "") or "Failed",
            status=found.exit_code if found else 0,
            message=(pod.status.message or (found.message if found else "") or "").strip(),
            words=words,
            refused=json.loads(refused[-1]) if refused else "",
            memory=(limits or {}).get("memory", ""),
            at=(found and found.finished_at) or LONG_AGO,
            restarts=restarts(pod, name),
        )

    @property
    def weight(self) -> tuple[bool, datetime.datetime]:
        """The end that explains the others comes first: one from outside, then the earliest."""
        return self.reason == "Error", self.at


class Waiting:
    """Looks at a TrainJob until its nodes have started, says what they wait for, and loses patience."""

    def __init__(self, name: str, nodes: int) -> None:
        self._name, self._nodes, self._said = name, nodes, ""
        self._since = self._broken_since = 0.0

    def look(self, job: Mapping[str, Any], pods: Sequence[Any], warnings: Callable[[], Sequence[str]]) -> None:
        """Look once. Raises ``UserError`` where waiting longer is no use."""
        now = time.monotonic()
        if len({node_of(pod) for pod in pods if has_started(pod)}) >= self._nodes or is_suspended(job):
            self._since = self._broken_since = 0.0
            return
        self._since = self._since or now
        reason, message, remedy = self._why(pods, warnings)
        if reason and reason != self._said:
            print(f"TrainJob {self._name} waits: {reason}{message and f': {message}'}", flush=True)
            self._said = reason
        self._broken_since = (self._broken_since or now) if reason in BROKEN else 0.0
        patience = BROKEN_S if self._broken_since else START_WITHIN_S
        if now - (self._broken_since or self._since) >= patience:
            why = f" ({reason or 'no node was made'}{message and f': {message}'})"
            raise UserError(f"TrainJob {self._name} does not start{why}: {remedy}.")

    def _why(self, pods: Sequence[Any], warnings: Callable[[], Sequence[str]]) -> tuple[str, str, str]:
        """A word for it, what the cluster says of it, and the remedy."""
        for pod in pods:
            status = container(pod)
            waiting = status and status.state and status.state.waiting
            if waiting and waiting.reason in BROKEN:
                return waiting.reason, one_line(waiting.message), BROKEN[waiting.reason]
        for pod in pods:
            for each in pod.status.conditions or []:
                if each.type == "PodScheduled" and each.status == "False":
                    remedy = "ask for less in SELFLOOP_NODE_RESOURCES, lower nodes, or give the cluster more machines"
                    return each.reason or "Unschedulable", one_line(each.message), remedy
        events = warnings()
        remedy = "mend what that says, or set nodes to 1"
        return ("FailedToStart", one_line(events[-1]), remedy) if events else ("", "", "ask who runs the cluster")


def failure(name: str, condition: Mapping[str, Any], ends: Iterable[End]) -> str:
    """Why a TrainJob failed: the end of the node that took the others with it, or what the Trainer says."""
    known = sorted(ends, key=lambda end: end.weight)
    if condition.get("reason") == "DeadlineExceeded":
        return (
            f"TrainJob {name} ran out of time ({condition['message']}): raise the stage's time limit, or lower steps."
        )
    if not known:
        return f"TrainJob {name} failed ({one_line(condition.get('message'))}): look at its pods, and start it again."
    end = known[0]
    if end.reason == "OOMKilled":
        return (
            f"Node {end.node} of TrainJob {name} ran out of memory (OOMKilled{end.memory and f' at {end.memory}'}): "
            "raise accumulate, lower batch_size or max_length, set gradient_checkpointing, or give nodes more memory."
        )
    if end.reason != "Error":
        what = f"{end.reason}{end.message and f': {one_line(end.message)}'}"
        return f"Node {end.node} of TrainJob {name} was ended ({what}): mend what that says, and start the stage again."
    ended = f"Node {end.node} of TrainJob {name} ended with status {end.status}"
    if not end.words:
        return f"{ended} and without a word: its machine may have failed; start the stage again."
    return f"{ended} after it said '{end.words}': mend what that says, and start the stage again."


def of_stage(end: End, stage: str) -> str:
    """What ended a stage's pod from outside, and the setting that mends it; empty where it ended by itself."""
    setting, limit = f"under [stages.{stage}] in the profile", f", limit {end.memory}" if end.memory else ""
    memory = f"raise 'memory' {setting}"
    if end.reason == "OOMKilled" or LAUNCHER_KILLED in end.words:
        return f"it ran out of memory (OOMKilled{limit}): {memory}, or lower what it holds, such as its batch size."
    if end.status == KILLED:
        return f"it was killed (status {KILLED}{limit}), as where memory is short: {memory}, or begin the run again."
    if end.reason == "DeadlineExceeded":
        return f"it ran out of time: raise 'time_limit' {setting}, or lower what it has to do."
    if end.reason in ("Error", "Failed", "Completed"):
        return ""
    return f"its pod was ended ({end.reason}{end.message and f': {one_line(end.message)}'}): mend what that says."


def true(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conditions of a TrainJob that hold."""
    return [each for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"]


def is_suspended(job: Mapping[str, Any]) -> bool:
    """Whether a queue holds a TrainJob back."""
    return bool(job.get("spec", {}).get("suspend")) or any(each["type"] == "Suspended" for each in true(job))


def node_of(pod: Any) -> str:
    """The number of the node that a pod is, as text."""
    key = "batch.kubernetes.io/job-completion-index"
    return str((pod.metadata.labels or {}).get(key) or (pod.metadata.annotations or {}).get(key, "?"))


def container(pod: Any, name: str = CONTAINER) -> Any:
    """What the cluster says of the container in a pod that works, whatever runs beside it; none before there is."""
    return next((status for status in pod.status.container_statuses or [] if status.name == name), None)


def terminated(pod: Any, name: str = CONTAINER) -> Any:
    """How a pod's container ended the last time; none where it never did."""
    status = container(pod, name)
    states = [status.state, status.last_state] if status else []
    return next((state.terminated for state in states if state and state.terminated), None)


def restarts(pod: Any, name: str = CONTAINER) -> int:
    """How often a pod's container was started again."""
    status = container(pod, name)
    return int(status.restart_count or 0) if status else 0


def was_restarted(pod: Any) -> bool:
    """Whether the container that ended is one before the pod's present one."""
    status = container(pod)
    return not (status and status.state and status.state.terminated)


def has_started(pod: Any) -> bool:
    """Whether a pod's container runs or ran."""
    status = container(pod)
    return bool(status and status.state and (status.state.running or terminated(pod)))


def has_failed(pod: Any) -> bool:
    """Whether a pod ended, and not well."""
    ended = terminated(pod)
    return pod.status.phase == "Failed" or bool(ended and ended.exit_code)


def one_line(said: str | None) -> str:
    """What somebody said, in one line and no more than two."""
    return " ".join((said or "").split())[:LAST_CHARACTERS].rstrip(".")
