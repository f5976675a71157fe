"""Watching a run: what is shown of its rounds, and how the command ends."""

import os
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl
from kfp_server_api import V2beta1PipelineTaskDetail
from mlflow import MlflowClient
from rich.console import Console
from selfloop.cluster import runs, uploads
from selfloop.cluster.connection import Connection, RefusedError
from selfloop.cluster.runs import Progress, StageStatus
from selfloop.cluster.table import table_of
from selfloop.cluster.uploads import Planned, Task
from selfloop.lineage.registry import Registry

from .conftest import Ended, work
from .kfp_server import Fault, Kfp
from .pods_server import Cluster

pytestmark = pytest.mark.slow

Command = Callable[..., Ended]
BEGAN, ENDED = "2026-11-21T02:00:00Z", "2026-11-21T02:00:12Z"
NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
STAGES = ("propose", "generate", "verify", "filter", "finetune", "evaluate", "close")


def _end(kfp: Kfp, state: str = "SUCCEEDED", failed: str = "") -> Callable[[str], None]:
    def end(run_id: str) -> None:
        for task in kfp.tasks_of(run_id):
            kfp.move(run_id, task, "FAILED" if task == failed else "SUCCEEDED", BEGAN, ENDED)
        kfp.end(run_id, state)

    return end


def _nothing(run_id: str) -> None:
    pass


def _compress(kfp: Kfp) -> Callable[[str], None]:
    """What KFP tells of a run from now on is what it was: generating in the first round."""

    def compress(run_id: str) -> None:
        kfp.move(run_id, "root", "RUNNING", BEGAN)
        kfp.move(run_id, "work", "SUCCEEDED", BEGAN, ENDED)
        kfp.move(run_id, "work-2", "RUNNING", BEGAN)
        kfp.compressed.add(run_id)

    return compress


def _registered(kfp_run: str, *verdicts: str) -> None:
    """The rounds that a run has ended, from the sixth of its loop on, as the loop records them; and the start."""
    for number, verdict in enumerate(("start", *verdicts), 5):
        tags = {"kfp_run": kfp_run, "round": str(number), "verdict": verdict, "reason": f"{verdict} for a reason"}
        Registry("adder").register(f"{kfp_run}:{number}", f"/policies/{number}", "", tags, "")


def test_submit_watches_until_the_run_has_ended(command: Command, kfp: Kfp) -> None:
    kfp.looks = [_nothing, _nothing, _end(kfp)]
    done = command("submit", "length-generalization", "--rounds", "1", "--pods", "--watch")
    assert (done.code, done.err) == (0, "")
    assert "round 1 · generate: succeeded, 12 s\n" in done.out
    assert "round 0 · " in done.out
    assert "✓ succeeded" in done.out
    assert done.out.count("round 1 · generate") == 1


def test_a_run_that_failed_ends_the_command_so(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, _end(kfp, "FAILED", failed="work-3")]
    done = command("watch", begun)
    assert done.code == 1
    url = f"{kfp.url}/#/runs/details/{begun}"
    assert (
        done.err
        == f"selfloop: Run {begun} failed in round 1 · verify: see 'selfloop logs {begun} 1/verify' or {url}.\n"
    )


def test_rounds_that_were_not_needed_are_left_out(command: Command, kfp: Kfp, begun: str) -> None:
    def stop_early(run_id: str) -> None:
        for task in ("work", "work-2", "work-3"):
            kfp.move(run_id, task, "SUCCEEDED", BEGAN, ENDED)
        kfp.move(run_id, "condition-1", "SKIPPED")
        kfp.end(run_id, "SUCCEEDED")

    kfp.looks = [_nothing, stop_early]
    done = command("watch", begun)
    assert done.code == 0
    assert "round 2" not in done.out
    assert done.out.endswith("1 round not needed\n")


def test_a_run_whose_pipeline_was_deleted_is_watched_without_its_stages(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.versions.clear()
    kfp.looks = [_nothing, lambda run_id: kfp.end(run_id, "SUCCEEDED")]
    done = command("watch", begun)
    assert (done.code, done.err) == (0, "")
    assert "✓ succeeded" in done.out


def test_a_run_of_no_version_is_watched_without_its_stages(connected: Connection, kfp: Kfp, begun: str) -> None:
    del kfp.runs[begun]["pipeline_version_reference"]["pipeline_version_id"]
    assert runs.plan_of(connected, begun) == []


def test_a_run_that_failed_before_it_began_is_said_to_have(
    command: Command, kfp: Kfp, begun: str, cluster: Cluster
) -> None:
    kfp.end(begun, "FAILED")
    done = command("watch", begun)
    assert (done.code, f"Run {begun} failed before a stage began: see http" in done.err) == (1, True)


def test_where_nobody_can_tell_which_stage_failed_the_remedy_is_said(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_compress(kfp), lambda run_id: kfp.end(run_id, "FAILED")]
    done = command("watch", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "failed, and KFP does not tell in which stage: set KUBECONFIG, so that its pods are asked" in done.err


def test_a_run_of_which_kfp_tells_no_more_is_seen_by_its_pods(
    command: Command, kfp: Kfp, begun: str, cluster: Cluster
) -> None:
    def work_on(run_id: str) -> None:
        for task in ("work", "work-2", "work-3", "work-4"):
            cluster.add(run_id, task, "")
        cluster.add(run_id, "work-5", "", phase="Running")

    def end(run_id: str) -> None:
        del cluster.pods["selfloop", "wf-system-container-impl-4"]
        cluster.add(run_id, "work-5", "")
        kfp.end(run_id, "SUCCEEDED")

    kfp.looks = [_nothing, _compress(kfp), work_on, end]
    done = command("watch", begun)
    assert (done.code, done.err) == (0, "")
    stages = ["0 · start", "1 · generate", "1 · verify", "2 · generate", "2 · verify"]
    assert [line.partition(":")[0] for line in done.out.splitlines()[:5]] == [f"round {stage}" for stage in stages]
    assert "not needed" not in done.out


def test_without_its_pods_a_run_is_seen_by_the_rounds_that_it_recorded(
    command: Command, kfp: Kfp, begun: str, client: MlflowClient
) -> None:
    def end(run_id: str) -> None:
        _registered(run_id, "rejected")
        _registered("another", "promoted", "promoted")
        kfp.end(run_id, "SUCCEEDED")

    kfp.looks = [_nothing, _compress(kfp), end]
    done = command("watch", begun)
    assert (done.code, done.err) == (0, "")
    assert "round 1 · verify: succeeded" in done.out
    assert done.out.endswith("1 round not needed\n")


def test_of_rounds_that_nobody_tells_of_nothing_is_claimed(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, _compress(kfp), lambda run_id: kfp.end(run_id, "SUCCEEDED")]
    done = command("watch", begun)
    assert done.code == 0
    assert "1 round of which KFP tells nothing: set KUBECONFIG or MLFLOW_TRACKING_URI" in done.out
    assert "not needed" not in done.out


def test_a_loop_that_was_halted_ends_the_command_so_also_where_only_the_loop_tells(
    command: Command, kfp: Kfp, begun: str, client: MlflowClient
) -> None:
    def end(run_id: str) -> None:
        _registered(run_id, "promoted", "halted")
        kfp.end(run_id, "FAILED")

    kfp.looks = [_nothing, _compress(kfp), end]
    done = command("watch", begun)
    url = f"{kfp.url}/#/runs/details/{begun}"
    assert (done.code, done.err) == (
        3,
        f"selfloop: halted for a reason. The champion stays in force. See {url}.\n",
    )
    assert "round 2 · generate: succeeded" in done.out


def test_a_run_that_was_cancelled_is_said_to_be(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, _nothing, lambda run_id: kfp.end(run_id, "CANCELED")]
    done = command("watch", begun)
    assert done.code == 1
    assert f"Run {begun} was cancelled: what its finished stages made is kept" in done.err


def test_a_run_that_kfp_calls_failed_after_it_was_cancelled_was_cancelled(
    command: Command, kfp: Kfp, begun: str, cluster: Cluster
) -> None:
    def cancel(run_id: str) -> None:
        kfp.on_terminate_run(run_id)
        kfp.move(run_id, "work", "FAILED", BEGAN, ENDED)
        cluster.add(run_id, "work", "", phase="Failed", status=143)
        kfp.end(run_id, "FAILED")

    kfp.looks = [_nothing, _nothing, cancel]
    done = command("watch", begun)
    assert (done.code, f"Run {begun} was cancelled: what" in done.err) == (1, True)
    assert "round 0 · start: canceled" in done.out
    assert "failed" not in done.out


def test_ctrl_c_leaves_the_run_running(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, lambda _: os.kill(os.getpid(), signal.SIGINT)]
    done = command("watch", begun)
    assert done.code == 130
    assert f"Stopped watching; run {begun} continues" in done.err
    assert f"selfloop cancel {begun}" in done.err
    assert kfp.runs[begun]["state"] == "PENDING"
    assert kfp.count("RunService_TerminateRun") == 0


def test_a_connection_that_drops_while_watching_is_made_again(command: Command, kfp: Kfp, begun: str) -> None:
    drop = Fault(drops="before")
    kfp.looks = [_nothing, lambda _: kfp.fault("RunService_GetRun", *[drop] * 8), _end(kfp)]
    done = command("watch", begun)
    assert done.code == 0
    assert done.out.count("cannot be reached") == 1
    assert "✓ succeeded" in done.out


def test_a_server_that_stays_away_is_not_waited_for_for_ever(
    connected: Connection, kfp: Kfp, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 1)
    shown: list[Progress] = []
    kfp.looks = [_nothing, lambda _: kfp.fault("RunService_GetRun", *[Fault(503)] * 12)]
    with pytest.raises(RefusedError, match="is out of order"):
        runs.watch(connected, begun, shown.append)
    assert [bool(progress.trouble) for progress in shown] == [False, True]


def test_a_run_that_vanishes_while_it_is_watched_is_said_to_have(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, _nothing, kfp.runs.__delitem__]
    done = command("watch", begun)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"Run {begun} vanished while it was watched" in done.err


def test_one_who_may_no_longer_look_is_told_so(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.looks = [_nothing, lambda _: setattr(kfp, "token", "another")]
    kfp.looks.append(_nothing)
    done = command("watch", begun)
    assert (done.code, "does not know who asks" in done.err) == (1, True)


def test_a_stage_is_what_its_task_and_its_driver_tell(connected: Connection, kfp: Kfp, begun: str) -> None:
    tasks = runs.plan_of(connected, begun)
    kfp.move(begun, "work", "SUCCEEDED", BEGAN, ENDED)
    kfp.move(begun, "work-2", "RUNNING", BEGAN)
    kfp.move(begun, "work-3-driver", "RUNNING", BEGAN)
    kfp.move(begun, "work-4-driver", "FAILED", BEGAN, ENDED)
    kfp.move(begun, "root", "RUNNING", BEGAN)
    kfp.move(begun, "executor", "RUNNING", BEGAN)
    statuses = runs.statuses_of(tasks, runs.find_run(connected, begun).run_details.task_details)
    assert [status.state for status in statuses] == ["SUCCEEDED", "RUNNING", "PENDING", "FAILED", ""]
    assert [status.seconds(NOW) for status in statuses] == [12, 3600, None, 12, None]


def test_what_is_told_of_a_later_round_is_told_of_those_before(connected: Connection, kfp: Kfp, begun: str) -> None:
    for task in ("root", "work", "work-2", "work-4"):
        kfp.move(begun, task, "RUNNING", BEGAN)
    statuses = runs.look(connected, begun, runs.plan_of(connected, begun)).statuses
    assert [status.state for status in statuses] == ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "RUNNING", ""]


def _detail(name: str, began: int, state: str = "SUCCEEDED") -> V2beta1PipelineTaskDetail:
    """What KFP tells of a task that began so many minutes after two, and took one."""
    start = datetime(2026, 11, 21, 2, began, tzinfo=UTC)
    end = start + timedelta(minutes=1) if state == "SUCCEEDED" else datetime(1, 1, 1, tzinfo=UTC)
    return V2beta1PipelineTaskDetail(display_name=name, state=state, start_time=start, end_time=end)


def test_of_tasks_with_one_name_those_that_began_first_are_of_the_first_round() -> None:
    loop = [
        Planned(Task(n, stage), (*["condition"] * (n - 1), stage)) for n in (1, 2, 3) for stage in ("draw", "train")
    ]
    details = [
        _detail("draw", 8, "RUNNING"), _detail("draw", 1), _detail("train", 5), _detail("draw", 4), _detail("train", 2)
    ]  # fmt: skip
    details += [_detail("train-driver", minute) for minute in (4, 1)]
    found = runs.statuses_of(loop, details)
    told = [(status.task, status.state, status.began and status.began.minute) for status in found]
    assert told == [
        (Task(1, "draw"), "SUCCEEDED", 1),
        (Task(1, "train"), "SUCCEEDED", 2),
        (Task(2, "draw"), "SUCCEEDED", 4),
        (Task(2, "train"), "SUCCEEDED", 5),
        (Task(3, "draw"), "RUNNING", 8),
        (Task(3, "train"), "", None),
    ]


def test_a_stage_of_several_pods_is_as_far_as_the_last_of_them() -> None:
    loop = [Planned(Task(n, "generate"), (*["condition"] * (n - 1), "for-loop", "generate"), 3) for n in (1, 2)]
    details = [_detail("generate", minute) for minute in (1, 2, 3)]
    first, second = runs.statuses_of(loop, [*details, _detail("generate", 9, "RUNNING"), _detail("generate", 8)])
    assert (first.state, first.seconds(NOW)) == ("SUCCEEDED", 180)
    assert (second.state, second.seconds(NOW)) == ("RUNNING", 52 * 60)


def test_where_kfp_tells_of_tasks_by_what_its_ui_shows_that_is_believed() -> None:
    loop = [Planned(Task(n, "generate"), (*["condition"] * (n - 1), "generate")) for n in (1, 2)]
    first, second = runs.statuses_of(loop, [_detail("round 2 · generate", 1)])
    assert (first.state, second.state) == ("", "SUCCEEDED")


@dsl.pipeline(name="sharded")  # type: ignore[untyped-decorator]
def sharded_pipeline() -> None:
    with dsl.ParallelFor(items=[0, 1, 2]):
        first = work(seed=0, origin="").set_display_name("round 1 · generate")
    with dsl.If(work(seed=0, origin="").after(first).output == True, name="round-2"):  # noqa: E712
        work(seed=0, origin="").set_display_name("round 2 · generate")


def test_the_plan_knows_over_how_many_pods_a_stage_is_spread(tmp_path: Path) -> None:
    compiler.Compiler().compile(sharded_pipeline, str(tmp_path / "sharded.yaml"))
    spec = next(yaml.load_all((tmp_path / "sharded.yaml").read_text(), Loader=yaml.CSafeLoader))
    found = list(uploads.planned(spec["root"]["dag"], spec["components"]))
    # KFP numbers graphs as it likes
    told = [(each.task, [re.sub(r"-\d+$", "", name) for name in each.path], each.pods) for each in found]
    assert told[:1] + told[-1:] == [
        (Task(1, "generate"), ["for-loop", "work"], 3),
        (Task(2, "generate"), ["condition", "work"], 1),
    ]


def _progress(rounds: int, at: int, state: str = "RUNNING") -> Progress:
    """A run of some rounds, of whose stages the first ``at`` have ended and the next is in a state."""
    began = NOW - timedelta(seconds=400)
    names = [Task(0, "draw"), *(Task(n, stage) for n in range(1, rounds + 1) for stage in STAGES)]
    tasks = [Planned(task, (str(task),)) for task in names]
    done = [StageStatus(task, "SUCCEEDED", began, began + timedelta(seconds=41)) for task in tasks[:at]]
    now = StageStatus(tasks[at], state, NOW - timedelta(seconds=75))
    left = [StageStatus(task) for task in tasks[at + 1 :]]
    return Progress("id", "sec 2026-11-21 02:00:00", "RUNNING", began, None, (*done, now, *left))


def _drawn(progress: Progress, width: int, most: int = 1000) -> list[str]:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(table_of(progress, console, NOW, most))
    assert isinstance(console.file, StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert all(len(line) <= width for line in lines)
    return lines


def test_a_wide_terminal_shows_a_column_a_stage() -> None:
    lines = _drawn(_progress(2, 12), 120)
    assert lines[0] == "sec 2026-11-21 02:00:00  ▶ running   7 min"
    assert lines[1] == "start  draw ✓ 41 s"
    assert lines[2].split() == ["round", *STAGES, "took"]
    assert lines[3].split()[:4] == ["1", "✓", "41", "s"]
    assert lines[4].startswith("2      ✓ 41 s   ✓ 41 s    ✓ 41 s  ✓ 41 s  ▶ 75 s    ·")


def test_a_narrow_terminal_shows_a_mark_a_stage() -> None:
    lines = _drawn(_progress(2, 12, "FAILED"), 60)
    assert lines[1].split() == ["round", "stages", "took", "at", "work"]
    assert lines[2:5] == [
        "start  ✓        41 s",
        "1      ✓✓✓✓✓✓✓  41 s",
        "2      ✓✓✓✓✗··  7 min  finetune 75 s",
    ]
    assert lines[5].startswith("stages: propose, generate, verify")


@pytest.mark.parametrize(
    ("at", "numbers"), [(0, ["start", "1", "2"]), (75, ["10", "11", "12"]), (174, ["23", "24", "25"])]
)
def test_where_not_all_rounds_can_be_seen_those_around_the_work_are(at: int, numbers: list[str]) -> None:
    lines = _drawn(_progress(25, at), 60, most=3)
    assert [line.split()[0] for line in lines[2:5]] == numbers
    assert "23 rounds not shown" in lines
