"""MLflow as the manifests start it: the real server, on a real PostgreSQL, with their command and environment."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from ..servers import free_port, postgres
from .building import built, of_kind, pod_templates

pytestmark = [pytest.mark.slow, pytest.mark.debian("kustomize"), pytest.mark.debian("postgresql")]
STORE = "s3://selfloop"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the server."""
    (deployment,) = (
        each for each in of_kind(built("overlays/dev"), "Deployment") if each["metadata"]["name"] == "mlflow"
    )
    (container,) = pod_templates(deployment)[0]["spec"]["containers"]
    port, folder = free_port(), tmp_path_factory.mktemp("mlflow")
    here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    arguments = [here.get(each, each).replace("$(SELFLOOP_STORE)", STORE) for each in container["args"]]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each} | {"HOME": str(folder)}
    known = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    assert container["command"][0] == "mlflow"
    with postgres() as database, (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *container["command"], *arguments],
            cwd=folder,
            env={**known, **given, "MLFLOW_BACKEND_STORE_URI": database},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            await_ready(port, process)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = Path(log.name).read_text()
    assert "Traceback" not in said, said


def await_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            assert asked(port, "/health", "127.0.0.1") == (200, "OK")
        except (URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the server does not come up")


def asked(port: int, path: str, host: str, body: object = None) -> tuple[int, str]:
    """Status and text of an answer to who calls the server by a name."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Host": host, "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_the_kubelet_is_answered_under_the_pod_s_address(server: int) -> None:
    assert asked(server, "/health", "10.244.1.17:5000") == (200, "OK")


@pytest.mark.parametrize("host", ["mlflow:5000", "mlflow.selfloop:5000", "mlflow.selfloop.svc.cluster.local:5000"])
def test_stages_are_answered_under_the_service_s_names(server: int, host: str) -> None:
    status, text = asked(server, "/api/2.0/mlflow/experiments/search", host, {"max_results": 10})
    assert status == 200
    assert [each["name"] for each in json.loads(text)["experiments"]] == ["Default"]


def test_a_page_that_has_been_given_the_server_s_address_is_not(server: int) -> None:
    assert asked(server, "/api/2.0/mlflow/experiments/search", "evil.example", {"max_results": 10})[0] == 403


def test_artifacts_go_to_the_store_and_not_through_the_server(server: int) -> None:
    _, text = asked(server, "/api/2.0/mlflow/experiments/create", "mlflow:5000", {"name": "somebody's"})
    number = json.loads(text)["experiment_id"]
    _, text = asked(server, f"/api/2.0/mlflow/experiments/get?experiment_id={number}", "mlflow:5000")
    assert json.loads(text)["experiment"]["artifact_location"] == f"{STORE}/mlflow/{number}"
    assert asked(server, "/api/2.0/mlflow-artifacts/artifacts?path=x", "mlflow:5000")[0] in (404, 503)
