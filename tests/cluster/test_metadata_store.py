"""Every compiled pipeline, written into the real ML Metadata store as a cluster writes it.

The store has wheels for Python 3.11 and older.
"""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from selfloop.modes.compiling import compiled
from selfloop.modes.noting import calls_of
from selfloop.modes.tracing import Here
from selfloop.recipe import find_recipe, recipes

pytest.importorskip("ml_metadata", exc_type=ImportError)

from .metadata_store import RefusedError, Run, Spec, Store

pytestmark = pytest.mark.slow

SHARDED = {"generate": {"shards": 2}}


def spec_of(name: str, fused: bool, **settings: Any) -> Spec:
    recipe = find_recipe(name)
    traced = compiled(recipe, recipe.resolve({"rounds": 2}, settings), fused, Here())
    spec: Spec = MessageToDict(traced.pipeline_spec)
    return spec


def publish(spec: Spec) -> Store:
    """What a run leaves in a store, each of whose tasks is run."""
    store = Store()
    Run(store, spec)
    return store


def graphs() -> list[tuple[str, dict[str, Any]]]:
    """Of all recipes the forms that differ in what is called and in what takes what: the store sees nothing else."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, recipe in recipes().items():
        for form in ("", *recipe.forms):
            settings = recipe.resolve({"form": form})
            calls = [call for part in ("start", "round") for call in calls_of(recipe, settings, part)]
            wiring = [(call.stage.target, call.inputs, getattr(call.params, "shards", 1)) for call in calls]
            found.setdefault(f"{name} {wiring}", (name, {"form": form}))
    return list(found.values())


@pytest.mark.parametrize(("name", "settings"), [*graphs(), ("length-generalization", SHARDED)])
def test_the_store_takes_a_pod_a_stage(name: str, settings: dict[str, Any]) -> None:
    publish(spec_of(name, False, **settings))


@pytest.mark.parametrize("name", recipes())
def test_the_store_takes_a_pod_a_round(name: str) -> None:
    publish(spec_of(name, True))


def test_an_artifact_that_a_task_takes_twice_is_refused_by_the_store() -> None:
    """Which is why a stage and a compiled pipeline refuse it before."""
    spec = spec_of("length-generalization", False)
    inputs = spec["root"]["dag"]["tasks"]["close"]["inputs"]["artifacts"]
    inputs["next_champion"] = inputs["champion"]
    with pytest.raises(RefusedError, match=r"UNIQUE constraint failed: Event\.artifact_id, Event\.execution_id"):
        publish(spec)
