"""A wheel of selfloop, installed as a person does it: what is not in it is found missing."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from .packages import lent, needed

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def said(*words: object, place: Path, ok: bool = True) -> str:
    """What a program prints, in surroundings that show it none of this checkout."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], cwd=place, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and its extra 'cluster', and no package but those that these ask
    for. They are links into the environment of the tests, so that no index is asked.
    """
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    said(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, ROOT, place=place)
    [wheel] = place.glob("selfloop-*.whl")
    venv.create(place / "env", with_pip=False)
    packages = lent(needed("selfloop[cluster]") - {"selfloop"}, place / "env")
    python = place / "env" / "bin" / "python"
    said(*pip, "--python", python, "install", "--no-index", f"{wheel}[cluster]", place=place)
    assert list(packages.glob("selfloop-*.dist-info"))
    return python.parent


def test_what_a_wheel_installs_lists_compiles_and_speaks_to_a_cluster(installed: Path, tmp_path: Path) -> None:
    selfloop = installed / "selfloop"
    assert said(selfloop, "--version", place=tmp_path).startswith("selfloop 0.")
    where = said(installed / "python", "-c", "import selfloop; print(selfloop.__file__)", place=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert "length-generalization" in said(selfloop, "list", "recipes", place=tmp_path)
    said(selfloop, "compile", "length-generalization", "-o", "a.yaml", "--rounds", "1", place=tmp_path)
    assert (tmp_path / "a.yaml").stat().st_size
    refused = said(selfloop, "schedules", "--kfp", "http://127.0.0.1:9", place=tmp_path, ok=False)
    assert "127.0.0.1:9" in refused
    assert "is not installed" not in refused
