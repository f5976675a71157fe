"""The images as ``make images`` leaves them: where one is not built, its tests are skipped, and fail in CI."""

import os

import pytest

from ..containers import podman

PREFIX = "selfloop"


def reference(image: str) -> str:
    """What an image is called here. Skips where it is not built."""
    from selfloop import __version__

    name = f"{PREFIX}/{image}:{__version__}"
    if podman("image", "exists", f"localhost/{name}").returncode and not os.environ.get("CI"):
        pytest.skip(f"the image {name} is not built: make images")
    return name
