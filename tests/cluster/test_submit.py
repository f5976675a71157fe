"""``selfloop submit``: a recipe's pipeline goes to KFP once, and a run of it is begun once."""

import sys
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from selfloop.cluster import runs, uploads
from selfloop.cluster.connection import Connection, RefusedError
from selfloop.cluster.uploads import Package, Task
from selfloop.errors import UserError
from selfloop.recipe import find_recipe

from .conftest import Ended
from .kfp_server import Fault, Kfp

pytestmark = pytest.mark.slow

Command = Callable[..., Ended]
MAKES = ("PipelineService_CreatePipeline", "UploadPipelineVersion", "ExperimentService_CreateExperiment")


def test_submit_uploads_the_pipeline_and_begins_a_run(command: Command, kfp: Kfp) -> None:
    done = command("submit", "length-generalization", "--rounds", "2", "--seed", "3")
    assert (done.code, done.err) == (0, "")
    ((run_id, run),) = kfp.runs.items()
    assert f"{kfp.url}/#/runs/details/{run_id}" in done.out
    assert run["runtime_config"]["parameters"] == {"seed": 3}
    assert run["service_account"] == "selfloop"
    (pipeline,), (version,), (experiment,) = (one.values() for one in (kfp.pipelines, kfp.versions, kfp.experiments))
    assert (pipeline["name"], pipeline["namespace"]) == ("length-generalization", "selfloop")
    assert (experiment["display_name"], experiment["namespace"]) == ("length-generalization-addition", "selfloop")
    assert version["name"] in done.out
    assert "round 2 · round" in str(version["pipeline_spec"])


@pytest.mark.parametrize(
    ("words", "is_fused"),
    [
        (["submit"], True),
        (["submit", "--pods"], False),
        (["submit", "--profile", "one-gpu"], False),
        (["submit", "--profile", "one-gpu", "--fused"], True),
        (["schedule", "--every", "6h"], True),
        (["schedule", "--every", "6h", "--pods"], False),
    ],
)
def test_a_pod_runs_a_round_where_the_profile_says_that_stages_are_short_unless_one_says_otherwise(
    command: Command, kfp: Kfp, words: list[str], is_fused: bool
) -> None:
    assert command(*words, "length-generalization", "--rounds", "1").code == 0
    (version,) = kfp.versions.values()
    assert ("round 1 · round" in str(version["pipeline_spec"])) == is_fused
    assert ("round 1 · generate" in str(version["pipeline_spec"])) != is_fused


def test_the_ui_may_have_another_address(command: Command, kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/_/pipeline/")
    done = command("submit", "length-generalization", "--rounds", "1")
    assert f"https://kubeflow.example.com/_/pipeline/#/runs/details/{next(iter(kfp.runs))}\n" in done.out


def test_equal_content_is_uploaded_once(command: Command, kfp: Kfp) -> None:
    for seed in ("1", "2"):
        assert command("submit", "length-generalization", "--rounds", "1", "--seed", seed).code == 0
    assert (len(kfp.runs), kfp.count("UploadPipelineVersion")) == (2, 1)
    assert command("submit", "length-generalization", "--rounds", "2", "--experiment", "trials").code == 0
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.experiments)) == (1, 2, 2)


def test_the_version_is_found_on_whatever_page_it_is(connected: Connection, kfp: Kfp, package: Package) -> None:
    first = uploads.uploaded(connected, package)
    for _ in range(3):
        kfp.versions |= {"x": kfp.versions[first.pipeline_version_id] | {"name": f"0-{len(kfp.versions)}"}}
    kfp.page = 1
    assert uploads.uploaded(connected, package).pipeline_version_id == first.pipeline_version_id


@pytest.mark.parametrize("name", ["a+b", "100 %", "ünï/code & more"])
def test_an_experiment_may_have_any_name(connected: Connection, kfp: Kfp, name: str) -> None:
    first = uploads.experiment(connected, name)
    assert uploads.experiment(connected, name) == first
    assert kfp.experiments[first]["display_name"] == name


def test_an_api_for_one_user_is_told_no_namespace(command: Command, kfp: Kfp) -> None:
    kfp.multi_user = False
    assert command("submit", "length-generalization", "--rounds", "1").code == 0
    assert not [asked for asked in kfp.asked if "namespace" in {**asked.query, **(asked.body or {})}]


def test_what_was_made_before_the_connection_dropped_is_found(
    connected: Connection, kfp: Kfp, package: Package
) -> None:
    for operation in MAKES:
        kfp.fault(operation, Fault(drops="after"))
    kfp.fault("RunService_CreateRun", Fault(drops="before"), Fault(503), Fault(drops="after"), Fault(500))
    version = uploads.uploaded(connected, package)
    run_id = runs.submit(connected, package, version, uploads.experiment(connected, "loop"), {})
    assert list(kfp.runs) == [run_id]
    assert [len(one) for one in (kfp.pipelines, kfp.versions, kfp.experiments)] == [1, 1, 1]
    assert [kfp.count(operation) for operation in MAKES] == [1, 1, 1]
    assert kfp.count("RunService_CreateRun") == 3


def test_a_run_that_the_last_attempt_began_is_found(connected: Connection, kfp: Kfp, package: Package) -> None:
    version, experiment = uploads.uploaded(connected, package), uploads.experiment(connected, "loop")
    kfp.fault("RunService_CreateRun", *[Fault(503)] * 5, Fault(drops="after"))
    assert [runs.submit(connected, package, version, experiment, {})] == list(kfp.runs)


def test_an_equal_name_of_another_submission_is_not_taken_for_ones_own(
    connected: Connection, kfp: Kfp, package: Package, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Still(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Still":
            return cls(2026, 11, 21, tzinfo=tz)

    monkeypatch.setattr(runs, "datetime", Still)
    kfp.runs[begun]["display_name"] = "small 2026-11-21 00:00:00"
    version, experiment = uploads.uploaded(connected, package), uploads.experiment(connected, "loop")
    kfp.fault("RunService_CreateRun", Fault(drops="before"))
    another = runs.submit(connected, package, version, experiment, {})
    assert {begun, another} == set(kfp.runs)
    assert len({run["display_name"] for run in kfp.runs.values()}) == 1


@pytest.mark.parametrize("operation", MAKES)
def test_what_somebody_else_made_meanwhile_is_used(
    connected: Connection, kfp: Kfp, package: Package, operation: str
) -> None:
    kfp.fault(operation, Fault(409, takes_effect=True))
    version = uploads.uploaded(connected, package)
    assert uploads.experiment(connected, "loop") in kfp.experiments
    assert version.pipeline_version_id in kfp.versions


def test_a_conflict_that_nothing_explains_is_told(connected: Connection, kfp: Kfp, package: Package) -> None:
    kfp.fault(MAKES[0], Fault(409, said="name is taken in another namespace"))
    with pytest.raises(RefusedError, match=r"has this already \(name is taken in another namespace\)"):
        uploads.uploaded(connected, package)


def test_a_pipeline_of_somebody_else_is_not_added_to(command: Command, kfp: Kfp) -> None:
    kfp.on_create_pipeline({}, {"name": "length-generalization", "namespace": "selfloop", "description": "mine"})
    done = command("submit", "length-generalization", "--rounds", "1")
    assert done.code == 1
    assert "There is a pipeline 'length-generalization'" in done.err
    assert "it is not made from selfloop_recipes.length_generalization:recipe: give your recipe another" in done.err
    assert not kfp.versions


def test_a_pipeline_tells_what_its_form_takes_and_is_known_by_its_recipe(command: Command, kfp: Kfp) -> None:
    """Also where other inputs were told of when it was made."""
    assert command("submit", "length-generalization", "--rounds", "1").code == 0
    (pipeline,) = kfp.pipelines.values()
    summary, _, inputs = pipeline["description"].partition("\n\nInputs of a run")
    assert summary == find_recipe("length-generalization").summary
    assert "`finetune_learning_rate` (> 0)" in inputs
    assert "\n\nA loop of selfloop, `selfloop_recipes.length_generalization:recipe`. Inputs are those of" in inputs
    pipeline["description"] = pipeline["description"].replace("finetune_learning_rate", "another_input")
    assert command("submit", "length-generalization", "--rounds", "2").code == 0
    assert len(kfp.versions) == 2


def test_a_version_with_other_content_is_not_run(connected: Connection, kfp: Kfp, package: Package) -> None:
    found = kfp.versions[uploads.uploaded(connected, package).pipeline_version_id]
    found["description"] = "by hand"
    with pytest.raises(UserError, match=rf"Version {found['name']} of the pipeline 'small' .* has other content"):
        uploads.uploaded(connected, package)


def test_only_what_the_form_has_is_filled_in(package: Package, small_yaml: Path) -> None:
    assert runs.parameters(package) == {}
    assert runs.parameters(package, seed=0, origin="champion") == {"seed": 0, "origin": "champion"}
    object.__setattr__(package, "form", frozenset({"seed"}))
    with pytest.raises(UserError, match="The form of recipe 'small' has no 'origin'"):
        runs.parameters(package, origin="champion")


def test_the_plan_of_a_pipeline_is_in_the_order_of_its_work(connected: Connection, kfp: Kfp, begun: str) -> None:
    tasks = runs.plan_of(connected, begun)
    assert [each.task for each in tasks] == [
        Task(0, "start"), Task(1, "generate"), Task(1, "verify"), Task(2, "generate"), Task(2, "verify")
    ]  # fmt: skip
    assert [each.path for each in tasks][-2:] == [("condition-1", "work-4"), ("condition-1", "work-5")]


@pytest.mark.parametrize(
    ("state", "ended"),
    [("PENDING", False), ("RUNNING", False), ("CANCELING", False), ("SUCCEEDED", True), ("FAILED", True)],
)
def test_a_run_has_ended_when_the_api_says_so(
    connected: Connection, kfp: Kfp, begun: str, state: str, ended: bool
) -> None:
    kfp.runs[begun]["state"] = state
    assert runs.has_ended(connected, begun) is ended


def test_a_run_that_vanished_has_ended_and_one_that_cannot_be_asked_for_has_not(
    connected: Connection, kfp: Kfp, begun: str
) -> None:
    assert runs.has_ended(connected, "vanished")
    kfp.fault("RunService_GetRun", Fault(403))
    with pytest.raises(RefusedError, match="forbids"):
        runs.has_ended(connected, begun)
    kfp.prefix = "/moved"
    with pytest.raises(RefusedError, match="is no API of Kubeflow Pipelines"):
        runs.has_ended(connected, begun)


def test_a_run_that_has_ended_is_not_cancelled(command: Command, kfp: Kfp, begun: str) -> None:
    kfp.end(begun, "SUCCEEDED")
    done = command("cancel", begun)
    assert (done.code, done.err) == (1, f"selfloop: Run {begun} has ended (succeeded): there is nothing to cancel.\n")


@pytest.mark.parametrize("words", [["cancel"], ["watch"], ["logs"]])
def test_a_run_that_is_not_there_is_said_not_to_be(command: Command, words: list[str]) -> None:
    done = command(*words, "nowhere")
    assert done.code == 1
    assert done.err.startswith("selfloop: There is no run nowhere at http")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit", "length-generalisation"], "did you mean 'length-generalization'?"),
        (["submit", "length-generalization", "--kfp", "kubeflow"], "is no address of Kubeflow Pipelines"),
        (["submit", "length-generalization", "--kfp", "http://127.0.0.1:1"], "cannot be reached"),
        (["submit", "length-generalization", "-n", "team-b"], "correct --namespace"),
        (["submit", "length-generalization", "--set", "finetune.learning=1"], "There is no parameter of"),
        (["submit", "length-generalization", "--ca-file", "none.pem"], "There is no file none.pem"),
        (["submit", "length-generalization", "--profile", "huge"], "There is no profile 'huge'"),
        (
            ["submit", "length-generalization", "--profile", "one-gpu", "--set", "generate.tensor_parallel=4"],
            "choose --profile multi-node",
        ),
        (["schedule", "length-generalization", "--cron", "61 * * * *"], "--cron '61 * * * *' cannot be read"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    command: Command, kfp: Kfp, words: list[str], sentence: str
) -> None:
    done = command(*words)
    assert done.code == 1
    assert sentence in done.err
    assert done.err.startswith("selfloop: ")
    assert done.err.count("\n") == 1
    assert not kfp.pipelines


def test_without_an_endpoint_submit_says_what_to_set(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFLOOP_KFP_ENDPOINT")
    done = command("submit", "length-generalization")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "give --kfp or set SELFLOOP_KFP_ENDPOINT" in done.err


def test_what_is_not_installed_is_said_with_the_way_to_install_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tenacity", None)
    for name in [name for name in sys.modules if name.startswith("selfloop.cluster.")]:
        monkeypatch.delitem(sys.modules, name)
    done = command("submit", "length-generalization")
    assert (done.code, done.err) == (
        1,
        "selfloop: tenacity is not installed: pip install 'selfloop[cluster]'.\n",
    )


def test_no_secret_stays_in_a_file_or_on_the_screen(
    command: Command, kfp: Kfp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kfp.token = "token-of-ada"
    monkeypatch.setenv("SELFLOOP_KFP_TOKEN", kfp.token)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = command("submit", "length-generalization", "--rounds", "1")
    assert done.code == 0
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and b"of-ada" in file.read_bytes()]
    assert not kept
    assert "of-ada" not in done.out + done.err + str([kfp.pipelines, kfp.versions, kfp.runs, kfp.experiments])
