"""``selfloop submit`` and ``watch`` against a KFP API that checks what it is asked."""

from collections.abc import Callable

from selfloop.cluster import runs, uploads
from selfloop.cluster.connection import Connection

from .conftest import Ended
from .kfp_server import Fault, Kfp

Command = Callable[..., Ended]


def test_submit_uploads_the_pipeline_and_begins_a_run(command: Command, kfp: Kfp) -> None:
    done = command("submit", "length-generalization", "--rounds", "2", "--seed", "3")
    assert (done.code, done.err) == (0, "")
    ((run_id, run),) = kfp.runs.items()
    assert f"{kfp.url}/#/runs/details/{run_id}" in done.out
    assert run["runtime_config"]["parameters"] == {"seed": 3}
    assert run["service_account"] == "selfloop"
    (pipeline,), (version,), (experiment,) = (one.values() for one in (kfp.pipelines, kfp.versions, kfp.experiments))
    assert (pipeline["name"], pipeline["namespace"]) == ("length-generalization", "selfloop")
    assert (experiment["display_name"], experiment["namespace"]) == ("length-generalization", "selfloop")
    assert version["pipeline_spec"]["pipelineInfo"]["name"] == "length-generalization"
    assert "round 2 · generate" in str(version["pipeline_spec"])


def test_equal_content_is_uploaded_once(command: Command, kfp: Kfp) -> None:
    for seed in ("1", "2"):
        assert command("submit", "length-generalization", "--rounds", "2", "--seed", seed).code == 0
    assert (len(kfp.runs), kfp.count("UploadPipelineVersion")) == (2, 1)
    assert command("submit", "length-generalization", "--rounds", "3").code == 0
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.experiments)) == (1, 2, 1)


def test_what_was_made_before_the_connection_dropped_is_found(
    connected: Connection, kfp: Kfp, package: uploads.Package
) -> None:
    for operation in ("PipelineService_CreatePipeline", "UploadPipelineVersion", "ExperimentService_CreateExperiment"):
        kfp.fault(operation, Fault(drops="after"))
    kfp.fault("RunService_CreateRun", Fault(drops="before"), Fault(drops="after"), Fault(status=503))
    version = uploads.uploaded(connected, package)
    run_id = runs.submit(connected, package, version, uploads.experiment(connected, "loop"), {})
    assert list(kfp.runs) == [run_id]
    assert [len(one) for one in (kfp.pipelines, kfp.versions, kfp.experiments)] == [1, 1, 1]


def test_watch_ends_as_the_run_ends(command: Command, kfp: Kfp, begun: str) -> None:
    def end(run_id: str) -> None:
        for task in kfp.tasks_of(run_id):
            kfp.move(run_id, task, "SUCCEEDED", "2026-11-21T02:00:00Z", "2026-11-21T02:00:12Z")
        kfp.end(run_id, "SUCCEEDED")

    kfp.looks = [lambda _: None, lambda _: None, end]
    done = command("watch", begun)
    assert (done.code, done.err) == (0, "")
    assert "round 1 · verify: succeeded, 12 s" in done.out
    assert "✓ succeeded" in done.out
