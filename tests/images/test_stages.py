"""Each stage in its container, as the compiled component's command: no network, no rights, nothing to write to."""

from pathlib import Path
from typing import Any

import pytest
from selfloop import __version__
from selfloop.pipeline import run_locally
from selfloop.recipe import find_recipe

from ..conftest import digests
from ..containers import tasks_in_containers
from .conftest import reference

pytestmark = [pytest.mark.debian("buildah"), pytest.mark.debian("podman")]
IMAGES = ("base", "generate", "sandbox", "finetune")
IN_PROCESS_ONLY = {"measure_policy"}


def test_each_stage_in_its_container_makes_what_the_run_in_process_made(
    tmp_path: Path, small: dict[str, Any], finished_run: Path
) -> None:
    for image in IMAGES:
        reference(image)
    recipe = find_recipe("length-generalization")
    with tasks_in_containers(tmp_path / "kfp") as used:
        run_locally(recipe, recipe.resolve(small), tmp_path / "kfp")
    assert {f"selfloop/{image}:{__version__}" for image in IMAGES} == set(used)
    in_process = {key: value for key, value in digests(finished_run).items() if key[0] not in IN_PROCESS_ONLY}
    made = digests(tmp_path)
    assert {key: made.get(key) for key in in_process} == in_process
