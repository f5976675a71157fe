"""Whether the namespace has what the pods of a loop take for granted, and may do what they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfloop.cluster.doctor.findings import ABSENT, Case, Finding, SettledError, ask, bad, looking, well

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
KEYS = ("MLFLOW_TRACKING_URI", "SELFLOOP_STORE", "SELFLOOP_KFP_ENDPOINT")
"""What the ConfigMap must hold; the other keys depend on the store."""
LEASES = [(verb, "coordination.k8s.io", "leases", "") for verb in ("get", "create", "update")]
ACROSS_NODES = [
    *((verb, "trainer.kubeflow.org", "trainjobs", "") for verb in ("get", "create", "delete")),
    *((verb, "", "pods", "") for verb in ("get", "list")),
    ("get", "", "pods", "log"),
    ("list", "", "events", ""),
]
RUNS = [(verb, "pipelines.kubeflow.org", "runs", "") for verb in ("get", "list", "create")]
"""What a KFP for many users asks for: ``resolve`` asks of runs, and ``relay`` looks for the next one and begins it."""
INSTALL = "install selfloop there: kubectl apply -k manifests/overlays/..."


def check_namespace(case: Case) -> Iterator[Finding]:
    """That it is there and is not being deleted."""
    from kubernetes.client import CoreV1Api

    subject = f"namespace {case.namespace}"
    with looking(subject, INSTALL, "get namespaces"):
        phase = ask(CoreV1Api(case.asked.api).read_namespace, case.namespace).status.phase
    if phase != "Active":
        yield bad(subject, f"is {phase}", "wait until it is gone, then make it anew")
        return
    yield well(subject, f"is there, says {case.asked.host}")


def check_account(case: Case) -> Iterator[Finding]:
    """That the service account of the stages is there."""
    from kubernetes.client import CoreV1Api

    name = case.profile.cluster.service_account
    subject = f"service account {name}"
    with looking(subject, INSTALL, "get serviceaccounts"):
        ask(CoreV1Api(case.asked.api).read_namespaced_service_account, name, case.namespace)
    yield well(subject, "is there")


def check_config(case: Case) -> Iterator[Finding]:
    """That the ConfigMap says where MLflow, the store and KFP are."""
    from kubernetes.client import CoreV1Api

    name = case.profile.cluster.config_map
    if not name:
        return
    subject = f"config map {name}"
    with looking(subject, INSTALL, "get configmaps"):
        found = ask(CoreV1Api(case.asked.api).read_namespaced_config_map, name, case.namespace).data or {}
    lacking = [key for key in KEYS if not found.get(key)]
    if lacking:
        yield bad(subject, f"lacks {', '.join(lacking)}", f"set it: {case.here(f'edit configmap {name}')}")
    else:
        yield well(subject, f"has {', '.join(sorted(found))}")


def check_secrets(case: Case) -> Iterator[Finding]:
    """That the Secrets are there. Only their names are asked for: no value leaves the API server."""
    from kubernetes.client import ApiClient, CoreV1Api

    names_only = CoreV1Api(ApiClient(case.asked.api.configuration, "Accept", METADATA_ONLY))
    for name, (kind, is_optional) in _secrets(case.profile).items():
        subject = f"secret {name}"
        try:
            with looking(subject, f"make it: {case.here(f'create secret {kind}')}", "get secrets"):
                ask(names_only.read_namespaced_secret, name, case.namespace)
            yield well(subject, "is there; what it holds was not looked at")
        except SettledError as settled:
            if settled.finding.state == "unseen":
                yield settled.finding._replace(subject="secrets")
                return
            is_missed = settled.finding.found != ABSENT or not is_optional
            yield settled.finding if is_missed else well(subject, f"{ABSENT}; loops run without it")


def _secrets(profile: Any) -> dict[str, tuple[str, bool]]:
    """The Secrets of a profile: how each is made, from a file so that no value stands in a shell's history, and whether
    pods start without it.
    """
    own = {
        secret.name: (f"generic {secret.name} --from-env-file=FILE, with {', '.join(secret.keys)}", secret.optional)
        for secret in profile.cluster.secrets
    }
    pulling = profile.registry.pull_secrets
    return own | {name: (f"docker-registry {name} --from-file=.dockerconfigjson=FILE", False) for name in pulling}


def check_volume(case: Case) -> Iterator[Finding]:
    """That the claim of the models' cache is bound, or will be by the first pod that uses it."""
    from kubernetes.client import CoreV1Api, StorageV1Api

    name = case.profile.cluster.cache_claim
    if not name:
        return
    subject = f"volume {name}"
    with looking(subject, INSTALL, "get persistentvolumeclaims"):
        claim = ask(CoreV1Api(case.asked.api).read_namespaced_persistent_volume_claim, name, case.namespace)
    phase, kind = claim.status.phase, claim.spec.storage_class_name
    if phase == "Bound":
        yield well(subject, f"is bound: {claim.status.capacity['storage']}, {', '.join(claim.status.access_modes)}")
        return
    remedy = f"see why: {case.here(f'describe pvc {name}')}"
    if phase != "Pending" or not kind:
        why = f"is {phase}" if kind else f"is {phase}, names no storage class and the cluster has no default"
        yield bad(subject, why, remedy)
        return
    with looking(f"storage class {kind}", f"name one that there is in {name}", "get storageclasses"):
        found = ask(StorageV1Api(case.asked.api).read_storage_class, kind)
    if found.volume_binding_mode == "WaitForFirstConsumer":
        yield well(subject, f"is bound when the first pod uses it (storage class {kind})")
    else:
        yield bad(subject, f"is not bound (storage class {kind})", remedy)


def check_rights(case: Case) -> Iterator[Finding]:
    """That the stages' service account may hold Leases and, where training spans nodes, start TrainJobs."""
    yield _right(case, "right to leases", LEASES, "manifests/base")
    if any(values.get("nodes", 1) > 1 for values in case.profile.settings.values()):
        yield _right(case, "right to trainjobs", ACROSS_NODES, "manifests/base")


def check_right_to_runs(case: Case) -> Iterator[Finding]:
    """That the stages' service account may ask KFP of runs, and begin the one that continues a loop."""
    yield _right(case, "right to runs", RUNS, "manifests/overlays/kubeflow")


def _right(case: Case, subject: str, rights: list[tuple[str, str, str, str]], roles: str) -> Finding:
    """Whether the stages' service account has some rights, which stand in the roles of a folder."""
    account = case.profile.cluster.service_account
    try:
        whose, denied = _denied(case, account, subject, rights)
    except SettledError as settled:
        return settled.finding
    if denied:
        remedy = f"bind the roles of {roles} to service account {account}"
        return bad(subject, f"{whose} may not {', '.join(denied)}", remedy)
    return well(subject, f"{whose} has it")


def _denied(case: Case, account: str, subject: str, rights: list[tuple[str, str, str, str]]) -> tuple[str, list[str]]:
    """Whose rights were asked for, and which of them it does not have.

    Asked of the stages' account where one may ask that; of itself from a pod, which may be run as that account.
    """
    from kubernetes.client.exceptions import ApiException

    whose, review = f"service account {account}", _review_of_account
    denied = []
    for verb, group, resource, part in rights:
        about = {"namespace": case.namespace, "verb": verb, "group": group, "resource": resource}
        about |= {"subresource": part} if part else {}
        with looking(subject, INSTALL, "create localsubjectaccessreviews"):
            try:
                allowed = review(case, account, about)
            except ApiException as error:
                if error.status != 403 or not case.is_in_pod:
                    raise
                whose, review = "this pod's account", _review_of_itself
                allowed = review(case, account, about)
        if not allowed:
            denied.append(f"{verb} {resource}{'/' * bool(part)}{part}")
    return whose, denied


def _review_of_account(case: Case, account: str, about: dict[str, str]) -> bool:
    from kubernetes.client import AuthorizationV1Api

    spec = {
        "user": f"system:serviceaccount:{case.namespace}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{case.namespace}", "system:authenticated"],
        "resourceAttributes": about,
    }
    body = _reviewed("LocalSubjectAccessReview", spec) | {"metadata": {"namespace": case.namespace}}
    api = AuthorizationV1Api(case.asked.api)
    return bool(ask(api.create_namespaced_local_subject_access_review, case.namespace, body).status.allowed)


def _review_of_itself(case: Case, account: str, about: dict[str, str]) -> bool:
    from kubernetes.client import AuthorizationV1Api

    body = _reviewed("SelfSubjectAccessReview", {"resourceAttributes": about})
    return bool(ask(AuthorizationV1Api(case.asked.api).create_self_subject_access_review, body).status.allowed)


def _reviewed(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
