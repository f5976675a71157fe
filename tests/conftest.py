"""What the tests share: small configurations, and skips for absent Debian packages that are failures in CI."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = {"chromium": "chromium"}

SMALL: dict[str, Any] = {
    "rounds": 2,
    "seed": 7,
    "base": {"levels": 2, "per_level": 300, "held_out_per_level": 32},
    "pretrain": {"steps": 60, "hidden_size": 16, "intermediate_size": 32, "heads": 2, "decay_steps": 20, "lr": 1e-2},
    "propose": {"per_level": 40, "items_per_level": 8, "ahead": 2, "look_beyond": 1},
    "finetune": {"steps": 5},
    "measure": {"per_level": 16, "beyond": 2},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""


@pytest.fixture
def small() -> dict[str, Any]:
    return SMALL


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run in process that was never interrupted."""
    from selfloop.inprocess import run
    from selfloop.recipe import find_recipe

    recipe = find_recipe("length-generalization")
    root = tmp_path_factory.mktemp("finished") / "run"
    run(recipe, recipe.resolve(SMALL), root)
    return root


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    from selfloop.cli import as_toml
    from selfloop.recipe import find_recipe

    path = tmp_path / "small.toml"
    path.write_text(as_toml(find_recipe("length-generalization").resolve(SMALL)))
    return path


def digests(root: Path) -> dict[tuple[str, str], list[str]]:
    """The digests of all artifacts below a folder, by the stage that made them and their name."""
    from selfloop.artifacts import manifest_of

    found: dict[tuple[str, str], set[str]] = {}
    for path in root.rglob("manifest.json"):
        manifest = manifest_of(path.parent)
        found.setdefault((manifest.stage, path.parent.name.removeprefix("next_")), set()).add(manifest.digest)
    return {key: sorted(values) for key, values in found.items()}


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests track in MLflow only where they say so."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def selfloop(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run in a folder of its own: ``selfloop("run", ...)`` gives the finished process."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from selfloop.cli import main; main()", *words]
        return subprocess.run(
            command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=300, **options
        )

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("debian"):
            package = mark.args[0]
            if shutil.which(PROGRAMS[package]) is None and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"needs Debian's package {package}"))
