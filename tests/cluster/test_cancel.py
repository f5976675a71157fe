"""``selfloop cancel``: the run ends, and so does all that it holds."""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.cluster import lease, runs
from selfloop.cluster.access import Access

from . import kubernetes_api
from .conftest import Ended
from .kfp_server import Kfp
from .kubernetes_api import LEASES, NAMESPACE, KubernetesApi

pytestmark = pytest.mark.slow

kubernetes, access = kubernetes_api.kubernetes, kubernetes_api.access
Command = Callable[..., Ended]
LEASE = f"{LEASES}/selfloop-adder"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
HERE = ("--namespace", NAMESPACE)


def _pod(run: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"pipeline/runid": run}}, "status": {"phase": phase}}


def _trainjob(pod: str) -> dict[str, Any]:
    return {"metadata": {"uid": f"of-{pod}", "ownerReferences": [{"kind": "Pod", "name": pod}]}}


def _nothing(run_id: str) -> None:
    pass


@pytest.fixture
def run(kfp: Kfp, begun: str, kubernetes: KubernetesApi, access: Access) -> str:
    """A run that holds its loop's Lease and has a TrainJob; so does another run."""
    kfp.namespaces.add(NAMESPACE)
    kfp.runs[begun]["state"] = "RUNNING"
    kfp.looks = [_nothing, _nothing, lambda run_id: kfp.end(run_id, "FAILED")]
    lease.hold("adder", begun, lambda holder: False, access)
    lease.hold("another", "another-run", lambda holder: False, access)
    for name, owner in (("mine", begun), ("others", "another-run")):
        kubernetes.put(f"{PODS}/{name}", _pod(owner, "Failed"))
        kubernetes.put(f"{JOBS}/of-{name}", _trainjob(name))
    return begun


def _holder(kubernetes: KubernetesApi, lease: str = LEASE) -> str:
    return str(kubernetes.objects[lease]["spec"].get("holderIdentity", ""))


def test_a_cancelled_run_holds_nothing_any_more(
    command: Command, run: str, kfp: Kfp, kubernetes: KubernetesApi, access: Access, client: MlflowClient
) -> None:
    in_mlflow = lineage.opened_run("adder", {"rounds": 2}, run)
    done = command("cancel", run, *HERE)
    assert (done.code, done.err) == (0, "")
    assert kfp.runs[run]["state"] == "FAILED", "as KFP calls it"
    assert done.out.splitlines() == [
        f"Run {run} is being cancelled.",
        "TrainJob of-mine is deleted.",
        "Loop 'adder' is free for another run.",
        "Its run in MLflow is ended as killed.",
    ]
    assert [path for path in kubernetes.objects if path.startswith(JOBS)] == [f"{JOBS}/of-others"]
    assert (_holder(kubernetes), _holder(kubernetes, f"{LEASES}/selfloop-another")) == ("", "another-run")
    assert client.get_run(in_mlflow).info.status == "KILLED"
    lease.hold("adder", "the-next", lambda holder: False, access)
    assert _holder(kubernetes) == "the-next"


def test_what_cannot_be_freed_is_said_and_the_rest_is(command: Command, run: str, kubernetes: KubernetesApi) -> None:
    kubernetes.denied.add(("delete", "trainjobs"))
    done = command("cancel", run, *HERE)
    assert (done.code, done.err) == (0, "")
    assert "Its TrainJobs could not be looked after: The TrainJobs of the run is refused" in done.out
    assert _holder(kubernetes) == ""


def test_without_a_kubeconfig_a_run_is_cancelled_all_the_same(
    command: Command, run: str, kfp: Kfp, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "none")
    done = command("cancel", run, *HERE)
    assert (done.code, kfp.runs[run]["state"]) == (0, "FAILED")
    assert "Its TrainJobs could not be looked after: No kubeconfig can be used" in done.out
    assert _holder(kubernetes) == run


def test_a_run_that_was_cancelled_elsewhere_is_looked_after(
    command: Command, run: str, kfp: Kfp, kubernetes: KubernetesApi
) -> None:
    kfp.on_terminate_run(run)
    kfp.end(run, "FAILED")
    kfp.looks.clear()
    assert command("cancel", run, *HERE).code == 0
    assert _holder(kubernetes) == ""
    assert kfp.count("RunService_TerminateRun") == 0


def test_a_run_that_does_not_end_keeps_what_it_holds(
    command: Command, run: str, kfp: Kfp, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 3)
    kfp.looks = [_nothing] * 10
    done = command("cancel", run, *HERE)
    assert (done.code, kfp.runs[run]["state"]) == (1, "CANCELING")
    assert f"Run {run} is still being cancelled: look at {kfp.url}" in done.err
    assert _holder(kubernetes) == run


def test_the_loop_of_a_run_that_kfp_does_not_know_is_freed_once_its_pods_have_ended(
    command: Command, run: str, kfp: Kfp, kubernetes: KubernetesApi
) -> None:
    del kfp.runs[run]
    kfp.looks.clear()
    kubernetes.put(f"{PODS}/mine", _pod(run, "Running"))
    done = command("cancel", run, *HERE)
    assert (done.code, done.err.count("\n"), _holder(kubernetes)) == (1, 1, run)
    assert f"Run {run} has pods at work, though KFP says that it has none" in done.err
    kubernetes.put(f"{PODS}/mine", _pod(run, "Succeeded"))
    done = command("cancel", run, *HERE)
    assert (done.code, done.err, _holder(kubernetes)) == (0, "", "")
    assert "There is no run" in command("cancel", run, *HERE).err, "when nothing is left"
