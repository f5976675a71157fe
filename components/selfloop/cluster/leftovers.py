"""What a cancelled run leaves, and a person clears: TrainJobs, its loop's Lease, a run in MLflow that is not ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kubernetes.client import CoordinationV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from selfloop.cluster import lease, trainjob
from selfloop.cluster.access import TIMEOUT_S, Access, answered, of_person
from selfloop.cluster.pods import namespaces
from selfloop.errors import UserError

if TYPE_CHECKING:
    from selfloop.cluster.connection import Connection


def cleared(connection: Connection, run_id: str) -> Iterator[str]:
    """Free what a cancelled run holds: a sentence for what was done, and for what could not be."""
    for what, clear in (("TrainJobs", _trainjobs), ("Lease", _leases), ("run in MLflow", _run_in_mlflow)):
        try:
            yield from clear(connection, run_id)
        except (UserError, ModuleNotFoundError) as error:
            yield f"Its {what} could not be looked after: {error}"


def released(connection: Connection, run_id: str) -> list[str]:
    """Free the Leases of a run that has ended, or that KFP does not know. Returns the names of the loops; none where
    there is no kubeconfig. Raises ``UserError`` where pods of it are at work.
    """
    try:
        accesses = [of_person(namespace) for namespace in namespaces(connection)]
    except UserError:
        return []
    if any(lease.at_work(run_id, access) for access in accesses):
        raise UserError(f"Run {run_id} has pods at work, though KFP says that it has none: delete its workflow.")
    return [loop for access in accesses for loop in _released(run_id, access)]


def _released(run_id: str, access: Access) -> Iterator[str]:
    with answered("The Leases of loops", access, "list leases"):
        found = CoordinationV1Api(access.api).list_namespaced_lease(
            access.namespace, label_selector=f"{lease.NAME}=selfloop", _request_timeout=TIMEOUT_S
        )
    for each in found.items:
        loop = (each.metadata.annotations or {}).get(lease.LOOP)
        is_held = each.spec is not None and each.spec.holder_identity == run_id
        if loop and is_held and lease.release(loop, each, access):
            yield loop


def _leases(connection: Connection, run_id: str) -> Iterator[str]:
    for loop in released(connection, run_id):
        yield f"Loop '{loop}' is free for another run."


def _trainjobs(connection: Connection, run_id: str) -> Iterator[str]:
    for access in (of_person(namespace) for namespace in namespaces(connection)):
        names = {pod.metadata.name for pod in lease.pods_of(run_id, access)}
        api = CustomObjectsApi(access.api)
        with answered("The TrainJobs of the run", access, "list and delete trainjobs"):
            for metadata in _found(api, access.namespace):
                if _owner(metadata) in names:
                    trainjob.delete(api, access.namespace, metadata["name"], metadata["uid"])
                    yield f"TrainJob {metadata['name']} is deleted."


def _found(api: CustomObjectsApi, namespace: str) -> list[Mapping[str, Any]]:
    """The metadata of all TrainJobs of stages; none where no Trainer is installed."""
    place = (trainjob.GROUP, trainjob.VERSION, namespace, trainjob.PLURAL)
    try:
        found = api.list_namespaced_custom_object(
            *place, label_selector=f"{trainjob.PART_OF}=selfloop", _request_timeout=TIMEOUT_S
        )
    except ApiException as error:
        if error.status == 404:
            return []
        raise
    return [each["metadata"] for each in found["items"]]


def _owner(metadata: Mapping[str, Any]) -> str:
    owners = metadata.get("ownerReferences", [])
    return next((str(each["name"]) for each in owners if each["kind"] == "Pod"), "")


def _run_in_mlflow(_: Connection, run_id: str) -> Iterator[str]:
    from selfloop import lineage

    if lineage.is_on() and lineage.kill(run_id):
        yield "Its run in MLflow is ended as killed."
