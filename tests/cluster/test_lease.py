"""A loop's Lease, taken through the real client from an API server that is strict about it."""

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.cluster.access import Access, of_person
from selfloop.cluster.lease import hold, lease_name
from selfloop.errors import UserError

from . import kubernetes_api
from .kubernetes_api import LABEL, LEASES, TOKEN, Fault, KubernetesApi

pytestmark = pytest.mark.slow

kubernetes, access, pod = kubernetes_api.kubernetes, kubernetes_api.access, kubernetes_api.pod
LOOPS = st.text("abAB01-._ ", min_size=1, max_size=80)
LEASE = f"{LEASES}/selfloop-adder"


def _lives(run_id: str) -> bool:
    return False


def _ended(run_id: str) -> bool:
    return True


def _not_asked(run_id: str) -> bool:
    raise AssertionError


def _holder(kubernetes: KubernetesApi) -> str:
    return str(kubernetes.objects[LEASE]["spec"]["holderIdentity"])


def test_a_lease_is_held_in_the_name_of_the_run(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    made = kubernetes.objects[LEASE]
    assert made["spec"]["holderIdentity"] == "run-1"
    assert made["spec"]["leaseTransitions"] == 0
    assert made["metadata"]["annotations"] == {"selfloop/loop": "adder"}


def test_a_run_that_is_tried_again_has_its_lease_already(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    before = kubernetes.objects[LEASE]
    hold("adder", "run-1", _not_asked, access)
    assert kubernetes.objects[LEASE] == before


def test_another_run_that_lives_is_named_with_the_remedy(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    with pytest.raises(UserError, match=r"'adder' is already run by run-1.*'selfloop cancel run-1'\.$"):
        hold("adder", "run-2", _lives, access)
    assert _holder(kubernetes) == "run-1"


def test_the_lease_of_a_run_that_has_ended_is_taken_over(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    hold("adder", "run-2", lambda run_id: run_id == "run-1", access)
    assert _holder(kubernetes) == "run-2"
    assert kubernetes.objects[LEASE]["spec"]["leaseTransitions"] == 1


def test_a_lease_that_nobody_holds_is_free(kubernetes: KubernetesApi, access: Access) -> None:
    kubernetes.put(LEASE, {"spec": {}})
    hold("adder", "run-1", _not_asked, access)
    assert _holder(kubernetes) == "run-1"


def test_loops_do_not_hinder_each_other(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    hold("Adder", "run-2", _not_asked, access)
    assert len([path for path in kubernetes.objects if path.startswith(LEASES)]) == 2


def test_where_kfp_does_not_answer_the_lease_stays(kubernetes: KubernetesApi, access: Access) -> None:
    def silent(run_id: str) -> bool:
        raise UserError("KFP at http://kfp cannot be reached: check the network.")

    hold("adder", "run-1", _not_asked, access)
    with pytest.raises(UserError, match="held by run run-1, and it cannot be told whether that has ended: KFP at"):
        hold("adder", "run-2", silent, access)
    assert _holder(kubernetes) == "run-1"


def test_no_run_is_refused(access: Access) -> None:
    with pytest.raises(UserError, match="in the name of no run"):
        hold("adder", "", _not_asked, access)


@pytest.mark.parametrize("before", [None, "run-before"])
def test_of_runs_that_race_exactly_one_wins(kubernetes: KubernetesApi, access: Access, before: str | None) -> None:
    for attempt in range(10):
        loop = f"loop-{attempt}"
        if before:
            hold(loop, before, _not_asked, access)
        won, lost = _race(loop, access, [f"run-{number}" for number in range(6)])
        assert len(won) == 1
        assert len(lost) == 5
        assert all(f"already run by {won[0]}" in sentence for sentence in lost)
        assert kubernetes.objects[f"{LEASES}/{lease_name(loop)}"]["spec"]["holderIdentity"] == won[0]


def _race(loop: str, access: Access, runs: list[str]) -> tuple[list[str], list[str]]:
    won, lost, start = list[str](), list[str](), threading.Barrier(len(runs))

    def take(run_id: str) -> None:
        mine = of_person()
        start.wait()
        try:
            hold(loop, run_id, lambda holder: holder == "run-before", mine)
            won.append(run_id)
        except UserError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=take, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won, lost


def test_who_is_overtaken_between_look_and_write_looks_again(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)

    def overtaken(run_id: str) -> bool:
        if run_id == "run-1":
            hold("adder", "run-3", _ended, access)
        return run_id == "run-1"

    with pytest.raises(UserError, match="already run by run-3"):
        hold("adder", "run-2", overtaken, access)
    assert _holder(kubernetes) == "run-3"


def test_a_lease_that_is_deleted_between_look_and_write_is_made(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)

    def deleting(run_id: str) -> bool:
        del kubernetes.objects[LEASE]
        return True

    hold("adder", "run-2", deleting, access)
    assert _holder(kubernetes) == "run-2"


def test_who_is_always_overtaken_gives_up(access: Access) -> None:
    number = iter(range(100))

    def overtaken(run_id: str) -> bool:
        if run_id.startswith("run"):
            hold("adder", f"other-{next(number)}", _ended, access)
        return True

    def always(run_id: str) -> bool:
        hold("adder", f"run-{next(number)}", _ended, access)
        return True

    hold("adder", "run-1", _not_asked, access)
    with pytest.raises(UserError, match="taken by one run after another"):
        hold("adder", "mine", always, access)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_answer_that_is_lost_leaves_the_lease_with_its_run(
    kubernetes: KubernetesApi, access: Access, quick: None, method: str
) -> None:
    if method == "PUT":
        hold("adder", "run-0", _not_asked, access)
    kubernetes.faults.append(Fault(method))
    hold("adder", "run-1", _ended, access)
    assert _holder(kubernetes) == "run-1"
    assert [call[0] for call in kubernetes.calls].count(method) >= 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_out_of_order_for_a_moment_is_asked_again(
    kubernetes: KubernetesApi, access: Access, quick: None, status: int
) -> None:
    kubernetes.faults += [Fault("GET", status=status, times=2), Fault("POST", status=status, times=2)]
    hold("adder", "run-1", _not_asked, access)
    assert _holder(kubernetes) == "run-1"


@pytest.mark.parametrize(
    ("method", "status", "sentence"),
    [
        ("GET", 401, r"Lease selfloop-adder is refused.*401 Unauthorized.*log in again, or renew the token\.$"),
        ("GET", 403, r"403 Forbidden: planted.*the right to get leases in namespace team-a"),
        ("POST", 403, r"the right to create and update leases in namespace team-a"),
        ("POST", 404, r"404 Not Found.*create namespace team-a, or name another one\.$"),
        ("GET", 500, r"500 Internal Server Error.*wait until the cluster is well again"),
    ],
)
def test_a_refusal_is_one_sentence(
    kubernetes: KubernetesApi, access: Access, quick: None, method: str, status: int, sentence: str
) -> None:
    kubernetes.faults.append(Fault(method, "/leases", status, times=10))
    with pytest.raises(UserError, match=sentence) as error:
        hold("adder", "run-1", _not_asked, access)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_namespace_that_is_not_there_is_said(kubernetes: KubernetesApi, access: Access) -> None:
    with pytest.raises(UserError, match="create namespace team-b"):
        hold("adder", "run-1", _not_asked, access._replace(namespace="team-b"))


def test_a_server_that_is_not_there_is_one_sentence(kubernetes: KubernetesApi, access: Access, quick: None) -> None:
    kubernetes.port = 1
    kubernetes.kubeconfig()
    with pytest.raises(UserError, match=r"https://127.0.0.1:1 cannot be reached \(.*Connection refused.*\): check"):
        hold("adder", "run-1", _not_asked, of_person())


def test_a_certificate_of_nobody_known_is_one_sentence(kubernetes: KubernetesApi, access: Access, quick: None) -> None:
    path = kubernetes.kubeconfig()
    path.write_text(re.sub("certificate-authority: .*", "insecure-skip-tls-verify: false", path.read_text()))
    with pytest.raises(UserError, match=r"cannot be reached \(.*self-signed certificate.*\): check") as error:
        hold("adder", "run-1", _not_asked, of_person())
    assert "\n" not in str(error.value)


@given(LOOPS)
def test_a_lease_has_the_name_of_a_dns_label(loop: str) -> None:
    assert LABEL.fullmatch(lease_name(loop))
    assert lease_name(loop).startswith("selfloop-")


@given(LOOPS, LOOPS)
def test_two_loops_have_two_leases(one: str, other: str) -> None:
    assert (lease_name(one) == lease_name(other)) == (one == other)


@given(LOOPS)
def test_no_loop_is_named_as_anothers_altered_name(loop: str) -> None:
    altered = lease_name(loop).removeprefix("selfloop-")
    assert altered == loop or lease_name(altered) != lease_name(loop)


def test_a_name_that_is_a_label_stays_readable() -> None:
    assert lease_name("length-generalization") == "selfloop-length-generalization"
    assert re.fullmatch("selfloop-my-loop-v2-[0-9a-f]{10}", lease_name("My Loop v2"))
    assert re.fullmatch("selfloop-[0-9a-f]{10}", lease_name("..."))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda self, response=None: None)


def test_a_pod_holds_the_lease_as_its_service_account(kubernetes: KubernetesApi, pod: Path) -> None:
    hold("adder", "run-1", _not_asked)
    assert _holder(kubernetes) == "run-1"


def test_a_pod_without_a_token_is_told_what_it_lacks(pod: Path) -> None:
    (pod / "token").unlink()
    with pytest.raises(UserError, match=r"Service token file does not exist.*whose token is mounted\.$"):
        hold("adder", "run-1", _not_asked)


def test_what_it_asks_of_the_cluster_is_what_the_role_allows(kubernetes: KubernetesApi, access: Access) -> None:
    hold("adder", "run-1", _not_asked, access)
    hold("adder", "run-2", _ended, access)
    assert {(method, path) for method, path, _ in kubernetes.calls} == {
        ("GET", LEASE),
        ("POST", LEASES),
        ("PUT", LEASE),
    }


def test_without_a_kubeconfig_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"No kubeconfig can be used at .*none .*: set KUBECONFIG"):
        of_person()
    (tmp_path / "none").write_text("clusters: 3")
    with pytest.raises(UserError, match="No kubeconfig can be used"):
        of_person()
