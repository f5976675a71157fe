"""Equal calls in streams of their own, lists of what calls made, and inputs that are left out, in every mode."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler
from kfp.components import load_component_from_file
from selfloop.artifacts import read_json
from selfloop.modes.compiling import compile_pipeline, run_locally
from selfloop.modes.inprocess import run
from selfloop.modes.resolving import form_of
from selfloop.recipe import Recipe, find_recipe

from ..conftest import digests
from .dice import add_up

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe() -> Recipe[Any]:
    return find_recipe(str(Path(__file__).with_name("dice.py")))


def _work(root: Path, stage: str) -> Counter[str]:
    """How often a stage has worked in each round."""
    return Counter(path.parent.name for path in root.glob(f"round-*/{stage}-*"))


def test_calls_that_differ_in_their_stream_alone_are_two_calls(recipe: Recipe[Any], tmp_path: Path) -> None:
    last, _ = run(recipe, recipe.resolve(), tmp_path)
    throws = read_json(last.champion.path)
    assert len(throws) == len({tuple(throw) for throw in throws}) == 6
    assert _work(tmp_path, "throw_dice") == {"round-01": 3, "round-02": 3}


def test_equal_calls_of_one_round_are_one_piece_of_work(recipe: Recipe[Any], tmp_path: Path) -> None:
    last, _ = run(recipe, recipe.resolve({"streams": ["", "", "left"], "rounds": 1}), tmp_path)
    first, second, third = read_json(last.champion.path)
    assert first == second != third
    assert _work(tmp_path, "throw_dice") == {"round-01": 2}


@pytest.mark.parametrize("fused", [False, True], ids=["kfp", "fused"])
def test_lists_and_streams_come_to_the_same_in_pods(recipe: Recipe[Any], tmp_path: Path, fused: bool) -> None:
    run(recipe, recipe.resolve(), tmp_path / "here")
    run_locally(recipe, recipe.resolve(), tmp_path / "kfp", fused)
    here, there = digests(tmp_path / "here"), digests(tmp_path / "kfp")
    assert len(here["throw_dice", "dice"]) == 6
    assert {key: there.get(key) for key in here} == here


@pytest.mark.parametrize("name", ["throw", "condition-1"])  # a stage of a round, and the sub-graph of the second one
def test_a_recipe_that_is_called_as_one_of_its_parts_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    whole = Path(__file__).with_name("dice.py").read_text()
    own, compiled = tmp_path / f"called_{name.replace('-', '_')}.py", tmp_path / "p.yaml"
    own.write_text(whole.replace('recipe = Recipe("dice"', f'recipe = Recipe("{name}"'))
    recipe = find_recipe(str(own))
    assert recipe.name == name
    compile_pipeline(recipe, recipe.resolve(), compiled)
    loaded = load_component_from_file(str(compiled))
    assert loaded.component_spec.inputs.keys() == form_of(recipe, recipe.resolve()).keys()
    assert loaded.pipeline_spec.root.dag.tasks.keys() >= {"resolve", "start", "round-2"}
    components = loaded.pipeline_spec.components
    for dag in (loaded.pipeline_spec.root.dag, *(each.dag for each in components.values())):
        for task in dag.tasks.values():
            label = components[task.component_ref.name].executor_label
            assert not label or label in loaded.pipeline_spec.deployment_spec["executors"]


@pytest.mark.parametrize("fused", [False, True], ids=["kfp", "fused"])
def test_an_input_that_only_some_calls_are_given_comes_to_the_same_in_pods(
    recipe: Recipe[Any], tmp_path: Path, fused: bool
) -> None:
    settings = recipe.resolve({"bonus": [2], "streams": ["left"]})
    last, _ = run(recipe, settings, tmp_path / "here")
    run_locally(recipe, settings, tmp_path / "kfp", fused)
    here, there = digests(tmp_path / "here"), digests(tmp_path / "kfp")
    assert len(read_json(last.champion.path)) == len(here["throw_dice", "dice"]) == 3
    assert {key: there.get(key) for key in here} == here


def test_an_input_that_is_left_out_is_no_input_of_the_compiled_component(recipe: Recipe[Any], tmp_path: Path) -> None:
    compile_pipeline(recipe, recipe.resolve({"bonus": [2], "streams": ["left"]}), tmp_path / "p.yaml")
    components = yaml.safe_load((tmp_path / "p.yaml").read_text())["components"]
    taken = {
        name: {*each["inputDefinitions"]["artifacts"]}
        for name, each in components.items()
        if name.startswith(("comp-add", "comp-close"))
    }
    assert taken == {
        "comp-add": {"champion", "throws_0", "resolved"},
        "comp-add-2": {"champion", "throws_0", "bonus", "resolved"},
        "comp-close": {
            "champion",
            "anchor",
            "progress",
            "seed_data",
            "replay_pool",
            "history",
            "next_champion",
            "resolved",
        },
    }, "and nothing that a round may have to show stands in the task that closes it"


def test_a_list_is_compiled_as_an_input_for_each_of_its_parts(recipe: Recipe[Any], tmp_path: Path) -> None:
    compile_pipeline(recipe, recipe.resolve({"rounds": 1}), tmp_path / "p.yaml")
    spec = yaml.safe_load((tmp_path / "p.yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"]
    assert {name for name in tasks if name.startswith("throw")} == {"throw", "throw-2", "throw-3"}
    sources = {
        name: given["taskOutputArtifact"]["producerTask"] for name, given in tasks["add"]["inputs"]["artifacts"].items()
    }
    assert {name: task for name, task in sources.items() if name.startswith("throws")} == {
        "throws_0": "throw",
        "throws_1": "throw-2",
        "throws_2": "throw-3",
    }


def test_a_list_of_the_exported_component_is_one_input(tmp_path: Path) -> None:
    compiler.Compiler().compile(add_up.component("selfloop/base:1"), str(tmp_path / "c.yaml"))
    inputs = yaml.safe_load((tmp_path / "c.yaml").read_text())["components"]["comp-add-up"]["inputDefinitions"]
    assert inputs["artifacts"]["throws"]["isArtifactList"] is True
