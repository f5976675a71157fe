"""What MLflow remembers of a run, on a real sqlite store."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.artifacts import check, manifest_of
from selfloop.inprocess import run
from selfloop.recipe import find_recipe

from .conftest import digests


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return MlflowClient()


def _tracked(small: dict[str, Any], root: Path) -> str:
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(small)
    root.mkdir(exist_ok=True)
    with lineage.tracked_run("a run", settings.chosen(), root / "note.txt", root.parent / "mlflow") as run_id:
        run(recipe, settings, root / "run")
    return run_id


def test_a_run_has_a_nested_run_a_round_and_a_version_a_candidate(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path
) -> None:
    parent = client.get_run(_tracked(small, tmp_path / "work"))
    assert parent.info.status == "FINISHED"
    assert parent.data.params["finetune.steps"] == "5"
    rounds = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {nested.info.run_name for nested in rounds} == {"round 1", "round 2"}
    assert all("accuracy.candidate.level_001" in nested.data.metrics for nested in rounds)
    assert all("selfloop.data.examples" in nested.data.tags for nested in rounds)

    versions = client.search_model_versions("name = 'length-generalization'")
    made = {version.tags["selfloop.digest"]: version for version in versions}
    known = digests(tmp_path / "work" / "run")
    candidates = known["finetune_policy", "candidate"]
    assert set(made) == {*candidates, *known["pretrain_policy", "policy"]}
    for digest in candidates:
        assert check(made[digest].source).digest == digest
        assert made[digest].tags["selfloop.parent_digest"] in made
        assert made[digest].tags["selfloop.promoted"] in {"true", "false"}


def test_the_champion_is_what_the_run_ended_with(client: MlflowClient, small: dict[str, Any], tmp_path: Path) -> None:
    _tracked(small, tmp_path / "work")
    in_force = client.get_model_version_by_alias("length-generalization", "champion")
    last = next((tmp_path / "work" / "run" / "round-02").glob("promote_candidate-*/next_champion"))
    assert in_force.tags["selfloop.digest"] == manifest_of(last).digest
    fetched = mlflow.artifacts.download_artifacts(
        "models:/length-generalization@champion", dst_path=str(tmp_path / "d")
    )
    assert check(fetched).digest == in_force.tags["selfloop.digest"]


def test_a_round_that_is_recorded_twice_is_there_once(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path
) -> None:
    """As after a kill between the registration and the end of the stage."""
    run_id = _tracked(small, tmp_path / "work")
    for place in (tmp_path / "work" / "run" / "round-02").glob("promote_candidate-*"):
        place.rename(tmp_path / "lost")
    assert _tracked(small, tmp_path / "work") == run_id
    experiment = client.get_run(run_id).info.experiment_id
    assert len(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")) == 2
    assert len(client.search_model_versions("name = 'length-generalization'")) == 3


def test_a_run_that_fails_is_said_to_have_failed(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lineage.tracked_run("r", {}, tmp_path / "note", tmp_path / "mlflow"):
        raise ZeroDivisionError
    assert client.get_run((tmp_path / "note").read_text()).info.status == "FAILED"


def test_without_a_tracking_uri_nothing_is_tracked(finished_run: Path) -> None:
    assert not lineage.is_on()
    assert not list(finished_run.parent.rglob("*.db"))
