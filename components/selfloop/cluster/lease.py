"""Two runs of one loop never overlap: a run holds the loop's Lease, in the name of its KFP run.

The Lease (``coordination.k8s.io/v1``) says who holds it and since when. Nothing renews it, and nothing need give it
back: it is free again when the KFP API says that the run has ended, however it ended. A person who cancels a run frees
it at once. It is taken by a conditional write, so that of two that take it at once one wins and the other looks again.

The service account needs to get, create and update leases, and to list pods, in its namespace.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from selfloop.cluster.access import TIMEOUT_S, Access, answered, of_pod
from selfloop.errors import UserError

if TYPE_CHECKING:
    from kubernetes.client import V1Lease

PREFIX = "selfloop-"
LABEL_LENGTH = 63
DIGEST_LENGTH = 10
LOOKS = 8
LOOP = "selfloop/loop"
"""The annotation that holds the loop's name as it is in MLflow's registry."""
NAME = "app.kubernetes.io/name"

log = logging.getLogger(__name__)


def lease_name(loop: str) -> str:
    """The name of a loop's Lease, a DNS label of its own: ``selfloop-`` and the loop's name.

    A name that is no label, or too long for one, is altered and gets a digest of what it was behind it; so does one
    that looks as if it had.
    """
    room = LABEL_LENGTH - len(PREFIX)
    is_label = re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", loop) and len(loop) <= room
    if is_label and not re.search(rf"(^|-)[0-9a-f]{{{DIGEST_LENGTH}}}$", loop):
        return PREFIX + loop
    digest = hashlib.sha256(loop.encode()).hexdigest()[:DIGEST_LENGTH]
    readable = re.sub("[^a-z0-9]+", "-", loop.lower())[: room - DIGEST_LENGTH - 1].strip("-")
    return PREFIX + (f"{readable}-{digest}" if readable else digest)


def hold(loop: str, run_id: str, has_ended: Callable[[str], bool], access: Access | None = None) -> None:
    """Hold a loop's Lease in the name of a KFP run, from now until that run has ended; again for a run that has it.

    ``has_ended`` asks the KFP API whether a run has ended or is unknown; it raises ``UserError`` where that cannot be
    asked. Raises ``UserError`` where another run holds the Lease and has not ended, or nobody can tell.
    """
    if not run_id:
        raise UserError(f"Loop '{loop}' cannot be held in the name of no run: give the id of the KFP run.")
    access = access or of_pod()
    for _ in range(LOOKS):
        found = _look(loop, access)
        holder = _holder(found)
        if holder == run_id:
            return
        if holder and not _is_over(loop, holder, has_ended):
            raise UserError(
                f"Loop '{loop}' is already run by {holder}, and two runs of a loop never overlap: wait for it, or end "
                f"it with 'selfloop cancel {holder}'."
            )
        if _take(loop, run_id, found, access):
            if holder:
                log.info("Loop '%s': run %s has ended, run %s continues.", loop, holder, run_id)
            return
    raise UserError(f"Loop '{loop}' is taken by one run after another ({LOOKS} looks): see what starts them.")


def pass_on(loop: str, run_id: str, continuation: str, access: Access | None = None) -> None:
    """Give a loop's Lease to the run that continues this one; nothing where this one holds it no more."""
    access = access or of_pod()
    for _ in range(LOOKS):
        found = _look(loop, access)
        if _holder(found) != run_id or _take(loop, continuation, found, access):
            return


def _holder(found: V1Lease | None) -> str:
    return (found.spec and found.spec.holder_identity) or "" if found else ""


def release(loop: str, found: V1Lease, access: Access) -> bool:
    """Let go of a Lease as it was found. Returns false where somebody else has taken it meanwhile."""
    return _take(loop, "", found, access)


def at_work(run_id: str, access: Access) -> bool:
    """Whether pods of a run have not ended, in a namespace."""
    return any(pod.status.phase in ("Pending", "Running") for pod in pods_of(run_id, access))


def pods_of(run_id: str, access: Access) -> list[Any]:
    """The pods of a run, known by their label or by the uid of their workflow: KFP's own schedules may tell tasks the
    one or the other for the id of their run.
    """
    from kubernetes.client import CoreV1Api

    from selfloop.cluster.pods import RUN_LABEL

    with answered("The pods of runs", access, "list pods"):
        found = CoreV1Api(access.api).list_namespaced_pod(
            access.namespace, label_selector=RUN_LABEL, _request_timeout=TIMEOUT_S
        )
    return [pod for pod in found.items if run_id in _ids(pod.metadata, RUN_LABEL)]


def _ids(metadata: Any, label: str) -> set[str]:
    owners = metadata.owner_references or []
    return {(metadata.labels or {}).get(label, ""), *(owner.uid for owner in owners)}


def _is_over(loop: str, holder: str, has_ended: Callable[[str], bool]) -> bool:
    try:
        return has_ended(holder)
    except UserError as error:
        why = str(error).rstrip(".")
        raise UserError(
            f"Loop '{loop}' is held by run {holder}, and it cannot be told whether that has ended: {why}."
        ) from None


def _look(loop: str, access: Access) -> V1Lease | None:
    """The Lease; none where there is none."""
    from kubernetes.client import CoordinationV1Api
    from kubernetes.client.exceptions import ApiException

    name = lease_name(loop)
    with answered(f"Lease {name}", access, "get leases"):
        try:
            return CoordinationV1Api(access.api).read_namespaced_lease(
                name, access.namespace, _request_timeout=TIMEOUT_S
            )
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
    return None


def _take(loop: str, run_id: str, found: V1Lease | None, access: Access) -> bool:
    """Write the run, or none, into the Lease as it was found, or make it. Returns false where somebody was faster."""
    from kubernetes.client import CoordinationV1Api
    from kubernetes.client.exceptions import ApiException

    api, name = CoordinationV1Api(access.api), lease_name(loop)
    with answered(f"Lease {name}", access, "create and update leases"):
        try:
            if found is None:
                api.create_namespaced_lease(access.namespace, _lease(loop, run_id), _request_timeout=TIMEOUT_S)
            else:
                version, times = found.metadata.resource_version, (found.spec and found.spec.lease_transitions) or 0
                made = _lease(loop, run_id, {"resourceVersion": version}, times + 1)
                api.replace_namespaced_lease(name, access.namespace, made, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            gone = error.status == HTTPStatus.NOT_FOUND and found is not None
            if gone or error.status == HTTPStatus.CONFLICT:
                return False
            raise
    return True


def _lease(loop: str, run_id: str, metadata: Mapping[str, str] | None = None, transitions: int = 0) -> dict[str, Any]:
    # a MicroTime has six digits behind the point, also where they are zero; the client's own objects drop them then
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": lease_name(loop),
            "labels": {NAME: "selfloop"},
            "annotations": {LOOP: loop},
            **(metadata or {}),
        },
        "spec": {"acquireTime": now, "leaseTransitions": transitions} | ({"holderIdentity": run_id} if run_id else {}),
    }
