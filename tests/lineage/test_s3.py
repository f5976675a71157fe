"""As a team has it: MLflow's server on PostgreSQL, policies and state on S3, and machines that come and go."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
from selfloop.artifacts import check
from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.decisions import rollback
from selfloop.lineage.registry import Registry
from selfloop.lineage.retention import collect, plan
from selfloop.lineage.rounds import find_origin
from selfloop.modes.reproducing import reproduce

from .. import s3
from ..conftest import tracked_run
from ..s3 import Server, User
from ..servers import mlflow_server, postgres
from .test_rounds import ALWAYS, NAME, NEVER, RECIPE

pytestmark = [
    pytest.mark.slow,
    *(pytest.mark.debian(name) for name in ("radosgw", "ceph-mon", "ceph-osd", "postgresql")),
]
server, owner = s3.server, s3.owner


@pytest.fixture
def team(server: Server, owner: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry and a bucket; the folder of a machine that works with them."""
    server.client(owner).create_bucket(Bucket="team")
    for name, value in owner.environment(server.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("SELFLOOP_STORE", "s3://team/loops")
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    with postgres() as database, mlflow_server(database, "s3://team/mlflow", tmp_path / "log") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        yield tmp_path


ran = partial(tracked_run, RECIPE)


def test_a_loop_lives_on_s3_and_a_server_alone(
    team: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = ran(small, team / "first", ALWAYS)
    champion = last.champion.metadata["digest"]
    registry = Registry(NAME)
    assert registry.find("champion").source.startswith("s3://team/loops/")

    shutil.rmtree(team / "first")  # that machine is gone, and this one has an empty cache
    monkeypatch.setenv("SELFLOOP_CACHE", str(team / "another cache"))
    record._opened.cache_clear()
    fetched = mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion", dst_path=str(team / "by mlflow"))
    assert check(fetched).digest == champion
    assert reproduce(NAME, "3", team / "again").same

    _, origin, first = find_origin(f"{NAME}@champion")
    ran(small, team / "second", NEVER, {"origin": origin, "first": first, "rounds": 2})
    assert registry.find("champion").tag("digest") == champion
    planned = plan(NAME, 1)
    assert [version.number for version in planned.versions] == [4]
    collect(NAME, planned, 1)
    assert plan(NAME, 1) == ([], {})
    assert rollback(NAME, None, "for the test").version == 2


def test_an_object_that_was_altered_on_the_server_is_refused_by_name(
    team: Path, server: Server, owner: User, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(small, team / "first", ALWAYS)
    source = Registry(NAME).find("2").source
    key = f"{source.removeprefix('s3://team/')}/model.safetensors"
    client = server.client(owner)
    content = bytearray(client.get_object(Bucket="team", Key=key)["Body"].read())
    content[-1] ^= 1
    client.put_object(Bucket="team", Key=key, Body=bytes(content))
    monkeypatch.setenv("SELFLOOP_CACHE", str(team / "another cache"))
    record._opened.cache_clear()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        rollback(NAME, None, "for the test")
    assert Registry(NAME).find("champion").number == 3
