"""What tells of a run beside Kubeflow Pipelines: its pods, and what the loop itself recorded of each round.

KFP tells of tasks from the node status of Argo's workflow, and no more once Argo compresses that, as it does with any
large run. The pods are still there, by the label of their run; and each round, as it ends, registers its candidate in
MLflow with the run and the gate's verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from selfloop.cluster import pods
from selfloop.cluster.pods import Pod, Why
from selfloop.cluster.runs import ENDED, URGENT, Progress, StageStatus
from selfloop.cluster.uploads import Task
from selfloop.errors import HaltedError, UserError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

    from selfloop.cluster.connection import Connection

PHASES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED"}
"""The state of a stage by the phase of its pod."""
CONCLUDING = ("close", "round")
"""The stages that a guard's halt ends."""


class Closed(NamedTuple):
    """A round that has ended, as the loop recorded it."""

    round: int
    verdict: str
    reason: str


class Failure(NamedTuple):
    """Where a run failed, in words and as a person types it, and why; empty where that is not known."""

    title: str = ""
    short: str = ""
    why: Why = Why()


class Evidence:
    """A witness of runs: asks Kubernetes each time, and MLflow where that leaves something open.

    What cannot be asked, for want of a kubeconfig, a right or an address, is left out: ``pods`` or ``rounds`` is none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pods: list[Pod] | None = None
        self.rounds: list[Closed] | None = None
        self._asks_kubernetes = self._asks_mlflow = True

    def complete(self, told: Progress) -> Progress:
        """What KFP told, with what pods and rounds tell."""
        self.pods = self._pods(told)
        by_pods = list(of_pods(told.statuses, self.pods or []))
        failed = told.has_ended and told.state != "SUCCEEDED"
        if failed or not (self.pods or told.is_whole):
            self.rounds = self._rounds(told.run_id)
        is_whole = told.is_whole or bool(self.pods or self.rounds)
        return replace(told, statuses=tuple(of_rounds(by_pods, self.rounds or [])), is_whole=is_whole)

    def failure(self, last: Progress) -> Failure:
        """How a run failed that has."""
        halted = next((each for each in self.rounds or [] if each.verdict == "halted"), None)
        pod = pods.failed(self.pods or [])
        if halted is not None:
            return Failure(why=Why(str(HaltedError.because(halted.reason)), halted=True))
        if pod is not None:
            return Failure(pod.title(last.before), pod.task.after(last.before).short, pods.why(self._api, pod))
        if last.failed is None:
            return Failure()
        task = last.failed.task.after(last.before)
        return Failure(task.title, task.short)

    @cached_property
    def _api(self) -> CoreV1Api:
        return pods.kubernetes()

    def _pods(self, told: Progress) -> list[Pod] | None:
        if not self._asks_kubernetes:
            return None
        try:
            tasks = [status.planned for status in told.statuses]
            return pods.pods_of(self._api, told.run_id, pods.namespaces(self._connection), tasks)
        except UserError:
            self._asks_kubernetes = self.pods is not None  # what answered once is asked again
            return self.pods

    def _rounds(self, run_id: str) -> list[Closed] | None:
        from selfloop import lineage

        if not (lineage.is_on() and self._asks_mlflow):
            return None
        try:
            found = lineage.closed_by(run_id)
        except (UserError, ModuleNotFoundError):
            self._asks_mlflow = self.rounds is not None
            return self.rounds
        return [Closed(int(each.tag("round")), each.tag("verdict"), each.tag("reason")) for each in found]


def of_pods(statuses: Iterable[StageStatus], found: Sequence[Pod]) -> Iterable[StageStatus]:
    """Statuses as the pods tell them, which are there at once; as KFP does where a stage has none (any more)."""
    working: dict[Task, list[Pod]] = {}
    driving: dict[Task, list[Pod]] = {}
    for pod in pods.newest(found):
        (driving if pod.drives else working).setdefault(pod.task, []).append(pod)
    for status in statuses:
        if status.task in working:
            yield _of_working(status, working[status.task])
        elif status.task in driving and status.state not in ENDED:
            states = {PHASES.get(pod.phase, "") for pod in driving[status.task]}
            began = min(pod.began for pod in driving[status.task])
            yield replace(status, state="FAILED" if "FAILED" in states else "PENDING", began=began)
        else:
            yield status


def _of_working(status: StageStatus, found: Sequence[Pod]) -> StageStatus:
    states = {PHASES.get(pod.phase, "RUNNING") for pod in found}
    state = next(state for state in URGENT if state in states)
    if state == "SUCCEEDED" and len(found) < status.planned.pods:  # the others are to come
        state = status.state or "RUNNING"
    ended = [pod.ended for pod in found if pod.ended]
    is_over = state in ENDED and len(found) == len(ended)
    return StageStatus(status.planned, state, min(pod.began for pod in found), max(ended) if is_over else None)


def of_rounds(statuses: Sequence[StageStatus], closed: Sequence[Closed]) -> Iterable[StageStatus]:
    """Statuses with what the rounds tell that have ended: the first of them is the first of the run, whatever its
    number is in the loop.
    """
    planned = sorted({status.task.round for status in statuses if status.task.round > 0})
    verdicts: Mapping[int, str] = dict(zip(planned, (each.verdict for each in closed), strict=False))
    for status in statuses:
        verdict = verdicts.get(status.task.round)
        if verdict is None or status.state in ENDED:
            yield status
        else:
            failed = verdict == "halted" and status.task.stage in CONCLUDING
            yield replace(status, state="FAILED" if failed else "SUCCEEDED", began=None)
