"""The doctor: whether a cluster, and a laptop itself, has everything that a loop needs, from there or inside a pod.

A check yields findings; it has ten seconds, and one that fails hides no other. What it asks of the Kubernetes API, with
the account of whoever runs it:

- get namespaces, serviceaccounts, configmaps, persistentvolumeclaims, and the metadata of secrets
- list resourcequotas, and nodes (of the whole cluster)
- get daemonsets.apps, of the namespace selfloop-nodes
- get storageclasses.storage.k8s.io (of the whole cluster), where the volume is not bound yet
- get localqueues.kueue.x-k8s.io and clusterqueues.kueue.x-k8s.io (of the whole cluster), where the profile has a queue
- get trainingruntimes.trainer.kubeflow.org, where the profile trains across nodes
- create localsubjectaccessreviews.authorization.k8s.io; selfsubjectaccessreviews.authorization.k8s.io in a pod that may
  not do that

What the account may not look at is a finding that says so, and no fault.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib import import_module
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from selfloop.cluster.access import NEVER, of_person, of_pod
from selfloop.cluster.doctor import hardware, machine, namespace, services
from selfloop.cluster.doctor.findings import Case, Check, Finding, SettledError, bad, of_sentence, unseen
from selfloop.errors import UserError
from selfloop.lineage.tracking import without_password
from selfloop.lookup import unknown
from selfloop.profiles import find_profile

__all__ = ["Case", "Finding", "case_of", "examine"]

NAMESPACE = "selfloop"
LIMIT_S = 10.0
SLOW = ("kfp_server_api", "kubernetes.client", "mlflow", "minio")
"""What takes long to import, which is done before the checks' time begins."""
FROM_HERE: dict[str, Check] = {
    "KFP": services.check_kfp,
    "MLflow": services.check_mlflow,
    "store": services.check_store,
    "images": services.check_images,
    "sandbox": services.check_sandbox,
    "notifications": services.check_notifications,
    "machine": machine.check_machine,
}
FIRST: dict[str, Check] = {"namespace": namespace.check_namespace}
"""Without this one, the others on the cluster would all say the same."""
ON_THE_CLUSTER: dict[str, Check] = {
    "service account": namespace.check_account,
    "config map": namespace.check_config,
    "secrets": namespace.check_secrets,
    "volume": namespace.check_volume,
    "rights": namespace.check_rights,
    "quota": hardware.check_quota,
    "queue": hardware.check_queue,
    "runtime": hardware.check_runtime,
    "nodes": hardware.check_nodes,
    "seccomp profile": hardware.check_seccomp,
}
CLUSTER = "Kubernetes"


def case_of(
    namespace: str | None, profile: str, kfp: str | None, tracking_uri: str | None, store: str | None, in_pod: bool
) -> Case:
    """A case for what a person named; in a pod, the namespace and the way to the cluster are the pod's own."""
    access, trouble = None, ""
    try:
        access = of_pod(NEVER) if in_pod else of_person(namespace, NEVER)
    except UserError as error:
        trouble = str(error)
    place = namespace or (access.namespace if access and in_pod else NAMESPACE)
    found = find_profile(profile)
    return Case(place, found, kfp or "", tracking_uri or "", store or "", in_pod, access, trouble)


def examine(case: Case, only: Collection[str] = (), skip: Collection[str] = ()) -> list[Finding]:
    """All findings, in the order in which a person mends them; where checks are named, of these only, or not of these.

    Raises ``UserError`` for a check that there is none of.
    """
    for name in (*only, *skip):
        if name not in ON_THE_CLUSTER | FROM_HERE:
            raise unknown("check", name, ON_THE_CLUSTER | FROM_HERE)
    here, there = (
        {name: check for name, check in checks.items() if name not in skip and (not only or name in only)}
        for checks in (FROM_HERE, ON_THE_CLUSTER)
    )
    for name in SLOW:
        with suppress(ImportError):  # what lacks it is found where it is needed
            import_module(name)
    if not there:
        return _made(here, case)
    if case.access is None:
        return [of_sentence(CLUSTER, UserError(case.trouble)), *_made(here, case)]
    first = _made(FIRST | here, case)
    if first[0].state == "bad":
        rest = [unseen(CLUSTER, f"not looked at: {', '.join(there)}", "mend the namespace first")]
    else:
        rest = _made(there, case)
    return [*first[:1], *rest, *first[1:]]


def _made(checks: dict[str, Check], case: Case) -> list[Finding]:
    """What checks find that are made at once, in their order."""
    results = {name: _begun(check, name, case) for name, check in checks.items()}
    until = monotonic() + LIMIT_S
    found: list[Finding] = []
    for name, result in results.items():
        try:
            found += result.get(timeout=max(until - monotonic(), 0))
        except Empty:
            found.append(
                bad(name, f"no answer within {LIMIT_S:g} s", "check the network, firewalls and NetworkPolicies")
            )
    return found


def _begun(check: Check, name: str, case: Case) -> SimpleQueue[Sequence[Finding]]:
    """A check at work in a thread, which is left behind where it takes too long."""
    result = SimpleQueue[Sequence[Finding]]()
    Thread(target=lambda: result.put(_settled(check, name, case)), daemon=True).start()
    return result


def _settled(check: Check, name: str, case: Case) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += check(case)
    except SettledError as settled:
        found.append(settled.finding)
    except UserError as error:
        found.append(of_sentence(name, error))
    except ImportError as error:
        found.append(unseen(name, f"not from here, which lacks the package {error.name}", "pip install it"))
    except Exception as error:  # a fault of one check, ours or a library's, hides no other
        why = without_password((str(error).splitlines() or [""])[0])[:160]
        found.append(bad(name, f"could not be looked at ({type(error).__name__}: {why})", "tell who wrote selfloop"))
    return found
