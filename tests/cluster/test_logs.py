"""``selfloop logs``: what a stage printed, from its pod; and what a failed one tells of why."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selfloop.cluster.pods import Pod, choose, driven_task_of, task_of
from selfloop.cluster.uploads import Planned, Task

from .conftest import Ended
from .kfp_server import Kfp
from .pods_server import Cluster, serving_pods

pytestmark = pytest.mark.slow

Command = Callable[..., Ended]
LOOP = [Planned(Task(n, "generate"), (*["condition"] * (n - 1), "generate")) for n in (1, 2, 3)]


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


def test_of_pods_that_are_gone_the_archive_is_named(command: Command, kfp: Kfp, begun: str, cluster: Cluster) -> None:
    kfp.end(begun, "SUCCEEDED")
    done = command("logs", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "has no pods any more: its logs are in the archive of Argo" in done.err
    assert "(private-artifacts/selfloop/*/2026/11/21/*/main.log)" in done.err
    assert f"{kfp.url}/#/runs/details/{begun}" in done.err


def test_a_run_that_has_no_pods_yet_is_said_to_have_none(command: Command, begun: str, cluster: Cluster) -> None:
    done = command("logs", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "has no pods yet: wait" in done.err


@pytest.mark.parametrize(
    ("node", "task"),
    [
        ("wf.root.generate-driver", Task(1, "generate")),
        ("wf(0).root(1).condition(0).generate-driver(2)", Task(2, "generate")),
        ("wf.root.condition.condition.generate-driver", Task(3, "generate")),
        ("wf.root.condition-driver", Task(2, "generate")),
        ("wf.root-driver", Task(1, "generate")),
        ("wf.root.generate.executor", None),
    ],
)
def test_a_driver_is_of_the_task_or_of_the_first_in_the_graph_that_it_prepares(node: str, task: Task | None) -> None:
    assert driven_task_of(node, LOOP) == task


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
    assert task_of(node, LOOP) == (Task(round, "generate") if round else None)


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


HALT = "Guard 'length' halts the loop: 9.1 is beyond 4. The champion stays in force."
MISTAKE = "Parameter 'samples' of evaluate cannot be 0: Input should be greater than 0."
LAUNCHER = "I1121 02:00:01 launcher_v2.go:151] starting\n"
ENDED = "F1121 02:00:12 main.go:56] failed to execute component: exit status 1\n"


def test_a_loop_that_a_guard_halted_ends_the_command_as_that(
    command: Command, kfp: Kfp, run: str, cluster: Cluster
) -> None:
    cluster.add(run, "work-3", f"{LAUNCHER * 500}selfloop halted: {HALT}\n{ENDED}", phase="Failed")
    _fail(kfp, run)
    done = command("watch", run)
    assert (done.code, done.err) == (3, f"selfloop: {HALT} See {kfp.url}/#/runs/details/{run}.\n")


def test_a_mistake_in_a_stage_is_said_by_watch_and_first_of_all_by_logs(
    command: Command, kfp: Kfp, run: str, cluster: Cluster
) -> None:
    printed = f"{LAUNCHER}selfloop: {MISTAKE}\n{ENDED}"
    cluster.add(run, "work-3", printed, phase="Failed")
    _fail(kfp, run)
    done = command("watch", run)
    see = f"See 'selfloop logs {run} 1/verify' or {kfp.url}/#/runs/details/{run}."
    assert (done.code, done.err) == (1, f"selfloop: Run {run} failed in round 1 · verify: {MISTAKE} {see}\n")
    assert command("logs", run).out == f"round 1 · verify: {MISTAKE}\n{printed}"


def _continues(kfp: Kfp, run_id: str, origin: str) -> None:
    """Let a run be the third of a loop, by its name and by where it began."""
    kfp.runs[run_id]["display_name"] = "small of tonight · part 3"
    kfp.runs[run_id]["runtime_config"] = {"parameters": {"seed": 3, "origin": origin}}


def test_rounds_are_counted_over_the_runs_of_a_loop(command: Command, kfp: Kfp, run: str, cluster: Cluster) -> None:
    """Of two rounds each; a log is found by that number, and by the one that KFP's UI shows."""
    _continues(kfp, run, "run:the-second")
    cluster.add(run, "work-3", f"selfloop: {MISTAKE}\n", phase="Failed")
    _fail(kfp, run)
    done = command("watch", run)
    assert "round 5 · generate: succeeded" in done.out
    assert "4 rounds in the runs before; KFP's UI counts those of each from 1" in done.out
    (row,) = [line for line in done.out.splitlines() if line.startswith("5 ")]
    assert "✗" in row
    assert f"Run {run} failed in round 5 · verify: {MISTAKE} See 'selfloop logs {run} 5/verify'" in done.err
    for named in ("5/verify", "1/verify", "round 1 · verify"):
        assert command("logs", run, named).out.startswith(f"round 5 · verify: {MISTAKE}")
    assert "there are 4/start" not in command("logs", run, "7/verify").err
    assert "5/generate, 6/generate" in command("logs", run, "7/verify").err


def test_a_run_that_is_only_called_a_part_counts_from_one(
    command: Command, kfp: Kfp, run: str, cluster: Cluster
) -> None:
    _continues(kfp, run, "start")
    cluster.add(run, "work-3", f"selfloop: {MISTAKE}\n", phase="Failed")
    _fail(kfp, run)
    assert f"Run {run} failed in round 1 · verify" in command("watch", run).err


def test_a_stage_that_failed_otherwise_is_no_halt(command: Command, kfp: Kfp, run: str, cluster: Cluster) -> None:
    cluster.add(run, "work-3", f"ValueError: selfloop halted: {HALT}\n", phase="Failed")
    _fail(kfp, run)
    done = command("watch", run)
    assert done.code == 1
    assert f"Run {run} failed in round 1 · verify: see 'selfloop logs {run} 1/verify'" in done.err


@pytest.mark.parametrize(
    ("status", "reason", "log", "sentence"),
    [
        (137, "OOMKilled", "", "it ran out of memory (OOMKilled, limit 4Gi): raise 'memory' under [stages.verify]"),
        (1, "Error", "failed to execute component: signal: killed\n", "it ran out of memory (OOMKilled, limit 4Gi)"),
        (137, "Error", "", "it was killed (status 137, limit 4Gi), as where memory is short: raise 'memory' under"),
        (143, "DeadlineExceeded", "", "it ran out of time: raise 'time_limit' under [stages.verify] in the profile"),
        (1, "ContainerStatusUnknown", "", "its pod was ended (ContainerStatusUnknown): mend what that says."),
    ],
)
def test_what_ended_a_stage_from_outside_is_said_with_the_setting_to_change(
    command: Command, kfp: Kfp, run: str, cluster: Cluster, status: int, reason: str, log: str, sentence: str
) -> None:
    cluster.add(run, "work-3", log, phase="Failed", status=status, reason=reason)
    _fail(kfp, run)
    assert f"failed in round 1 · verify: {sentence}" in command("watch", run).err
    assert command("logs", run).out.startswith(f"round 1 · verify: {sentence}")


def test_a_driver_that_failed_is_told_as_it_is(command: Command, kfp: Kfp, run: str, cluster: Cluster) -> None:
    """KFP tells nothing of its task, since nothing was executed."""
    said = "KFP driver: driver.Container(...) failed: UNIQUE constraint failed: Event.artifact_id"
    cluster.add(run, "work-5-driver", f"{LAUNCHER}{said}\n", phase="Failed")
    kfp.end(run, "FAILED")
    done = command("watch", run)
    assert done.code == 1
    assert "failed in the driver of round 2 · verify: KFP's driver ended after it said '" in done.err
    assert said in done.err
    assert "round 2 · verify: failed" in done.out
    assert command("logs", run).out.endswith(f"{LAUNCHER}{said}\n")


def test_a_failed_attempt_that_was_followed_by_a_good_one_is_no_failure(
    command: Command, kfp: Kfp, run: str, cluster: Cluster
) -> None:
    cluster.add(run, "work-3", "first\n", phase="Failed")
    cluster.add(run, "work-3", "second\n", attempt=1)
    assert command("logs", run).out == "second\n"
