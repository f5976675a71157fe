"""A cluster that one has: submit, cancel, schedule, a mistyped form, a deleted pod. See README.md beside this file.

The loops are of two small rounds, each with a name of its own; what they made is compared with a run in process.
"""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kubernetes import client, config
from selfloop.cluster import runs, uploads
from selfloop.cluster.connection import Connection, connect
from selfloop.lineage.registry import Registry
from selfloop.modes.compiling import compile_pipeline
from selfloop.profiles import find_profile
from selfloop.recipe import Recipe, find_recipe
from selfloop.settings import Settings
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from ..conftest import SMALL

KFP = os.environ.get("SELFLOOP_TEST_KFP", "")
TRACKING = os.environ.get("SELFLOOP_TEST_MLFLOW", "http://localhost:5000")
NAMESPACE = os.environ.get("SELFLOOP_TEST_NAMESPACE", "selfloop")
PREFIX = os.environ.get("IMAGE_PREFIX", "selfloop")
RECIPE = "length-generalization"
RUN_LABEL, MAIN = "pipeline/runid", "main"
CHOSEN = {"rounds": 2, "gate": {"require": "nothing", "guards": []}}
"""Every round is promoted, so that both leave a version in force."""

pytestmark = pytest.mark.skipif(not KFP, reason="SELFLOOP_TEST_KFP names no cluster")
ENDED = retry(stop=stop_after_delay(3600), wait=wait_fixed(5), retry=retry_if_result(lambda found: not found))
"""Ask again until there is an answer; a cluster takes minutes for what it does."""


@pytest.fixture(autouse=True)
def _nowhere() -> None:
    """Here there is a cluster: nothing of the surroundings is taken away."""


@pytest.fixture
def loop() -> str:
    return f"live-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def connection() -> Connection:
    made = connect(KFP, NAMESPACE)
    made.check()
    return made


@pytest.fixture(scope="module")
def pods() -> client.CoreV1Api:
    config.load_kube_config()
    return client.CoreV1Api()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the versions of a run in process, by round."""
    place = tmp_path_factory.mktemp("here")
    uri = f"sqlite:///{place}/mlflow.db"
    done = command(place, "run", "--tracking-uri", uri, "--output", str(place / "run"), loop="here")
    assert done.returncode == 0, done.stderr
    return digests("here", uri)


def settings(loop: str) -> Settings:
    recipe: Recipe[Settings] = find_recipe(RECIPE)
    return recipe.resolve(SMALL, CHOSEN, {"model": loop})


def command(place: Path, verb: str, *words: str, loop: str = "") -> subprocess.CompletedProcess[str]:
    """``selfloop``, with the settings of a loop where it is told one."""
    from selfloop.cli.run import as_toml

    if loop:
        (place / "live.toml").write_text(as_toml(settings(loop)))
        words = (RECIPE, "-c", str(place / "live.toml"), *words)
    environment = os.environ | {"SELFLOOP_KFP_ENDPOINT": KFP, "SELFLOOP_NAMESPACE": NAMESPACE, "IMAGE_PREFIX": PREFIX}
    starting = [sys.executable, "-c", "from selfloop.cli import main; main()", verb]
    return subprocess.run([*starting, *words], capture_output=True, text=True, check=False, env=environment, cwd=place)


def digests(loop: str, uri: str = TRACKING) -> dict[str, str]:
    """What the registry says of a loop's versions, by round."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return {version.tag("round"): version.tag("digest") for version in Registry(loop).versions().values()}


def submitted(place: Path, loop: str, *words: str) -> str:
    """The id of a run that was begun."""
    done = command(place, "submit", *words, loop=loop)
    assert done.returncode == 0, done.stderr
    return str(re.findall(r"^Run (\S+) of", done.stdout, re.MULTILINE)[0])


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "a pod a stage"])
def test_two_rounds_make_what_they_make_in_process(
    tmp_path: Path, loop: str, expected: dict[str, str], fused: bool
) -> None:
    done = command(tmp_path, "submit", "--watch", *(["--fused"] if fused else []), loop=loop)
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(loop) == expected


def test_a_run_that_is_cancelled_lets_the_next_one_begin(
    tmp_path: Path, loop: str, expected: dict[str, str], connection: Connection
) -> None:
    first = submitted(tmp_path, loop, "--fused")
    assert command(tmp_path, "cancel", first).returncode == 0
    assert command(tmp_path, "watch", first).returncode == 1
    assert runs.has_ended(connection, first)
    assert command(tmp_path, "submit", "--watch", "--fused", loop=loop).returncode == 0
    assert digests(loop) == expected


@pytest.fixture
def schedule(tmp_path: Path, loop: str) -> Iterator[str]:
    """A loop that is begun every minute, until the test is over."""
    done = command(tmp_path, "schedule", "--fused", "--every", "1m", loop=loop)
    assert done.returncode == 0, done.stderr
    yield loop
    command(tmp_path, "unschedule", loop)


def test_a_schedule_s_second_run_continues_from_the_champion(schedule: str, expected: dict[str, str]) -> None:
    @ENDED
    def twice() -> bool:
        return {"3", "4"} <= digests(schedule).keys()

    assert twice()
    found = digests(schedule)
    assert {round: found[round] for round in expected} == expected
    assert len(set(found.values())) == len(found), "each round made something"


def test_a_mistake_in_the_form_is_one_sentence_in_the_log(
    tmp_path: Path, loop: str, connection: Connection, pods: client.CoreV1Api
) -> None:
    recipe, file = find_recipe(RECIPE), tmp_path / "loop.yaml"
    profile = find_profile("cpu").with_prefix(PREFIX)
    compile_pipeline(recipe, settings(loop), file, fused=True, profile=profile)
    package = uploads.Package(RECIPE, recipe.target, file, profile.cluster.service_account)
    version, experiment = uploads.uploaded(connection, package), uploads.experiment(connection, loop)
    run = runs.submit(connection, package, version, experiment, {"environment": "adition"})
    assert command(tmp_path, "watch", run).returncode == 1
    said = command(tmp_path, "logs", run, "resolve").stdout
    assert "did you mean 'addition'?" in said
    assert "Traceback" not in said


def test_a_pod_that_is_deleted_changes_nothing_of_what_is_made(
    tmp_path: Path, loop: str, expected: dict[str, str], pods: client.CoreV1Api, connection: Connection
) -> None:
    run = submitted(tmp_path, loop, "--fused")
    pods.delete_namespaced_pod(working(pods, run, lambda image: "/rl:" in image or "/rl@" in image), NAMESPACE)
    assert command(tmp_path, "watch", run).returncode == 0
    assert digests(loop) == expected


@ENDED
def working(pods: client.CoreV1Api, run: str, of: Callable[[str], bool]) -> Any:
    """The name of a pod of a run that is at work in such an image."""
    listed = pods.list_namespaced_pod(NAMESPACE, label_selector=f"{RUN_LABEL}={run}").items
    return next((pod.metadata.name for pod in listed if pod.status.phase == "Running" and of(_image(pod))), None)


def _image(pod: Any) -> str:
    return next(str(each.image) for each in pod.spec.containers if each.name == MAIN)
