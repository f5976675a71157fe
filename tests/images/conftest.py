"""The images as ``make images`` leaves them: where one is not built, its tests are skipped.

In CI those that ``IMAGES`` names, which ``make images`` reads too, are tested, and no others that may lie there.
"""

import os
from types import ModuleType

import pytest
from selfloop import __version__

from ..containers import build_script, podman

PREFIX = "selfloop"


def reference(image: str) -> str:
    """What an image is called here. Skips where it is not built, and need not be."""
    name = f"{PREFIX}/{image}:{__version__}"
    if "CI" in os.environ:
        if image not in os.environ.get("IMAGES", image).split():
            pytest.skip(f"IMAGES does not name {image}")
    elif podman("image", "exists", f"localhost/{name}").returncode:
        pytest.skip(f"the image {name} is not built: make images")
    return name


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """What ``make images`` runs."""
    return build_script()
