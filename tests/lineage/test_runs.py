"""Runs in MLflow: ours, somebody else's, and those that KFP's plugin opens."""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.artifacts import check
from selfloop.errors import UserError
from selfloop.lineage import tracking
from selfloop.lineage.registry import Registry
from selfloop.modes.inprocess import Silent, run
from selfloop.recipe import find_recipe
from selfloop.stages import Stage

from ..forked import Forked
from .test_rounds import ALWAYS, NAME, RECIPE, ran

pytestmark = pytest.mark.slow


def test_a_run_has_a_nested_run_a_round(client: MlflowClient, small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    parent = client.get_run((tmp_path / "a" / "note.txt").read_text())
    assert parent.info.status == "FINISHED"
    assert parent.data.params["finetune.steps"] == "5"
    assert {"accuracy", "gain", "promoted", "champion_version", "cost.drawn"} <= parent.data.metrics.keys()
    assert not [name for name in parent.data.metrics if "level" in name], "levels are one table"
    assert parent.data.tags["mlflow.note.content"].startswith("Round 2: ")
    table = json.loads(Path(client.download_artifacts(parent.info.run_id, "accuracy_by_level.json")).read_text())
    assert table["columns"] == ["round", "level", "policy", "accuracy"]
    assert {row[0] for row in table["data"]} == {1, 2}
    rounds = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {nested.info.run_name for nested in rounds} == {"round 1", "round 2"}
    for nested in rounds:
        assert nested.info.status == "FINISHED"
        assert {"target.gain", "old.champion.pass_at_1"} <= nested.data.metrics.keys()


def test_the_champion_is_a_model_that_mlflow_itself_can_fetch(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path
) -> None:
    last = ran(small, tmp_path / "a", ALWAYS)
    fetched = mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion", dst_path=str(tmp_path / "d"))
    assert check(fetched).digest == last.champion.metadata["digest"]


def test_a_run_that_is_there_is_joined_and_not_ended(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = client.create_run("0", run_name="theirs").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    ran(small, tmp_path / "a", ALWAYS)
    assert client.get_run(theirs).info.status == "RUNNING"
    assert client.get_run(theirs).data.params["seed"] == "7"
    nested = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{theirs}'")
    assert {each.info.run_name for each in nested} == {"round 1", "round 2"}
    assert client.get_experiment_by_name("selfloop") is None


def test_what_is_logged_in_a_file_lies_beside_it_whoever_made_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/there/mlflow.db")
    made = tracking.client()
    theirs = made.create_run("0").info.run_id
    for run_id in (lineage.opened_run("a", {}, "0f-42", theirs), lineage.opened_run("b", {}, "0f-43")):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        nested = tracking.round_run(made, 1)
        decision = {"promoted": False, "reason": "no gain"}
        tracking.log_standing(made, nested, 1, decision, 1, rounds=[{"round": 1, "accuracy": {"champion": {"1": 0.5}}}])
        monkeypatch.delenv("MLFLOW_RUN_ID")
    assert not list((tmp_path / "here").iterdir())
    assert len(list((tmp_path / "there" / "mlflow-artifacts").rglob(tracking.LEVELS))) == 2


def test_under_kfp_a_round_logs_into_the_run_of_its_task(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the KFP plugin does: a run a pipeline, a nested run a task, whose id is injected."""
    whole = client.create_run("0", run_name="pipeline", tags={"kfp.pipeline_run_id": "0f-42"}).info.run_id
    tasks = [
        client.create_run("0", run_name=name, tags={"mlflow.parentRunId": whole}).info.run_id for name in ("one", "two")
    ]

    class Pods(Silent):
        def stage_begins(self, round: int, stage: Stage) -> None:
            monkeypatch.setenv("MLFLOW_RUN_ID", tasks[max(round, 1) - 1])

    recipe = find_recipe(RECIPE)
    run(recipe, recipe.resolve(small, ALWAYS), tmp_path / "run", Pods())
    assert len(client.search_runs(["0"])) == 3, "no second tree"
    for task in tasks:
        assert "target.gain" in client.get_run(task).data.metrics
    versions = Registry(NAME).versions()
    assert [version.tag("kfp_run") for version in versions.values()] == ["0f-42"] * 3
    assert {version.tag("run") for version in versions.values()} == {whole}
    assert [move.version for move in Registry(NAME).moves()] == [1, 2, 3]


def test_rounds_are_nested_in_the_run_that_kfp_s_plugin_opened_for_the_pipeline(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tree, which holds what KFP says of tasks beside what the loop says of rounds."""
    whole = client.create_run("0", run_name="pipeline", tags={"kfp.pipeline_run_id": "0f-42"}).info.run_id
    client.create_run("0", run_name="resolve", tags={"mlflow.parentRunId": whole})
    recipe = find_recipe(RECIPE)
    settings = recipe.resolve(small, ALWAYS)
    monkeypatch.setenv("MLFLOW_RUN_ID", lineage.opened_run("loop", settings.overrides(), "0f-42", whole))
    run(recipe, settings, tmp_path / "run")
    nested = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{whole}'")
    assert {each.info.run_name for each in nested} == {"resolve", "round 1", "round 2"}
    assert client.get_run(whole).data.params["seed"] == "7"
    assert client.get_experiment_by_name("selfloop") is None
    assert {version.tag("kfp_run") for version in Registry(NAME).versions().values()} == {"0f-42"}


def test_a_run_that_fails_is_said_to_have_failed(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lineage.tracked_run("r", {}, tmp_path / "note", tmp_path / "mlflow"):
        raise ZeroDivisionError
    assert client.get_run((tmp_path / "note").read_text()).info.status == "FAILED"


def test_a_tracking_uri_that_is_none_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    mlflow.set_tracking_uri("nonsense://x")
    with (
        pytest.raises(UserError, match="MLflow at nonsense://x cannot be used"),
        lineage.tracked_run("r", {}, tmp_path / "note", tmp_path / "mlflow"),
    ):
        pass


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///{}/notes.txt", "file is not a database"),
        ("postgresql+pg8000://me:secret@127.0.0.1/x", "No module named 'pg8000'"),
        ("postgresql+nothing://me:s@cret@127.0.0.1/x", "nothing"),
    ],
)
def test_a_database_that_is_none_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    mlflow.set_tracking_uri(uri.format(tmp_path))
    with pytest.raises(UserError, match="cannot be used") as refused:
        tracking.client()
    assert said in str(refused.value)
    assert refused.value.__suppress_context__
    assert "cret" not in str(refused.value)


def test_two_first_runs_at_once_on_a_new_file_both_open_it(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/new/mlflow.db"}
    program = "from selfloop.lineage import tracking; tracking.client().search_experiments()"
    opened = [Forked("-c", program, env=environment) for _ in range(3)]
    said = [each.communicate()[1] for each in opened]
    assert [each.returncode for each in opened] == [0, 0, 0], said


def test_an_experiment_that_a_run_beside_makes_first_is_the_one_of_both(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, looked = client.get_experiment_by_name, []

    def late(name: str) -> Any:
        """Before either made it, both have looked."""
        looked.append(name)
        found = find(name)
        if len(looked) == 1 and found is None:
            client.create_experiment(name)
        return found

    beside = MlflowClient()
    monkeypatch.setattr(beside, "get_experiment_by_name", late)
    monkeypatch.setattr(tracking, "EXPERIMENT", "made at once")
    known = tracking._experiment(beside)
    assert known == find("made at once").experiment_id
    assert looked == ["made at once"] * 2


def test_killed_while_the_tables_of_a_new_file_are_made_the_next_makes_them(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    program = "from selfloop.lineage import tracking; tracking.client().search_experiments()"
    dying = "import os; from mlflow.store.db import utils; utils._upgrade_db = lambda *words: os.kill(os.getpid(), 9)"
    killed = Forked("-c", f"{dying}; {program}", env=environment)
    killed.communicate()
    assert killed.returncode == -9
    assert not (tmp_path / "mlflow.db").exists()
    again = Forked("-c", program, env=environment)
    said = again.communicate()
    assert again.returncode == 0, said


def test_a_run_of_ours_that_is_nested_in_anothers_is_the_whole_run(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = client.create_run("0", run_name="sweep").info.run_id
    theirs = client.create_run("0", run_name="trial", tags={"mlflow.parentRunId": sweep}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    with lineage.tracked_run("r", {}, tmp_path / "note", tmp_path / "mlflow"):
        whole = tracking.whole_run(client)
    assert whole is not None
    assert whole.info.run_id == theirs


def test_a_note_that_names_no_run_is_said_with_the_file_to_remove(client: MlflowClient, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def refused(sentence: str) -> None:
        with pytest.raises(UserError, match=sentence) as said, lineage.tracked_run("r", {}, note, tmp_path):
            pass
        assert f"remove {note}" in str(said.value)

    note.write_text("")
    refused("it is empty")
    note.write_text("0" * 32)
    refused(f"MLflow has no run {'0' * 32}")
    note.unlink()
    with lineage.tracked_run("r", {}, note, tmp_path) as run_id:
        pass
    client.delete_run(run_id)
    refused(f"MLflow has no run {run_id}")


def test_a_note_is_whole_or_absent(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []

    def fails(source: Path, target: Path) -> None:
        replaced.append((source, target))
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="killed"), lineage.tracked_run("r", {}, tmp_path / "note", tmp_path):
        pass
    assert replaced == [(tmp_path / "note.partial", tmp_path / "note")]
    assert not (tmp_path / "note").exists()


def test_the_artifacts_of_runs_lie_beside_the_file_and_not_in_the_first_run(
    client: MlflowClient, tmp_path: Path
) -> None:
    with lineage.tracked_run("r", {}, tmp_path / "note", tmp_path / "run" / "mlflow") as run_id:
        (tmp_path / "report.html").write_text("<p>")
        lineage.finish(run_id, tmp_path / "report.html", {"solved": 3})
    assert list((tmp_path / "mlflow-artifacts").rglob("report.html"))
    assert not (tmp_path / "run").exists()


def test_a_server_that_went_away_at_the_end_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv(tracking.RETRIES, "0")
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"MLflow at http://127\.0\.0\.1:1 cannot be used"):
        lineage.finish("0", tmp_path / "none", {"solved": 3})


@pytest.mark.parametrize(("given", "seen"), [(None, ["4", "8", "4"]), ("2", ["2", "2", "2"])])
def test_a_run_bears_with_a_server_for_longer_than_a_command(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, seen: list[str]
) -> None:
    if given is None:
        monkeypatch.delenv(tracking.RETRIES, raising=False)
    else:
        monkeypatch.setenv(tracking.RETRIES, given)
    tracking._retries_are_given.cache_clear()
    tracking.client()
    found = [os.environ[tracking.RETRIES]]
    with lineage.tracked_run("r", {}, tmp_path / "note", tmp_path):
        found.append(os.environ[tracking.RETRIES])
    assert [*found, os.environ[tracking.RETRIES]] == seen
    tracking._retries_are_given.cache_clear()
    os.environ.pop(tracking.RETRIES)


def test_a_place_that_a_run_cannot_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="takes no version whose files lie in a folder"):
        tracking.check_place("http://127.0.0.1:1", str(tmp_path))
    monkeypatch.delenv("SELFLOOP_STORE", raising=False)
    with pytest.raises(UserError, match="There is no place for policies"):
        tracking.check_place("postgresql+psycopg2://127.0.0.1/x", None)
    with pytest.raises(UserError, match="is no place for artifacts"):
        tracking.check_place(f"sqlite:///{tmp_path}/mlflow.db", "ftp://x/y")
    tracking.check_place(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "store"))
    assert not list(tmp_path.iterdir())


def test_without_a_tracking_uri_nothing_is_tracked(finished_run: Path) -> None:
    assert not lineage.is_on()
    assert not list(finished_run.parent.rglob("*.db"))
