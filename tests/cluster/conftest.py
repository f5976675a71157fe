"""A Kubeflow Pipelines API to talk to, a small pipeline for it, and the command in this process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler, dsl
from selfloop.cli import main
from selfloop.cluster import connection as connection_
from selfloop.cluster import runs, uploads
from selfloop.cluster.connection import Connection, connect
from tenacity import wait_none

from .kfp_server import Kfp, serving
from .pods_server import Cluster, serving_pods

VARIABLES = ("ENDPOINT", "TOKEN", "TOKEN_FILE", "COOKIES")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, no credentials and no pauses but those that a test says."""
    for name in (*(f"SELFLOOP_KFP_{name}" for name in VARIABLES), "KFP_COOKIES", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KUBERNETES_SERVICE_HOST", "SSL_CERT_FILE", "SELFLOOP_NAMESPACE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(connection_, "TOKEN_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(connection_, "PAUSE", wait_none())
    monkeypatch.setattr(runs, "LOOK_S", 0)


@pytest.fixture
def kfp() -> Iterator[Kfp]:
    """The server; whatever it was asked was as the OpenAPI says."""
    with serving() as server:
        yield server
    assert server.mistakes == []


@pytest.fixture
def connected(kfp: Kfp) -> Connection:
    return connect(kfp.url)


@dsl.component(base_image="python:3.11")  # type: ignore[untyped-decorator]
def work(seed: int, origin: str) -> bool:
    return True


@dsl.pipeline(name="small")  # type: ignore[untyped-decorator]
def small_pipeline(seed: int = 0, origin: str = "start") -> None:
    proceed = work(seed=seed, origin=origin).set_display_name("round 0 · start")
    for stage in ("generate", "verify"):
        proceed = work(seed=seed, origin=origin).set_display_name(f"round 1 · {stage}").after(proceed)
    with dsl.If(proceed.output == True):  # noqa: E712
        again = work(seed=seed, origin=origin).set_display_name("round 2 · generate")
        work(seed=seed, origin=origin).set_display_name("round 2 · verify").after(again)


@pytest.fixture(scope="session")
def small_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds of two stages, the second one nested in an ``If``."""
    place = tmp_path_factory.mktemp("small") / "small.yaml"
    compiler.Compiler().compile(small_pipeline, str(place))
    return place


@pytest.fixture
def package(small_yaml: Path) -> uploads.Package:
    return uploads.Package("small", "small:recipe", small_yaml)


@pytest.fixture
def begun(connected: Connection, package: uploads.Package) -> str:
    """The id of a run that was just submitted."""
    version = uploads.uploaded(connected, package)
    return runs.submit(connected, package, version, uploads.experiment(connected, "loop"), {"seed": 3})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that the kubeconfig names, with pods."""
    with serving_pods() as server:
        server.kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield server
    assert server.mistakes == []


@pytest.fixture
def command(
    kfp: Kfp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """``selfloop``, run in this process: how it ended, and what it printed."""
    monkeypatch.setenv("SELFLOOP_KFP_ENDPOINT", kfp.url)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["selfloop", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run
