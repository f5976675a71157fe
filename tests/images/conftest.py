"""The images as ``make images`` leaves them: where one is not built, its tests are skipped.

In CI they fail, but for images that it does not build: ``IMAGES``, which ``make images`` reads too, names the others.
"""

import importlib.util
import os
from types import ModuleType

import pytest
from selfloop import __version__

from ..containers import ROOT, podman

PREFIX = "selfloop"


def reference(image: str) -> str:
    """What an image is called here. Skips where it is not built, and need not be."""
    name = f"{PREFIX}/{image}:{__version__}"
    needed = "CI" in os.environ and image in os.environ.get("IMAGES", image).split()
    if not needed and podman("image", "exists", f"localhost/{name}").returncode:
        pytest.skip(f"the image {name} is not built: make images")
    return name


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """What ``make images`` runs."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "images/build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
