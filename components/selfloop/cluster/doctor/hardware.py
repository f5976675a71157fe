"""Whether the cluster has what a profile asks for: nodes, quota, a queue, a runtime for training across nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, NamedTuple

from selfloop.cluster.doctor.findings import Case, Finding, ask, bad, looking, well
from selfloop.cluster.doctor.namespace import INSTALL
from selfloop.stages import stages

KUEUE, KUEUE_VERSIONS = "kueue.x-k8s.io", ("v1beta2", "v1beta1")
PROFILES, NODES = "selfloop-seccomp", "selfloop-nodes"
"""The DaemonSet that writes the profile to each node, and its namespace."""
SANDBOX = "kubectl apply -k manifests/base/sandbox"
TRAINER, TRAINER_VERSION, RUNTIME = "trainer.kubeflow.org", "v1alpha1", "selfloop-torch"


class Demand(NamedTuple):
    """What the pods of stages ask for, by Kubernetes' names of resources, how many at once, and where they may run."""

    stages: list[str]
    resources: dict[str, str]
    pods: int
    selector: dict[str, str]
    tolerations: list[Any]
    queue: str

    def __str__(self) -> str:
        asked = ", ".join(f"{amount} {name}" for name, amount in self.resources.items())
        named = ", ".join(self.stages[:3]) + ", ..." * (len(self.stages) > 3)
        return f"{named} ({f'{self.pods} x ' if self.pods > 1 else ''}{asked})"


def demands(profile: Any) -> list[Demand]:
    """What a profile asks for its stages, those that ask the same together; the largest first."""
    found: dict[str, Demand] = {}
    for stage in stages().values():
        asked = profile.resources(stage)
        resources = {asked.accelerator: str(asked.gpu)} if asked.gpu else {}
        resources |= {"cpu": asked.cpu, "memory": asked.memory}
        resources |= {"ephemeral-storage": asked.ephemeral_storage} if asked.ephemeral_storage else {}
        pods = int(profile.settings.get(stage.verb, {}).get("nodes", 1))
        made = Demand([], resources, pods, asked.node_selector, asked.tolerations, asked.queue)
        known = found.setdefault(repr(made), made)
        known.stages.extend({stage.verb} - {*known.stages})
    return sorted(found.values(), key=_size, reverse=True)


def _size(demand: Demand) -> tuple[bool, Decimal]:
    has_gpu = not {"cpu", "memory", "ephemeral-storage"} >= demand.resources.keys()
    return has_gpu, amount(demand.resources["memory"]) * demand.pods


def amount(quantity: str | int) -> Decimal:
    """A quantity of Kubernetes', such as 500m or 2Gi."""
    from kubernetes.utils import parse_quantity

    return Decimal(parse_quantity(str(quantity)))


def check_nodes(case: Case) -> Iterator[Finding]:
    """That there are nodes on which the pod of each stage can run, as many as it spans."""
    from kubernetes.client import CoreV1Api

    subject = "nodes"
    with looking(subject, "", "list nodes"):
        nodes = ask(CoreV1Api(case.asked.api).list_node).items
    asked = demands(case.profile)
    for demand in asked:
        fitting = [node for node in nodes if fits(node, demand)]
        if len(fitting) < demand.pods:
            what = f"{len(fitting) or 'none'} of {len(nodes)} takes {demand}; {_most(nodes, demand)}"
            yield bad(subject, what, "add nodes (an autoscaler's are not seen), or choose a smaller --profile")
    if all(sum(fits(node, demand) for node in nodes) >= demand.pods for demand in asked):
        yield well(subject, f"{sum(fits(node, asked[0]) for node in nodes)} of {len(nodes)} can take {asked[0]}")


def fits(node: Any, demand: Demand) -> bool:
    """Whether a node can take a pod where nothing else runs on it."""
    labels, taints = node.metadata.labels or {}, node.spec.taints or []
    return (
        not node.spec.unschedulable
        and labels.items() >= demand.selector.items()
        and all(any(tolerates(each, taint) for each in demand.tolerations) for taint in taints if is_barrier(taint))
        and not short_of(node.status.allocatable, demand.resources)
    )


def is_barrier(taint: Any) -> bool:
    """Whether a taint keeps pods away that do not tolerate it."""
    return taint.effect in ("NoSchedule", "NoExecute")


def tolerates(toleration: Any, taint: Any) -> bool:
    """Whether a toleration lets a pod onto a node with a taint."""
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.effect and toleration.effect != taint.effect:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")


def short_of(there: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    """The names of the resources of which there is less than is asked for."""
    return [name for name, least in asked.items() if amount(there.get(name, "0")) < amount(least)]


def _most(nodes: list[Any], demand: Demand) -> str:
    """The most that one node has of what is asked for."""
    has = {
        name: max((node.status.allocatable.get(name, "0") for node in nodes), key=amount, default="0")
        for name in demand.resources
    }
    return "the most that one has: " + ", ".join(f"{quantity} {name}" for name, quantity in has.items())


def check_quota(case: Case) -> Iterator[Finding]:
    """That the namespace's quotas leave room for the largest pod of the profile."""
    from kubernetes.client import CoreV1Api

    subject = "quota"
    with looking(subject, INSTALL, "list resourcequotas"):
        quotas = ask(CoreV1Api(case.asked.api).list_namespaced_resource_quota, case.namespace).items
    if not quotas:
        yield well(subject, "the namespace has none")
    for quota in quotas:
        hard, used = quota.status.hard or quota.spec.hard or {}, quota.status.used or {}
        over = [
            f"{ceiling} is less than {demand}" for demand in demands(case.profile) for ceiling in _beyond(hard, demand)
        ]
        named = f"quota {quota.metadata.name}"
        if over:
            remedy = (
                f"raise it: {case.here(f'edit resourcequota {quota.metadata.name}')}, or choose a smaller --profile"
            )
            yield bad(named, f"has no room for {over[0]}", remedy)
        else:
            full = [name for name, most in hard.items() if amount(used.get(name, "0")) >= amount(most) > 0]
            yield well(named, f"full for now: {', '.join(full)}" if full else "has room for every stage")


def _beyond(hard: Mapping[str, str], demand: Demand) -> list[str]:
    """The ceilings that a demand does not fit under, in words with it."""
    asked = {name: amount(quantity) * demand.pods for name, quantity in demand.resources.items()}
    return [
        f"{ceiling} {most} is less than {demand}"
        for ceiling, most in hard.items()
        if asked.get(ceiling.removeprefix("requests.").removeprefix("limits."), Decimal(0)) > amount(most)
    ]


def check_queue(case: Case) -> Iterator[Finding]:
    """That Kueue has the queues that the profile names, that they admit, and with enough for the largest pod."""
    asked = demands(case.profile)
    for queue in sorted({demand.queue for demand in asked if demand.queue}):
        yield _queue(case, queue, [demand for demand in asked if demand.queue == queue])


def _queue(case: Case, queue: str, asked: list[Demand]) -> Finding:
    subject = f"queue {queue}"
    remedy = "install Kueue and manifests/components/kueue, or let 'queue' of the profile be empty"
    with looking(subject, remedy, "get localqueues"):
        found, version = _of_kueue(case, "localqueues", queue)
    name = found["spec"]["clusterQueue"]
    active = next((each for each in found.get("status", {}).get("conditions", []) if each["type"] == "Active"), None)
    if active and active["status"] != "True":
        return bad(
            subject, f"does not admit: {active.get('message', '')}", f"see 'kubectl describe clusterqueue {name}'"
        )
    with looking(f"cluster queue {name}", f"make it, as manifests/components/kueue does: {queue} names it", "get it"):
        whole, _ = _of_kueue(case, "clusterqueues", name, version)
    quota: dict[str, Decimal] = {}
    flavors = [flavor for group in whole["spec"].get("resourceGroups", []) for flavor in group["flavors"]]
    for each in (resource for flavor in flavors for resource in flavor["resources"]):
        quota[each["name"]] = quota.get(each["name"], Decimal(0)) + amount(each["nominalQuota"])
    there = {resource: str(quantity) for resource, quantity in quota.items()}
    lacking = {str(demand): lack for demand in asked if (lack := short_of(there, demand.resources))}
    if lacking and not whole["spec"].get("cohort") and not whole["spec"].get("cohortName"):
        demand, names = next(iter(lacking.items()))
        return bad(subject, f"has not enough {', '.join(names)} for {demand}", f"raise nominalQuota of {name}")
    return well(subject, f"admits into {name}")


def _of_kueue(case: Case, plural: str, name: str, *versions: str) -> tuple[dict[str, Any], str]:
    """An object of Kueue's in the newest version that the cluster serves, and that version."""
    from kubernetes.client import CustomObjectsApi
    from kubernetes.client.exceptions import ApiException

    api, known = CustomObjectsApi(case.asked.api), versions or KUEUE_VERSIONS
    for version in known:
        try:
            if plural == "clusterqueues":
                return ask(api.get_cluster_custom_object, KUEUE, version, plural, name), version
            return ask(api.get_namespaced_custom_object, KUEUE, version, case.namespace, plural, name), version
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND or version == known[-1]:
                raise
    raise AssertionError


def check_seccomp(case: Case) -> Iterator[Finding]:
    """That each node has the seccomp profile without which no pod starts that asks for it."""
    from kubernetes.client import AppsV1Api

    subject = "seccomp profile"
    with looking(subject, f"for generated code: {SANDBOX}, or copy it to each node by hand", "get daemonsets"):
        found = ask(AppsV1Api(case.asked.api).read_namespaced_daemon_set, PROFILES, NODES).status
    wanted, ready = found.desired_number_scheduled, found.number_ready
    if ready < wanted:
        what = f"is on {ready} of {wanted} nodes: pods that may run generated code do not start on the others"
        yield bad(subject, what, f"see why: kubectl -n {NODES} describe pods")
    else:
        yield well(subject, f"is on {ready} of {wanted} nodes")


def check_runtime(case: Case) -> Iterator[Finding]:
    """That the Trainer has the runtime, where the profile trains across nodes."""
    from kubernetes.client import CustomObjectsApi

    if all(demand.pods == 1 for demand in demands(case.profile)):
        return
    subject = f"runtime {RUNTIME}"
    remedy = "install Kubeflow's Trainer and manifests/base/runtimes"
    api = CustomObjectsApi(case.asked.api)
    with looking(subject, remedy, "get trainingruntimes"):
        ask(
            api.get_namespaced_custom_object,
            TRAINER,
            TRAINER_VERSION,
            case.namespace,
            "trainingruntimes",
            RUNTIME,
        )
    yield well(subject, "is there")
