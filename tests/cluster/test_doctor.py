"""The doctor, on an API server and services that are well, and on each of them spoilt."""

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selfloop.cluster import doctor
from selfloop.cluster.doctor import Case, Finding, case_of, examine
from selfloop.cluster.doctor.findings import bad, well
from selfloop.cluster.doctor.hardware import tolerates
from selfloop.sandbox import isolation

from .. import forked
from ..servers import mlflow_server
from . import kubernetes_api
from .kubernetes_api import METADATA_ONLY, NAMESPACE, Fault, KubernetesApi

pytestmark = pytest.mark.slow

kubernetes, access, pod = kubernetes_api.kubernetes, kubernetes_api.access, kubernetes_api.pod

CORE = f"/api/v1/namespaces/{NAMESPACE}"
CLAIM = f"{CORE}/persistentvolumeclaims/selfloop-models"
PROFILES = "/apis/apps/v1/namespaces/selfloop-nodes/daemonsets/selfloop-seccomp"
QUOTA = f"{CORE}/resourcequotas/selfloop"
KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
QUEUE, CLUSTER_QUEUE = f"{KUEUE}/namespaces/{NAMESPACE}/localqueues/selfloop", f"{KUEUE}/clusterqueues/selfloop"
RUNTIME = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainingruntimes/selfloop-torch"
VALUE = "dGhlLXZhbHVlLW9mLWEtc2VjcmV0"
GPU = "nvidia.com/gpu"
GPU_PROFILE = "eight-gpu"
MACHINE = ["torch", "threads", "bubblewrap", "disk"]
"""What is looked at of a laptop itself."""
KINDS = {
    "clusterqueues",
    "configmaps",
    "daemonsets",
    "events",
    "leases",
    "localqueues",
    "localsubjectaccessreviews",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "pods",
    "resourcequotas",
    "secrets",
    "selfsubjectaccessreviews",
    "serviceaccounts",
    "storageclasses",
    "trainingruntimes",
    "trainjobs",
}
"""What selfloop as a whole has to do with."""
ADDRESSES = ("SELFLOOP_KFP_ENDPOINT", "SELFLOOP_NAMESPACE", "SELFLOOP_WEBHOOK_URL", "KUBERNETES_SERVICE_HOST")

Spoil = Callable[[KubernetesApi], Any]


def _node(gpus: int = 8, **spec: Any) -> dict[str, Any]:
    there = {"cpu": "127900m", "memory": "1056000Mi", "ephemeral-storage": "1900Gi", GPU: str(gpus)}
    return {"metadata": {"labels": {"zone": "a"}}, "spec": spec, "status": {"allocatable": there}}


def _queues(gpus: int = 16) -> dict[str, Any]:
    quota = {"cpu": "256", "memory": "2Ti", "ephemeral-storage": "2Ti", GPU: gpus}
    flavor = {"name": "all", "resources": [{"name": name, "nominalQuota": most} for name, most in quota.items()]}
    return {
        QUEUE: {
            "spec": {"clusterQueue": "selfloop"},
            "status": {"conditions": [{"type": "Active", "status": "True"}]},
        },
        CLUSTER_QUEUE: {"spec": {"resourceGroups": [{"coveredResources": [*quota], "flavors": [flavor]}]}},
    }


INACTIVE = {
    "spec": {"clusterQueue": "selfloop"},
    "status": {"conditions": [{"type": "Active", "status": "False", "message": "no cluster queue"}]},
}


def _quota(**hard: str) -> dict[str, Any]:
    return {"spec": {"hard": hard}, "status": {"hard": hard, "used": dict.fromkeys(hard, "1")}}


def _profiles(ready: int) -> dict[str, Any]:
    """The DaemonSet that writes the profile to two nodes."""
    counts = {"currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": ready}
    return {"status": counts}


@pytest.fixture
def cluster(kubernetes: KubernetesApi, access: Any) -> KubernetesApi:
    """A cluster that has everything."""
    addresses = {"MLFLOW_TRACKING_URI": "http://m", "SELFLOOP_STORE": "s3://b/p", "SELFLOOP_KFP_ENDPOINT": "http://k"}
    bound = {"phase": "Bound", "capacity": {"storage": "200Gi"}, "accessModes": ["ReadWriteMany"]}
    for path, made in {
        f"{CORE}/serviceaccounts/selfloop": {},
        f"{CORE}/configmaps/selfloop-config": {"data": addresses},
        f"{CORE}/secrets/selfloop-s3": {"data": {"AWS_SECRET_ACCESS_KEY": VALUE}},
        CLAIM: {"spec": {"storageClassName": "fast"}, "status": bound},
        QUOTA: _quota(**{"requests.cpu": "512", "requests.memory": "4Ti", f"requests.{GPU}": "16", "pods": "200"}),
        **_queues(),
        RUNTIME: {},
        PROFILES: _profiles(2),
        "/api/v1/nodes/one": _node(),
        "/api/v1/nodes/two": _node(taints=[{"key": GPU, "effect": "NoSchedule"}]),
    }.items():
        kubernetes.put(path, made)
    return kubernetes


@pytest.fixture(autouse=True)
def _nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ADDRESSES:
        monkeypatch.delenv(name, raising=False)


def _case(profile: str = GPU_PROFILE, kfp: str = "", tracking: str = "", store: str = "", in_pod: bool = False) -> Case:
    return case_of(NAMESPACE, profile, kfp, tracking, store, in_pod)


def _across_nodes(case: Case, nodes: int = 2) -> Case:
    """The case of a profile that trains across nodes."""
    settings = {**case.profile.settings, "finetune": {"nodes": nodes}}
    return dataclasses.replace(case, profile=case.profile.model_copy(update={"settings": settings}))


def _found(case: Case, subject: str) -> Finding:
    found = [finding for finding in examine(case) if finding.subject == subject]
    assert len(found) == 1, found
    return found[0]


def test_a_cluster_that_has_everything_is_well(cluster: KubernetesApi) -> None:
    found = examine(_across_nodes(_case()))
    states = {finding.subject: finding.state for finding in found}
    assert "bad" not in states.values(), [finding for finding in found if finding.state == "bad"]
    assert [states.pop(name) for name in MACHINE] == ["well"] * 4
    on_laptop = {name for name, state in states.items() if state == "unseen"}
    assert on_laptop == {"KFP", "MLflow", "store", "images", "sandbox", "notifications"}
    assert [name for name, state in states.items() if state == "well"] == [
        f"namespace {NAMESPACE}",
        "service account selfloop",
        "config map selfloop-config",
        "secret selfloop-s3",
        "secret selfloop-mlflow",
        "secret selfloop-hub",
        "secret selfloop-webhook",
        "volume selfloop-models",
        "right to leases",
        "right to trainjobs",
        "quota selfloop",
        "queue selfloop",
        "runtime selfloop-torch",
        "nodes",
        "seccomp profile",
    ]


def test_it_asks_for_what_it_says_that_it_asks_for(cluster: KubernetesApi) -> None:
    cluster.put(CLAIM, {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}})
    cluster.put("/apis/storage.k8s.io/v1/storageclasses/fast", {"provisioner": "x"})
    examine(_across_nodes(_case()))
    found = {kubernetes_api.parsed(path)[0] for _, path, _ in cluster.calls}
    told = set(re.findall(r"[a-z]+", str(doctor.__doc__).partition("of whoever runs it:")[2]))
    assert found | {"selfsubjectaccessreviews"} == told & KINDS


def test_no_value_of_a_secret_is_asked_for(cluster: KubernetesApi) -> None:
    found = examine(_case())
    asked = [accept for _, path, accept in cluster.calls if "/secrets/" in path]
    assert len(asked) == 4
    assert all(METADATA_ONLY in accept for accept in asked)
    assert VALUE not in str(found)


@pytest.mark.parametrize(
    ("spoil", "subject", "found", "remedy"),
    [
        (
            lambda api: api.put(CORE, {"status": {"phase": "Terminating"}}),
            f"namespace {NAMESPACE}",
            "is Terminating",
            "make it anew",
        ),
        (
            lambda api: api.objects.pop(f"{CORE}/serviceaccounts/selfloop"),
            "service account selfloop",
            "is not there",
            "kubectl apply -k",
        ),
        (
            lambda api: api.objects.pop(f"{CORE}/configmaps/selfloop-config"),
            "config map selfloop-config",
            "is not there",
            "kubectl apply -k",
        ),
        (
            lambda api: api.put(f"{CORE}/configmaps/selfloop-config", {"data": {"SELFLOOP_STORE": "s3://b"}}),
            "config map selfloop-config",
            "lacks MLFLOW_TRACKING_URI, SELFLOOP_KFP_ENDPOINT",
            "edit configmap selfloop-config",
        ),
        (
            lambda api: api.objects.pop(f"{CORE}/secrets/selfloop-s3"),
            "secret selfloop-s3",
            "is not there",
            "create secret generic selfloop-s3 --from-env-file=FILE, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        ),
        (
            lambda api: api.faults.append(Fault(path="/secrets/selfloop-hub", status=500)),
            "secret selfloop-hub",
            "the Kubernetes API says 500",
            "ask who runs the cluster",
        ),
        (lambda api: api.objects.pop(CLAIM), "volume selfloop-models", "is not there", "kubectl apply -k"),
        (
            lambda api: api.objects.pop(PROFILES),
            "seccomp profile",
            "is not there",
            "for generated code: kubectl apply -k manifests/base/sandbox, or copy it to each node by hand",
        ),
        (
            lambda api: api.put(PROFILES, _profiles(1)),
            "seccomp profile",
            "is on 1 of 2 nodes: pods that may run generated code do not start on the others",
            "kubectl -n selfloop-nodes describe pods",
        ),
        (
            lambda api: api.put(CLAIM, {"spec": {}, "status": {"phase": "Pending"}}),
            "volume selfloop-models",
            "names no storage class and the cluster has no default",
            "describe pvc selfloop-models",
        ),
        (
            lambda api: api.put(CLAIM, {"spec": {"storageClassName": "slow"}, "status": {"phase": "Pending"}}),
            "storage class slow",
            "is not there",
            "name one that there is",
        ),
        (
            lambda api: (
                api.put(CLAIM, {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}),
                api.put("/apis/storage.k8s.io/v1/storageclasses/fast", {"provisioner": "x"}),
            ),
            "volume selfloop-models",
            r"is not bound \(storage class fast\)",
            "describe pvc selfloop-models",
        ),
        (
            lambda api: api.denied_to_stages.update({("create", "leases"), ("update", "leases")}),
            "right to leases",
            "service account selfloop may not create leases, update leases",
            "bind the roles",
        ),
        (
            lambda api: api.denied_to_stages.update({("get", "pods/log")}),
            "right to trainjobs",
            "may not get pods/log",
            "bind the roles",
        ),
        (
            lambda api: api.put(QUOTA, _quota(**{f"requests.{GPU}": "0"})),
            "quota selfloop",
            rf"requests.{GPU} 0 is less than .*8 {GPU}.*",
            "edit resourcequota selfloop",
        ),
        (
            lambda api: api.put(QUOTA, _quota(**{"limits.memory": "100Gi"})),
            "quota selfloop",
            "limits.memory 100Gi is less than .*512Gi memory",
            "smaller --profile",
        ),
        (lambda api: api.objects.pop(QUEUE), "queue selfloop", "is not there", "manifests/components/kueue"),
        (lambda api: api.absent.add("kueue.x-k8s.io"), "queue selfloop", "is not there", "install Kueue"),
        (
            lambda api: api.put(QUEUE, INACTIVE),
            "queue selfloop",
            "does not admit: no cluster queue",
            "describe clusterqueue selfloop",
        ),
        (lambda api: api.objects.pop(CLUSTER_QUEUE), "cluster queue selfloop", "is not there", "make it"),
        (
            lambda api: api.objects.update(_queues(gpus=4)),
            "queue selfloop",
            rf"has not enough {GPU} for .*8 {GPU}, 64 cpu",
            "raise nominalQuota of selfloop",
        ),
        (
            lambda api: api.absent.add("trainer.kubeflow.org"),
            "runtime selfloop-torch",
            "is not there",
            "install Kubeflow's Trainer",
        ),
        (
            lambda api: api.objects.pop("/api/v1/nodes/two"),
            "nodes",
            rf"1 of 1 takes finetune \(2 x 8 {GPU}, 64 cpu, 512Gi memory, 256Gi ephemeral-storage\)",
            "add nodes",
        ),
        (
            lambda api: [api.put(f"/api/v1/nodes/{name}", _node(gpus=4)) for name in ("one", "two")],
            "nodes",
            f"none of 2 takes .* the most that one has: 4 {GPU}, 127900m cpu, 1056000Mi memory, 1900Gi",
            "smaller --profile",
        ),
        (
            lambda api: api.put("/api/v1/nodes/two", _node(unschedulable=True)),
            "nodes",
            "1 of 2 takes finetune",
            "add nodes",
        ),
        (
            lambda api: api.put("/api/v1/nodes/two", _node(taints=[{"key": "mine", "effect": "NoExecute"}])),
            "nodes",
            "1 of 2 takes finetune",
            "add nodes",
        ),
    ],
)
def test_what_is_missing_is_found_with_its_remedy(
    cluster: KubernetesApi, spoil: Spoil, subject: str, found: str, remedy: str
) -> None:
    spoil(cluster)
    all_found = [finding for finding in examine(_across_nodes(_case())) if finding.state == "bad"]
    assert {finding.subject for finding in all_found} == {subject}
    assert re.search(found, all_found[0].found), all_found
    assert remedy in all_found[0].remedy, all_found


def test_the_secret_that_a_registry_wants_must_be_there(cluster: KubernetesApi) -> None:
    case = _case()
    registry = case.profile.registry.model_copy(update={"pull_secrets": ["harbor"]})
    case = dataclasses.replace(case, profile=case.profile.model_copy(update={"registry": registry}))
    found = _found(case, "secret harbor")
    assert (found.state, found.found) == ("bad", "is not there")
    assert "create secret docker-registry harbor" in found.remedy
    cluster.put(f"{CORE}/secrets/harbor", {})
    assert _found(case, "secret harbor").state == "well"


@pytest.mark.parametrize("kind", ["serviceaccounts", "secrets", "nodes", "resourcequotas", "localqueues", "namespaces"])
def test_what_may_not_be_looked_at_is_no_fault(cluster: KubernetesApi, kind: str) -> None:
    cluster.denied |= {("get", kind), ("list", kind)}
    found = examine(_case())
    assert all(finding.state != "bad" for finding in found)
    verb = "list" if kind in ("nodes", "resourcequotas") else "get"
    assert any(finding.found == f"this account may not {verb} {kind}" for finding in found if finding.state == "unseen")


def test_a_namespace_that_is_not_there_is_said_once(cluster: KubernetesApi) -> None:
    del cluster.objects[CORE]
    found = [finding for finding in examine(_case()) if finding.state == "bad"]
    assert [(each.subject, each.found) for each in found] == [(f"namespace {NAMESPACE}", "is not there")]
    assert {path for _, path, _ in cluster.calls} == {CORE}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=401, times=9), "the Kubernetes API says 401 Unauthorized"),
        (Fault(status=500, times=9), "500 Internal Server Error: planted"),
        (Fault(times=9), "the Kubernetes API does not answer"),
    ],
)
def test_an_api_server_that_is_not_well_is_said_once(cluster: KubernetesApi, fault: Fault, said: str) -> None:
    cluster.faults.append(fault)
    found = [finding for finding in examine(_case()) if finding.state == "bad"]
    assert [finding.subject for finding in found] == [f"namespace {NAMESPACE}"]
    assert said in found[0].found


def test_of_a_laptop_itself_it_says_what_loops_compute_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    found = {finding.subject: finding for finding in examine(_case("cpu"), only=["machine"])}
    assert list(found) == MACHINE
    assert "transformers" in found["torch"].found
    assert (found["threads"].state, found["threads"].remedy.startswith("set it to ")) == ("bad", True)
    assert not examine(dataclasses.replace(_case("cpu"), is_in_pod=True), only=["machine"])


def test_without_a_way_to_the_cluster_the_rest_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with _web({".*": (200, {}, {})}) as address:
        first, *rest = examine(_case("cpu", tracking=address))
    assert (first.state, first.subject, first.remedy) == ("bad", "Kubernetes", "set KUBECONFIG to that of the cluster")
    assert [finding.subject for finding in rest if finding.state == "well"] == ["MLflow", *MACHINE]


def test_a_profile_without_gpus_asks_for_no_queue_and_no_runtime(cluster: KubernetesApi) -> None:
    cluster.absent |= {"kueue.x-k8s.io", "trainer.kubeflow.org"}
    cluster.put("/api/v1/nodes/one", _node(gpus=0))
    del cluster.objects["/api/v1/nodes/two"]
    assert all(finding.state != "bad" for finding in examine(_case("cpu")))


def test_kueue_is_found_in_the_version_that_it_serves(cluster: KubernetesApi) -> None:
    cluster.absent.add("kueue.x-k8s.io/v1beta2")
    for path in (QUEUE, CLUSTER_QUEUE):
        cluster.put(path.replace("v1beta2", "v1beta1"), cluster.objects.pop(path))
    assert _found(_case(), "queue selfloop").state == "well"


def test_a_queue_may_borrow_what_it_lacks(cluster: KubernetesApi) -> None:
    cluster.objects.update(_queues(gpus=4))
    cluster.objects[CLUSTER_QUEUE]["spec"]["cohortName"] = "all-teams"
    assert _found(_case(), "queue selfloop").state == "well"


def test_a_quota_that_is_full_for_now_has_room_later(cluster: KubernetesApi) -> None:
    cluster.objects[QUOTA]["status"]["used"]["requests.cpu"] = "512"
    assert _found(_case(), "quota selfloop") == well("quota selfloop", "full for now: requests.cpu")
    del cluster.objects[QUOTA]
    assert _found(_case(), "quota") == well("quota", "the namespace has none")


def test_a_volume_that_waits_for_its_first_pod_is_well(cluster: KubernetesApi) -> None:
    cluster.put(CLAIM, {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}})
    waiting = {"provisioner": "x", "volumeBindingMode": "WaitForFirstConsumer"}
    cluster.put("/apis/storage.k8s.io/v1/storageclasses/fast", waiting)
    assert _found(_case(), "volume selfloop-models").state == "well"


@pytest.mark.parametrize(
    ("toleration", "taint", "lets"),
    [
        (("k", "Exists", "", ""), ("k", "v", "NoSchedule"), True),
        (("", "Exists", "", ""), ("k", "v", "NoExecute"), True),
        (("k", "Equal", "v", "NoSchedule"), ("k", "v", "NoSchedule"), True),
        (("k", "Equal", "w", ""), ("k", "v", "NoSchedule"), False),
        (("j", "Exists", "", ""), ("k", "v", "NoSchedule"), False),
        (("k", "Exists", "", "NoExecute"), ("k", "v", "NoSchedule"), False),
        (("k", "Equal", "", ""), ("k", None, "NoSchedule"), True),
    ],
)
def test_tolerations_are_those_of_kubernetes(
    toleration: tuple[str, ...], taint: tuple[str, str | None, str], lets: bool
) -> None:
    from kubernetes.client import V1Taint
    from selfloop.resources import Toleration

    given = dict(zip(("key", "operator", "value", "effect"), toleration, strict=True))
    key, value, effect = taint
    assert tolerates(Toleration.model_validate(given), V1Taint(key=key, value=value, effect=effect)) is lets


def test_in_a_pod_it_asks_as_the_pod_what_the_pod_itself_may(cluster: KubernetesApi, pod: Path) -> None:
    cluster.denied.add(("create", "localsubjectaccessreviews"))
    found = case_of(None, "cpu", "", "", "", in_pod=True)
    assert found.namespace == NAMESPACE
    assert _found(found, "right to leases") == well("right to leases", "this pod's account has it")
    cluster.denied_to_stages.add(("get", "leases"))
    assert _found(found, "right to leases").found == "this pod's account may not get leases"


def test_a_pod_without_addresses_is_not_well(cluster: KubernetesApi, pod: Path) -> None:
    for subject in ("MLflow", "store"):
        assert _found(_case("cpu", in_pod=True), subject).found == "this pod does not know where it is"


@pytest.mark.debian("bubblewrap")
def test_the_sandbox_is_tried_in_a_pod(
    cluster: KubernetesApi, pod: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolation.probe.cache_clear()
    assert _found(_case("cpu", in_pod=True), "sandbox").state == "well"
    monkeypatch.setenv("PATH", str(tmp_path))
    isolation.probe.cache_clear()
    found = _found(_case("cpu", in_pod=True), "sandbox")
    assert (found.state, found.found) == ("bad", "bubblewrap is not installed")
    monkeypatch.setenv("SELFLOOP_UNSAFE_NO_SANDBOX", "1")
    assert _found(_case("cpu", in_pod=True), "sandbox").state == "unseen"
    isolation.probe.cache_clear()


@pytest.mark.parametrize(
    ("url", "told", "state"),
    [
        ("", "", "unseen"),
        ("https://hooks/secret", "", "well"),
        ("hooks/secret", "", "bad"),
        ("https://hooks/secret", "halt", "bad"),
    ],
)
def test_notifications_are_looked_at_without_sending_one(
    cluster: KubernetesApi, pod: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str, state: str
) -> None:
    monkeypatch.setenv("SELFLOOP_WEBHOOK_URL", url)
    if told:
        monkeypatch.setenv("SELFLOOP_WEBHOOK_ON", told)
    found = _found(_case("cpu", in_pod=True), "notifications")
    assert found.state == state
    assert "secret" not in found.found + found.remedy


@contextmanager
def _web(answers: dict[str, tuple[int, dict[str, str], Any]]) -> Iterator[str]:
    """A server that answers paths; 404 elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = [answers[path] for path in answers if re.fullmatch(path, self.path.partition("?")[0])]
            status, headers, body = found[0] if found else (404, {}, {})
            text = json.dumps(body).encode()
            self.send_response(status)
            about = {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}
            for name, value in about.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


HEALTH = {"/apis/v2beta1/healthz": (200, dict[str, str](), {"multi_user": True})}


@pytest.mark.parametrize(
    ("answers", "state", "found", "remedy"),
    [
        ({**HEALTH, "/apis/v2beta1/experiments": (200, {}, {})}, "well", "answers, for many users", ""),
        ({**HEALTH, "/apis/v2beta1/experiments": (403, {}, {"error": "no"})}, "bad", r"forbids it \(no\)", "the right"),
        ({".*": (401, {}, {})}, "bad", "does not know who asks", "SELFLOOP_KFP_TOKEN"),
        ({".*": (302, {"Location": "/dex/auth"}, {})}, "bad", "does not know who asks", "SELFLOOP_KFP_COOKIES"),
        ({}, "bad", "is no API of Kubeflow Pipelines", "correct --kfp"),
        ({".*": (503, {}, {"error": "down"})}, "bad", r"does not answer well \(down\)", "check"),
    ],
)
def test_kfp_is_asked_with_the_credentials_given(
    cluster: KubernetesApi, answers: Any, state: str, found: str, remedy: str
) -> None:
    with _web(answers) as address:
        finding = _found(_case("cpu", kfp=address), "KFP")
    assert (finding.state, re.search(found, finding.found) is not None) == (state, True), finding
    assert remedy in finding.remedy


@pytest.mark.parametrize("many", [True, False], ids=["for many users", "for one"])
def test_where_kfp_serves_many_users_the_stages_must_be_let_to_begin_the_run_that_continues_a_loop(
    cluster: KubernetesApi, many: bool
) -> None:
    answers: Any = {
        "/apis/v2beta1/healthz": (200, {}, {"multi_user": many}),
        "/apis/v2beta1/experiments": (200, {}, {}),
    }
    with _web(answers) as address:
        case = _case("cpu", kfp=address)
        allowed = [each for each in examine(case, only=["KFP"]) if each.subject == "right to runs"]
        cluster.denied_to_stages |= {("create", "runs"), ("list", "runs")}
        denied = [each for each in examine(case, only=["KFP"]) if each.subject == "right to runs"]
    assert allowed == [well("right to runs", "service account selfloop has it")] * many
    assert [(each.found, each.remedy) for each in denied] == [
        (
            "service account selfloop may not list runs, create runs",
            "bind the roles of manifests/overlays/kubeflow to service account selfloop",
        )
    ] * many


def test_kfp_that_is_not_there_is_said(cluster: KubernetesApi) -> None:
    finding = _found(_case("cpu", kfp="http://127.0.0.1:1"), "KFP")
    assert finding.found == "http://127.0.0.1:1 does not answer well (Connection refused)"


def test_mlflow_is_asked_with_the_credentials_given(cluster: KubernetesApi, tmp_path: Path) -> None:
    with mlflow_server(f"sqlite:///{tmp_path}/m.db", str(tmp_path / "artifacts"), tmp_path / "log") as uri:
        assert _found(_case("cpu", tracking=uri), "MLflow") == well("MLflow", f"{uri} answers")
    gone = _found(_case("cpu", tracking=uri), "MLflow")
    assert gone.found == f"{uri} does not answer well (Connection refused)"
    with _web({".*": (401, {"Content-Type": "text/plain"}, "You are not authenticated.")}) as address:
        found = _found(_case("cpu", tracking=address.replace("//", "//me:secret@")), "MLflow")
    assert found.found == f"{address} does not let this user in (401)"
    assert "MLFLOW_TRACKING_PASSWORD" in found.remedy


def test_a_folder_is_no_store_for_pods(cluster: KubernetesApi, tmp_path: Path) -> None:
    found = _found(_case("cpu", store=str(tmp_path)), "store")
    assert found == bad("store", f"{tmp_path} is a folder, which pods do not share", "let it be s3://bucket/prefix")


DIGEST = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}


@pytest.mark.parametrize(
    ("answers", "state"),
    [({"/v2/team/.*": (200, DIGEST, {})}, "well"), ({"/v2/team/base/.*": (200, DIGEST, {})}, "bad"), ({}, "bad")],
)
def test_images_are_asked_of_their_registry(
    cluster: KubernetesApi, caplog: pytest.LogCaptureFixture, answers: Any, state: str
) -> None:
    case = _case("cpu")
    with _web(answers) as address:
        host = address.removeprefix("http://")
        finding = _found(dataclasses.replace(case, profile=case.profile.with_prefix(f"{host}/team")), "images")
    assert finding.state == state
    assert "no digest" not in caplog.text
    if state == "bad":
        assert f"{host}/team/generate" in finding.found
        assert "make images PUSH=1" in finding.remedy


def test_a_pod_does_not_ask_the_registry(cluster: KubernetesApi, pod: Path) -> None:
    assert _found(_case("cpu", in_pod=True), "images").state == "unseen"


def test_a_check_that_takes_too_long_or_breaks_hides_no_other(
    cluster: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()

    def hang(case: Case) -> Iterator[Finding]:
        forever.wait()
        yield well("never", "")

    def break_down(case: Case) -> Iterator[Finding]:
        yield well("half", "of it")
        raise KeyError("oh")

    monkeypatch.setattr(doctor, "LIMIT_S", 3.0)
    monkeypatch.setattr(doctor, "FROM_HERE", {"slow": hang, "broken": break_down, **doctor.FROM_HERE})
    found = {finding.subject: finding for finding in examine(_case("cpu"))}
    forever.set()
    assert found["slow"].found == "no answer within 3 s"
    assert (found["half"].state, found["broken"].state) == ("well", "bad")
    assert found["broken"].found == "could not be looked at (KeyError: 'oh')"
    assert "nodes" in found


def test_a_package_that_is_not_installed_is_no_fault_of_the_cluster(
    cluster: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kfp_server_api", None)
    found = _found(_case("cpu", kfp="http://127.0.0.1:1"), "KFP")
    assert (found.state, found.found) == ("unseen", "not from here, which lacks the package kfp_server_api")


def _run(cluster: KubernetesApi, *words: str, width: int = 0) -> tuple[int, str]:
    """The command's exit code and what it prints, to a pipe or to a terminal so wide."""
    environment = {k: v for k, v in os.environ.items() if k not in ADDRESSES} | {"COLUMNS": str(width or 80)}
    environment |= {"KUBECONFIG": str(cluster.kubeconfig()), "TERM": "xterm"}
    command = [*forked.CLI, "doctor", "-n", NAMESPACE, *words]
    if not width:
        done = forked.run(*command, env=environment)
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", closefd=True) as screen:
        process = subprocess.Popen([sys.executable, *command], stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        text = b""
        while True:
            try:
                block = os.read(screen.fileno(), 4096)
            except OSError:  # the terminal is closed
                break
            if not block:
                break
            text += block
    return process.wait(timeout=60), re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", text.decode()).replace("\r", "")


def test_the_command_prints_a_line_a_finding_and_says_how_it_went(cluster: KubernetesApi) -> None:
    code, said = _run(cluster)
    lines = said.splitlines()
    assert (code, lines[0]) == (0, f"Namespace {NAMESPACE}, profile cpu, from a laptop:")
    assert all(line[:2] in ("✓ ", "– ") for line in lines[1:-1])
    assert lines[-1] == "16 well, 0 to mend, 6 that cannot be seen from here."
    del cluster.objects[f"{CORE}/serviceaccounts/selfloop"]
    code, said = _run(cluster)
    assert code == 1
    mended = next(line for line in said.splitlines() if line.startswith("✗"))
    assert re.fullmatch(r"✗ service account selfloop +is not there → install selfloop there: kubectl apply .*", mended)
    assert said.splitlines()[-1].startswith("15 well, 1 to mend")


def test_it_looks_at_what_is_named_alone(cluster: KubernetesApi) -> None:
    code, said = _run(cluster, "--only", "sandbox", "--only", "KFP")
    assert (code, len(said.splitlines())) == (0, 4)
    assert not cluster.calls
    assert "sandbox" not in _run(cluster, "--skip", "sandbox")[1]
    code, said = _run(cluster, "--only", "volume")
    assert [line.split()[1] for line in said.splitlines()[1:-1]] == ["namespace", "volume"]
    code, said = _run(cluster, "--only", "sandbx")
    assert (code, said.splitlines()[-1]) == (1, "selfloop: There is no check 'sandbx': did you mean 'sandbox'?")


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_it_within_its_width(cluster: KubernetesApi, width: int) -> None:
    cluster.put(QUOTA, _quota(**{"requests.memory": "1Gi"}))
    code, said = _run(cluster, "--store", "s3://bucket", width=width)
    assert code == 1
    assert max(map(len, said.splitlines())) <= width
    assert "✗ quota selfloop" in said
    assert VALUE not in said


def test_an_unknown_profile_is_one_sentence(cluster: KubernetesApi) -> None:
    code, said = _run(cluster, "--profile", "gpus")
    assert (code, said.count("\n")) == (1, 1)
    assert "There is no profile 'gpus'" in said
