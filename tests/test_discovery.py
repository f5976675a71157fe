"""Every recipe and every form that is offered, by the package or by an installed entry point, runs: two tiny rounds in
process; and every stage that any of them calls gives equal digests in every mode.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selfloop.modes.compiling import run_locally
from selfloop.modes.inprocess import run
from selfloop.modes.noting import calls_of
from selfloop.recipe import Recipe, recipes
from selfloop.report.history import read_history

from .conftest import digests
from .tiny import tiny

pytestmark = pytest.mark.slow

RECIPES = recipes()
OFFERED = [
    (name, form)
    for name, recipe in RECIPES.items()
    for form in ("", *recipe.forms)
    if not recipe.resolve({"form": form}).policy.startswith("gguf:")  # a real model takes minutes: make demo-real
]
IN_PROCESS_ONLY = {"measure_policy"}


def stages_of(name: str, form: str) -> frozenset[str]:
    """The stages that a round calls, by name: each recipe has an end of a round of its own."""
    settings = RECIPES[name].resolve(tiny(RECIPES[name], form))
    calls = calls_of(RECIPES[name], settings.for_round(settings.first), "round")
    return frozenset(call.stage.target.rpartition(":")[2] for call in calls)


def graphs() -> list[tuple[str, str]]:
    """Few recipes and forms that call between them every stage but those of the recipe that tests/modes compare."""
    calls = {each: stages_of(*each) for each in OFFERED}
    found, called = list[tuple[str, str]](), calls["length-generalization", ""]
    while calls[most := max(calls, key=lambda each: len(calls[each] - called))] - called:
        found.append(most)
        called |= calls[most]
    return found


GRAPHS = graphs()
FUSED = max(GRAPHS, key=lambda each: len(RECIPES[each[0]].roles))
"""One is enough: what is fused is carried out as in process."""


class Runs:
    """Runs of two tiny rounds in process, each made once."""

    def __init__(self, root: Path) -> None:
        self._root, self._made = root, dict[tuple[str, str], Any]()

    def __call__(self, name: str, form: str) -> tuple[Recipe[Any], Any, Path, Any]:
        """The recipe, its settings, the folder of the run, and what its last round left."""
        recipe = RECIPES[name]
        settings, place = recipe.resolve(tiny(recipe, form)), self._root / f"{name}-{form}"
        if (name, form) not in self._made:
            self._made[name, form] = run(recipe, settings, place)[0]
        return recipe, settings, place, self._made[name, form]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(("name", "form"), OFFERED, ids=lambda word: word or "default")
def test_it_runs_two_rounds_in_process(runs: Callable[..., Any], name: str, form: str) -> None:
    recipe, _, place, last = runs(name, form)
    rounds = read_history(last.history.path)["rounds"]
    assert [round["round"] for round in rounds] == [1, 2]
    assert [role["role"] for role in rounds[-1]["roles"]] == list(recipe.roles)
    assert (place / "round-02").is_dir()


@pytest.mark.usefixtures("tasks_forked")
@pytest.mark.parametrize(
    ("name", "form", "fused"),
    [(*each, False) for each in GRAPHS] + [(*FUSED, True)],
    ids=lambda word: {True: "fused", False: "pods"}.get(word, word or "default"),
)
def test_its_graph_gives_equal_digests_in_every_mode(
    runs: Callable[..., Any], tmp_path: Path, name: str, form: str, fused: bool
) -> None:
    recipe, settings, place, _ = runs(name, form)
    expected = {key: value for key, value in digests(place).items() if key[0] not in IN_PROCESS_ONLY}
    run_locally(recipe, settings, tmp_path / "kfp", fused)
    made = digests(tmp_path / "kfp")
    assert {key: made.get(key) for key in expected} == expected


def test_there_are_seven_recipes_at_least() -> None:
    assert {"agent0", "evolve", "expert-iteration", "length-generalization", "sec", "self-rewarding", "spiral"} <= set(
        RECIPES
    )
