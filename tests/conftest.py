"""What the tests share: small configurations, and skips for absent Debian packages that are failures in CI."""

import gc
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from . import forked
from .webhook import Webhook, listening

if TYPE_CHECKING:
    from kfp.dsl import Artifact, Dataset
    from mlflow import MlflowClient

PROGRAMS = {
    "bubblewrap": "bwrap",
    "buildah": "buildah",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "chromium": "chromium",
    "docker-registry": "docker-registry",
    "kubectl": "kubectl",
    "kustomize": "kustomize",
    "podman": "podman",
    "postgresql": "pg_ctlcluster",
    "radosgw": "radosgw",
}

SMALL: dict[str, Any] = {
    "rounds": 2,
    "seed": 7,
    "base": {"levels": 2, "per_level": 300, "held_out_per_level": 32},
    "pretrain": {"steps": 60, "hidden_size": 16, "intermediate_size": 32, "heads": 2, "decay_steps": 20, "lr": 1e-2},
    "propose": {"per_level": 40, "items_per_level": 8, "ahead": 2, "look_beyond": 1},
    "finetune": {"steps": 5},
    "measure": {"per_level": 16, "beyond": 2},
    "gate": {"tolerance": 0.3},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script ignores in what it runs in the background


@pytest.fixture
def small() -> dict[str, Any]:
    return SMALL


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run in process that was never interrupted."""
    from selfloop.modes.inprocess import run
    from selfloop.recipe import find_recipe

    recipe = find_recipe("length-generalization")
    root = tmp_path_factory.mktemp("finished") / "run"
    run(recipe, recipe.resolve(SMALL), root)
    return root


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    from selfloop.cli.run import as_toml
    from selfloop.recipe import find_recipe

    path = tmp_path / "small.toml"
    path.write_text(as_toml(find_recipe("length-generalization").resolve(SMALL)))
    return path


def whole_run(
    name: str, settings: dict[str, Any], place: Path, *overrides: dict[str, Any]
) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """A run of a recipe in process: its last turn, what it measured, and its rounds."""
    from selfloop.modes.inprocess import run
    from selfloop.recipe import find_recipe
    from selfloop.report.history import read_history

    recipe = find_recipe(name)
    last, measured = run(recipe, recipe.resolve(settings, *overrides), place)
    return last, dict(measured), read_history(last.history.path)["rounds"]


def tracked_run(name: str, settings: dict[str, Any], place: Path, *overrides: dict[str, Any]) -> Any:
    """A run of a recipe in process, in MLflow: what its last round left."""
    from selfloop import lineage
    from selfloop.modes.inprocess import run
    from selfloop.recipe import find_recipe

    recipe = find_recipe(name)
    resolved = recipe.resolve(settings, *overrides)
    place.mkdir(exist_ok=True)
    with lineage.tracked_run(place.name, resolved.overrides(), place / "note.txt", place / "mlflow"):
        return run(recipe, resolved, place / "run")[0]


def digests(root: Path) -> dict[tuple[str, str], list[str]]:
    """The digests of all artifacts below a folder, by the stage that made them and their name."""
    from selfloop.artifacts import manifest_of

    found: dict[tuple[str, str], set[str]] = {}
    for path in root.rglob("manifest.json"):
        manifest = manifest_of(path.parent)
        found.setdefault((manifest.stage, path.parent.name.removeprefix("next_")), set()).add(manifest.digest)
    return {key: sorted(values) for key, values in found.items()}


def sealed_table(place: Path, record: type[tuple[Any, ...]], rows: Iterable[tuple[Any, ...]]) -> "Dataset":
    """A table as a stage takes it."""
    from kfp.dsl import Dataset
    from selfloop.artifacts import seal
    from selfloop.records import writing

    with writing(place, record) as table:
        table.write(rows)
    seal(place, "Dataset")
    return Dataset(uri=str(place))


def sealed_value(place: Path, value: object) -> "Artifact":
    """A small value as a stage takes it."""
    from kfp.dsl import Artifact
    from selfloop.artifacts import seal, write_json

    write_json(place, value)
    seal(place, "Artifact")
    return Artifact(uri=str(place))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed policy that mostly adds numbers of one and two digits, and hardly longer ones."""
    from kfp.dsl import Artifact, Dataset, Model
    from selfloop.finetune import PretrainParams, pretrain_policy
    from selfloop.propose import BaseParams, draw_base

    root = tmp_path_factory.mktemp("trained")
    base = {name: Dataset(uri=str(root / name)) for name in ("examples", "held_out", "replay_pool")}
    draw_base.into(
        draw_base.out(**base, progress=Artifact(uri=str(root / "progress"))),
        BaseParams(levels=2, per_level=1000, seed=1),
    )
    size = {"hidden_size": 16, "heads": 2, "intermediate_size": 32}
    pretrain_policy.into(
        pretrain_policy.out(policy=Model(uri=str(root / "policy"))),
        PretrainParams(**size, steps=200, lr=2e-2, warmup_steps=20, decay_steps=80),
        examples=base["examples"],
        held_out=base["held_out"],
    )
    return root / "policy"


@pytest.fixture(autouse=True, scope="session")
def _kfp_asks_for_one_name() -> None:
    """KFP reads the source of its whole stack for the name of the function that called it, at each setting of a task:
    among all that the tests import, four fifths of the time of compiling.
    """
    from kfp.dsl import pipeline_task

    pipeline_task.inspect = SimpleNamespace(stack=lambda: (None, (None, None, None, sys._getframe(2).f_code.co_name)))


@pytest.fixture(autouse=True, scope="session")
def _held_out_tasks_are_drawn_once() -> None:
    """Whatever checks or compiles a loop draws first what the loop would be judged on, which is most of its time, and
    for the tests some hundred times the same. Processes of their own draw as ever.
    """
    from selfloop.environments import Environment

    known = dict[tuple[Any, ...], list[Any]]()

    def held_out(self: Environment, level: int, count: int, seed: int) -> list[Any]:
        parts = tuple(vars(self).items())
        if self.files() or not all(isinstance(value, str | int | float | None) for _, value in parts):
            return self.tasks(level, count, seed)
        asked = type(self), parts, level, count, seed
        if asked not in known:
            if len(known) == 64:  # or what collects garbage would look through many
                known.clear()
            known[asked] = self.tasks(level, count, seed)
        return [*known[asked]]

    Environment.held_out = held_out  # type: ignore[method-assign]


@pytest.fixture(autouse=True, scope="module")
def _what_is_imported_stays() -> None:
    """Each training collects garbage: it need not look again among all that earlier tests imported."""
    gc.collect()
    gc.freeze()


def _environment() -> Iterator[None]:
    """What is written into this process's environment goes again, and what MLflow was told."""
    before = dict(os.environ)
    yield
    for module, name in (("_tracking_service", "_tracking_uri"), ("_model_registry", "_registry_uri")):
        told = sys.modules.get(f"mlflow.tracking.{module}.utils")
        if told is not None:
            setattr(told, name, None)
    os.environ.clear()
    os.environ.update(before)


_environment_of_a_test = pytest.fixture(autouse=True)(_environment)
_environment_of_a_module = pytest.fixture(autouse=True, scope="module")(_environment)


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests track in MLflow, and tell a webhook, only where they say so."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_RUN_ID",
        "SELFLOOP_KFP_RUN",
        "SELFLOOP_STORE",
        "SELFLOOP_WEBHOOK_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    artifacts_on_s3, boto3 = map(sys.modules.get, ("mlflow.store.artifact.s3_artifact_repo", "boto3"))
    if artifacts_on_s3 is not None:  # it keeps a client for five minutes
        artifacts_on_s3._cached_get_s3_client.cache_clear()
    if boto3 is not None:  # its session keeps the keys that it found first
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's file with all its tables, and nothing in them."""
    from selfloop.lineage import tracking

    place = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}")
        tracking.client()
    return place


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated: Path) -> "MlflowClient":
    """MLflow on a file of its own."""
    import mlflow

    shutil.copy(migrated, tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient()


@pytest.fixture
def selfloop(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run in a folder of its own: ``selfloop("run", ...)`` gives the finished process."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return forked.run(*forked.CLI, *words, cwd=tmp_path, **options)

    return run


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in this process, which is at once: for what is shown, or refused before any work."""
    from selfloop.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(logging.getLogger("selfloop"), "handlers", [])

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["selfloop", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with listening() as hook:
        monkeypatch.setenv("SELFLOOP_WEBHOOK_URL", hook.url)
        yield hook


@pytest.fixture(scope="session")
def programs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the programs of an environment are that has an image's packages and no others."""
    from .packages import environment

    return cache(lambda image: environment(image, tmp_path_factory.mktemp(image)))


@pytest.fixture
def tasks_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """``kfp.local`` starts the program of each task of a loop as a fork."""
    from kfp.local import subprocess_task_handler

    start = subprocess_task_handler.run_local_subprocess

    def run(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        if full_command[:3] != ["env", "_KFP_RUNTIME=true", sys.executable]:
            return int(start(full_command, env_vars))
        done = forked.run(*full_command[3:], env=os.environ | (env_vars or {}) | {"_KFP_RUNTIME": "true"})
        print(done.stdout, done.stderr)
        return done.returncode

    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", run)


def program(package: str) -> str | None:
    """Where the program of a Debian package is: beside Python, or in ``PATH``."""
    return shutil.which(PROGRAMS[package], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``make quick`` does not read a file all of whose tests are slow: what it imports and lists takes time, too."""
    if config.option.markexpr != "not slow" or not collection_path.match("test_*.py"):
        return None
    whole = re.search(
        r"^pytestmark = .*\bpytest\.mark\.slow\b", collection_path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return True if whole else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("debian"):
            package = mark.args[0]
            if program(package) is None and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"needs Debian's package {package}"))
