"""A stage in a pod: what it needs and makes goes through the store, and what was finished once is not done again.

Where ``SELFLOOP_STORE`` is set, KFP carries references: a champion that is handed on is copied nowhere, and of a policy
that changed in part only that part travels. Policies lie in the store itself, all else below its ``passing``, where the
server may let it expire. A call is found there by its content key, whichever run made it; KFP's own cache, whose key
knows neither content nor code, is off.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact, Model

from selfloop.adapters import put_base
from selfloop.artifacts import read_json, write_json
from selfloop.stage import Params, Stage, is_page, load, validated

REFERENCE = "reference.json"


def enter(target: str, given: Mapping[str, Any]) -> bool | None:
    """Run the stage at ``target`` from a flat mapping of parameters and artifacts, as a container does."""
    stage = load(target)
    values = {name: value for name, value in given.items() if name in stage.params.model_fields}
    return entered(stage, validated(stage.params, values, stage.name), given)


def entered(stage: Stage, params: Params, given: Mapping[str, Any]) -> bool | None:
    """Run a stage on artifacts that KFP handed over, or take what an equal call has left in the store."""
    inputs = {name: followed(given[name]) for name in stage.inputs}
    outputs = {name: own_place(given[name]) for name in stage.outputs}
    returned = stage.run(params, inputs | outputs)
    for name, kind in stage.outputs.items():
        if not is_page(kind):
            left(outputs[name])
    return returned


def own_place(output: Artifact) -> Artifact:
    """The output, beside what another task has left in its place: ``kfp.local`` names places after components, and all
    rounds of a compiled loop share these.
    """
    first = Path(output.path)
    places = itertools.chain([first], (first.parent / str(number) / first.name for number in itertools.count(2)))
    place = next(place for place in places if not place.exists())
    if place != first:
        place.parent.mkdir(parents=True, exist_ok=True)
        output.uri = str(place)
    return output


def left(output: Artifact) -> None:
    """Put a policy into the store and leave a reference in its place; nothing where no store is set."""
    uri = os.environ.get("SELFLOOP_STORE")
    if not uri or not isinstance(output, Model):
        return
    from selfloop.store import open_store

    store = open_store(uri)
    put_base(store, output.path)
    reference = {"uri": store.put(output.path), "digest": output.metadata["digest"]}
    shutil.rmtree(output.path)
    write_json(output.path, reference, REFERENCE)
    output.metadata.update(reference)


def followed(given: Artifact) -> Artifact:
    """The artifact that a reference names, on this machine; any other artifact as it is."""
    if not (Path(given.path) / REFERENCE).is_file():
        return given
    from selfloop.store import open_store

    place, _, key = str(read_json(given.path, REFERENCE)["uri"]).rpartition("/")
    return type(given)(name=given.name, uri=str(open_store(place).get(key)), metadata=dict(given.metadata))
