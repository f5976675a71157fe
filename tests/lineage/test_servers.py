"""The same registry on PostgreSQL, and behind MLflow's server."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from selfloop import lineage
from selfloop.errors import UserError
from selfloop.lineage.registry import Registry
from selfloop.modes.inprocess import run
from selfloop.recipe import find_recipe

from .. import forked
from ..servers import mlflow_server, postgres
from .test_rounds import ALWAYS, RECIPE

pytestmark = [pytest.mark.slow, pytest.mark.debian("postgresql")]
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(database, str(place / "artifacts"), place / "log") as uri:
        yield uri


@pytest.fixture(params=["database", "server"])
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = str(request.getfixturevalue(request.param))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    mlflow.set_tracking_uri(found)
    mlflow.set_registry_uri(found)
    return found


def test_moves_work_as_they_do_on_a_file(uri: str) -> None:
    registry = Registry(f"adder-{uri[:4]}")
    for number in range(1, 5):
        registry.register(f"run:{number}", "s3://nowhere/1", "", {"digests": str(number)}, "")
    registry.move(1, "start", "the loop began", None)
    registry.move(3, "promote", "better", registry.settle())
    registry.move(1, "rollback", "worse", registry.settle())
    registry.client.set_registered_model_alias(registry.name, "champion", "4")
    head = registry.settle()
    assert head is not None
    assert (head.version, head.kind) == (4, "by hand")
    assert registry.aliases() == {"champion": 4, "previous": 1}


def test_of_two_promotions_at_once_one_wins(uri: str) -> None:
    registry = Registry("racer")
    if not registry.versions():
        for number in range(1, 4):
            registry.register(f"run:{number}", "s3://nowhere/1", "", {"digests": str(number)}, "")
        registry.move(1, "start", "the loop began", None)
    environment = os.environ | {"SELFLOOP_RACE_URI": uri, "SELFLOOP_RACE_NAME": "racer"}
    done = forked.run(str(WORKER), "races", "unused", "4", env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    for each in json.loads(done.stdout):
        assert sorted(next(iter(told)) for told in each["told"]) == ["lost", "won"]
        assert each["head"] == each["settled"] == next(told["won"] for told in each["told"] if "won" in told)


def test_a_whole_run_on_postgresql(
    database: str, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a database alone has no place for files but MLflow's ./mlruns
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    mlflow.set_tracking_uri(database)
    mlflow.set_registry_uri(database)
    recipe = find_recipe(RECIPE)
    settings = recipe.resolve(small, ALWAYS, {"model": "on-postgresql"})
    with lineage.tracked_run("run", settings.overrides(), tmp_path / "note", tmp_path / "mlflow"):
        last, _ = run(recipe, settings, tmp_path / "run")
    champion = Registry("on-postgresql").find("champion")
    assert champion.tag("digest") == last.champion.metadata["digest"]
    assert champion.number == 3


def test_a_server_takes_no_versions_from_a_folder_and_that_is_said(
    server: str, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    mlflow.set_tracking_uri(server)
    mlflow.set_registry_uri(server)
    recipe = find_recipe(RECIPE)
    settings = recipe.resolve(small, ALWAYS, {"model": "from-a-folder", "rounds": 1})
    with (
        pytest.raises(UserError, match="takes no version whose files lie in a folder"),
        lineage.tracked_run("run", settings.overrides(), tmp_path / "note", tmp_path / "mlflow"),
    ):
        run(recipe, settings, tmp_path / "run")
    assert not Registry("from-a-folder").versions()
