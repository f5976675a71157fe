"""Every compiled pipeline, written into the real ML Metadata store as a cluster writes it.

The store has wheels for Python 3.11 and older.
"""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from selfloop.modes.compiling import compiled
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


FORMS = [(recipe.name, {"form": form}) for recipe in recipes().values() for form in ("", *recipe.forms)]


@pytest.mark.parametrize(("name", "settings"), [*FORMS, ("length-generalization", SHARDED)])
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
