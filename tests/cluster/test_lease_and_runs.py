"""The Lease and the runs of KFP together: what the one API says of a run decides about the object in the other."""

from functools import partial
from typing import Any

import pytest
from selfloop.cluster import runs
from selfloop.cluster.access import Access
from selfloop.cluster.lease import at_work, hold
from selfloop.errors import UserError

from . import kubernetes_api
from .kubernetes_api import LEASES, NAMESPACE, KubernetesApi

kubernetes, access = kubernetes_api.kubernetes, kubernetes_api.access


def _holder(kubernetes: KubernetesApi) -> str:
    return str(kubernetes.objects[f"{LEASES}/selfloop-adder"]["spec"]["holderIdentity"])


def test_a_lease_is_free_when_kfp_says_that_its_run_has_ended(
    kubernetes: KubernetesApi, access: Access, kfp: Any, connected: Any, begun: str
) -> None:
    has_ended = partial(runs.has_ended, connected)
    hold("adder", begun, has_ended, access)
    for state in ("PENDING", "RUNNING", "CANCELING"):
        kfp.runs[begun]["state"] = state
        with pytest.raises(UserError, match=f"already run by {begun}"):
            hold("adder", "the-next", has_ended, access)
    kfp.end(begun, "FAILED")
    hold("adder", "the-next", has_ended, access)
    assert _holder(kubernetes) == "the-next"


def test_a_lease_is_free_when_kfp_does_not_know_its_run_any_more(
    kubernetes: KubernetesApi, access: Access, kfp: Any, connected: Any, begun: str
) -> None:
    has_ended = partial(runs.has_ended, connected)
    hold("adder", begun, has_ended, access)
    del kfp.runs[begun]
    hold("adder", "the-next", has_ended, access)
    assert _holder(kubernetes) == "the-next"


@pytest.mark.parametrize("known_by", ["label", "workflow"])
def test_a_lease_stays_with_a_run_that_kfp_does_not_know_as_long_as_its_pods_are_at_work(
    kubernetes: KubernetesApi, access: Access, connected: Any, known_by: str
) -> None:
    """KFP's own schedules may tell tasks the uid of their workflow for the id of their run."""
    has_ended = partial(runs.has_ended, connected, is_at_work=partial(at_work, access=access))
    hold("adder", "unknown", has_ended, access)
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "wf", "uid": "unknown"}
    about: dict[str, Any] = {"labels": {"pipeline/runid": "unknown" if known_by == "label" else "another"}}
    for phase in ("Pending", "Running", "Succeeded"):
        pod = {"metadata": about | {"ownerReferences": [owner]}, "status": {"phase": phase}}
        kubernetes.put(f"/api/v1/namespaces/{NAMESPACE}/pods/at-work", pod)
        if phase != "Succeeded":
            with pytest.raises(UserError, match="already run by unknown"):
                hold("adder", "the-next", has_ended, access)
    hold("adder", "the-next", has_ended, access)
    assert _holder(kubernetes) == "the-next"


def test_a_lease_stays_where_kfp_does_not_answer(
    kubernetes: KubernetesApi, access: Access, kfp: Any, connected: Any, begun: str
) -> None:
    has_ended = partial(runs.has_ended, connected)
    hold("adder", begun, has_ended, access)
    kfp.token = "another"
    with pytest.raises(UserError, match=f"held by run {begun}, and it cannot be told whether that has ended") as error:
        hold("adder", "the-next", has_ended, access)
    assert "\n" not in str(error.value)
    assert _holder(kubernetes) == begun
