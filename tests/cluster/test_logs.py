"""``selfloop logs``: what a stage printed, from its pod; and what a failed one tells of why."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selfloop.cluster.pods import Pod, choose, task_of
from selfloop.cluster.uploads import Planned, Task

from .conftest import Ended
from .kfp_server import Kfp
from .pods_server import Cluster, serving_pods

Command = Callable[..., Ended]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with serving_pods() as server:
        server.kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield server
    assert server.mistakes == []


@pytest.fixture
def run(begun: str, cluster: Cluster) -> str:
    """A run whose pods are the start, two attempts at generating, one of them in the second round, and a driver's."""
    for task, log in (("work", "started\n"), ("work-2", "first ünïcode\n"), ("work-4", "second\n")):
        cluster.add(begun, task, log)
    cluster.add(begun, "work-5-driver", "a driver\n")
    cluster.add("another-run", "work-2", "another\n")
    return begun


@pytest.mark.parametrize(
    ("stage", "printed"),
    [
        ([], "second\n"),
        (["generate"], "second\n"),
        (["1/generate"], "first ünïcode\n"),
        (["round 1 · generate"], "first ünïcode\n"),
        (["0/start"], "started\n"),
    ],
)
def test_the_log_of_a_stage_is_printed_as_it_is(command: Command, run: str, stage: list[str], printed: str) -> None:
    done = command("logs", run, *stage)
    assert (done.code, done.out, done.err) == (0, printed, "")


def test_the_log_of_what_failed_comes_first(command: Command, run: str, cluster: Cluster) -> None:
    cluster.add(run, "work-3", "boom\n", phase="Failed")
    cluster.add(run, "work-2", "again\n")
    assert command("logs", run).out == "boom\n"


def test_a_retry_is_what_is_read(command: Command, run: str, cluster: Cluster) -> None:
    cluster.add(run, "work-2", "at the second attempt\n")
    assert command("logs", run, "1/generate", "--follow").out == "at the second attempt\n"
    assert cluster.queries[-1]["follow"] == "True"


def test_a_stage_that_has_no_pod_is_said_to_have_none(command: Command, run: str) -> None:
    done = command("logs", run, "2/verify")
    assert done.code == 1
    assert done.err == (
        f"selfloop: There is no pod of stage '2/verify' in run {run}: there are 0/start, 1/generate, 2/generate.\n"
    )


def test_an_installation_for_one_user_has_its_pods_beside_kfp(
    command: Command, kfp: Kfp, begun: str, cluster: Cluster
) -> None:
    kfp.multi_user = False
    cluster.add(begun, "work-2", "there\n", namespace="kubeflow")
    assert command("logs", begun).out == "there\n"


def test_a_stage_outside_of_all_rounds_is_named_alone() -> None:
    pod = Pod("wf-1", "selfloop", Task(-1, "resolve"), "Failed", datetime.now(UTC))
    assert choose([pod], "run", Task(-1, "resolve").short) == pod


def test_pods_that_are_gone_are_said_to_be(command: Command, begun: str, cluster: Cluster) -> None:
    done = command("logs", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "has no pods (any more): look at its page in the KFP UI" in done.err


def test_without_a_kubeconfig_logs_says_what_to_set(command: Command, begun: str) -> None:
    done = command("logs", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "There is no kubeconfig, and logs come from Kubernetes: set KUBECONFIG" in done.err


@pytest.mark.parametrize(
    ("node", "round"),
    [
        ("wf.root.generate.executor", 1),
        ("wf.root.condition.generate.executor(1)", 2),
        ("wf.root.condition.condition.for-loop.iteration-iterations(0:0).iteration-item.generate.executor(0)", 3),
        ("wf.root.generate-driver", None),
        ("wf.root.condition.driver", None),
        ("", None),
    ],
)
def test_a_pod_is_of_the_round_whose_graph_it_is_in(node: str, round: int | None) -> None:
    loop = [Planned(Task(n, "generate"), (*["condition"] * (n - 1), "generate")) for n in (1, 2, 3)]
    assert task_of(node, loop) == (Task(round, "generate") if round else None)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "renew the kubeconfig's credentials"),
        (403, "forbids to read pods in namespace 'selfloop': correct --namespace"),
        (500, "does not give the log (planted)"),
    ],
)
def test_what_kubernetes_refuses_is_one_sentence(
    command: Command, run: str, cluster: Cluster, status: int, sentence: str
) -> None:
    cluster.refuses["listCoreV1NamespacedPod"] = status
    done = command("logs", run)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert sentence in done.err
    assert cluster.token not in done.err


def test_a_pod_that_waits_says_for_what(command: Command, run: str, cluster: Cluster) -> None:
    cluster.add(run, "work-5", "", phase="Pending")
    assert "waiting to start: ImagePullBackOff" in command("logs", run, "verify").err


def test_a_kubernetes_that_is_not_there_cannot_be_reached(
    command: Command, begun: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving_pods() as gone:
        gone.kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert "Kubernetes cannot be reached" in command("logs", begun).err


def _fail(kfp: Kfp, run_id: str) -> None:
    kfp.move(run_id, "work-3", "FAILED", "2026-11-21T02:00:00Z", "2026-11-21T02:00:12Z")
    kfp.end(run_id, "FAILED")


def test_a_loop_that_a_guard_halted_ends_the_command_as_that(
    command: Command, kfp: Kfp, run: str, cluster: Cluster
) -> None:
    said = "Guard 'length' halts the loop: 9.1 is beyond 4. The champion stays in force."
    trace = f"Traceback (most recent call last):\n  ...\nselfloop.errors.HaltedError: {said}\nE1121 exit status 1\n"
    cluster.add(run, "work-3", "x\n" * 500 + trace, phase="Failed")
    _fail(kfp, run)
    done = command("watch", run)
    assert done.code == 3
    assert done.err == f"selfloop: {said} See {kfp.url}/#/runs/details/{run}.\n"


def test_a_stage_that_failed_otherwise_is_no_halt(command: Command, kfp: Kfp, run: str, cluster: Cluster) -> None:
    cluster.add(run, "work-3", "ValueError: HaltedError\n", phase="Failed")
    _fail(kfp, run)
    assert command("watch", run).code == 1
