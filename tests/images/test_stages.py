"""Each stage in its container, as the compiled component's command: no network, no rights, nothing to write to."""

from pathlib import Path
from typing import Any

import pytest
from selfloop import __version__
from selfloop.fused import fused_stage
from selfloop.pipeline.compiling import run_locally
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
    used = run_in_containers(small, tmp_path)
    assert used == {f"selfloop/{image}:{__version__}" for image in IMAGES}
    assert_equal(tmp_path, finished_run)


def test_fused_rounds_in_their_container_make_the_same(
    tmp_path: Path, small: dict[str, Any], finished_run: Path
) -> None:
    name = reference(fused_stage(find_recipe("length-generalization"), "round").image)
    assert name in run_in_containers(small, tmp_path, fused=True)
    assert_equal(tmp_path, finished_run)


def run_in_containers(settings: dict[str, Any], place: Path, fused: bool = False) -> set[str]:
    """Run the recipe by ``kfp.local``, each task in its container. Returns the images that were used."""
    recipe = find_recipe("length-generalization")
    with tasks_in_containers(place / "kfp") as used:
        run_locally(recipe, recipe.resolve(settings), place / "kfp", fused)
    return set(used)


def assert_equal(made: Path, finished_run: Path) -> None:
    in_process = {key: value for key, value in digests(finished_run).items() if key[0] not in IN_PROCESS_ONLY}
    found = digests(made)
    assert {key: found.get(key) for key in in_process} == in_process
