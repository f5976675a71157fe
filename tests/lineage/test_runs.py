"""Runs in MLflow: ours, somebody else's, and those that KFP's plugin opens."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.artifacts import check
from selfloop.errors import UserError
from selfloop.inprocess import Silent, run
from selfloop.lineage.registry import Registry
from selfloop.recipe import find_recipe
from selfloop.stage import Stage

from .test_rounds import ALWAYS, NAME, ran


def test_a_run_has_a_nested_run_a_round(client: MlflowClient, small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    parent = client.get_run((tmp_path / "a" / "note.txt").read_text())
    assert parent.info.status == "FINISHED"
    assert parent.data.params["finetune.steps"] == "5"
    assert "accuracy.level_001" in parent.data.metrics
    rounds = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {nested.info.run_name for nested in rounds} == {"round 1", "round 2"}
    for nested in rounds:
        assert nested.info.status == "FINISHED"
        assert {"accuracy.candidate.level_001", "target.gain", "old.champion.pass_at_1"} <= nested.data.metrics.keys()


def test_the_champion_is_a_model_that_mlflow_itself_can_fetch(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path
) -> None:
    turn = ran(small, tmp_path / "a", ALWAYS)
    fetched = mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion", dst_path=str(tmp_path / "d"))
    assert check(fetched).digest == turn.champion.metadata["digest"]


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

    recipe = find_recipe(NAME)
    run(recipe, recipe.resolve(small, ALWAYS), tmp_path / "run", Pods())
    assert len(client.search_runs(["0"])) == 3, "no second tree"
    for task in tasks:
        assert "target.gain" in client.get_run(task).data.metrics
    versions = Registry(NAME).versions()
    assert [version.tag("kfp_run") for version in versions.values()] == ["0f-42"] * 3
    assert {version.tag("run") for version in versions.values()} == {whole}
    assert [move.version for move in Registry(NAME).moves()] == [1, 2, 3]


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


def test_without_a_tracking_uri_nothing_is_tracked(finished_run: Path) -> None:
    assert not lineage.is_on()
    assert not list(finished_run.parent.rglob("*.db"))
