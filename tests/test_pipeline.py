"""The compiled pipeline, read as KFP would read it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from selfloop.errors import UserError
from selfloop.pipeline.compact import merged
from selfloop.pipeline.compiling import compile_pipeline
from selfloop.recipe import Recipe, find_recipe


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe("length-generalization")


def _compiled(recipe: Recipe[Any], place: Path, rounds: int, fused: bool = False) -> dict[str, Any]:
    compile_pipeline(recipe, recipe.resolve({"rounds": rounds}), place / "p.yaml", fused)
    return dict(yaml.safe_load((place / "p.yaml").read_text()))


def test_the_form_shows_the_settings_that_stay_open(recipe: Recipe[Any], tmp_path: Path) -> None:
    form = _compiled(recipe, tmp_path, 2)["root"]["inputDefinitions"]["parameters"]
    assert set(form) == set(recipe.settings.form()) == {"seed", "target"}
    assert form["target"]["description"] == recipe.settings.model_fields["target"].description
    assert form["target"]["defaultValue"] == 30


def test_every_task_has_a_readable_name_and_is_not_cached(recipe: Recipe[Any], tmp_path: Path) -> None:
    spec = _compiled(recipe, tmp_path, 2)
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = [task for dag in dags for task in dag["tasks"].values() if "condition" not in task["componentRef"]["name"]]
    names = {task["taskInfo"]["name"] for task in tasks}
    assert {"round 0 · pretrain", "round 1 · generate", "round 2 · promote"} <= names
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks)


def test_equal_executors_and_components_stand_once(recipe: Recipe[Any], tmp_path: Path) -> None:
    two, nine = (_compiled(recipe, tmp_path, rounds) for rounds in (2, 9))
    assert two["deploymentSpec"]["executors"].keys() == nine["deploymentSpec"]["executors"].keys()
    assert merged(merged(two)) == two


@pytest.mark.parametrize("fused", [False, True])
def test_no_value_of_a_secret_kind_is_in_a_compiled_pipeline(recipe: Recipe[Any], tmp_path: Path, fused: bool) -> None:
    _compiled(recipe, tmp_path, 1, fused)
    text = (tmp_path / "p.yaml").read_text().lower()
    assert not [word for word in ("password", "secret", "access_key", "token:") if word in text]


def test_resources_are_requested(recipe: Recipe[Any], tmp_path: Path) -> None:
    executors = _compiled(recipe, tmp_path, 1)["deploymentSpec"]["executors"]
    assert executors["exec-generate-rollouts"]["container"]["resources"]["resourceMemoryLimit"] == "4Gi"


def test_a_file_that_kfp_cannot_read_is_refused(recipe: Recipe[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"KFP reads .yaml or .json"):
        compile_pipeline(recipe, recipe.resolve(), tmp_path / "p.txt")
