"""A stage in a pod: what it needs and makes goes through the store, and what was finished once is not done again.

Where ``SELFLOOP_STORE`` is set, policies travel as references: a champion that is handed on is copied nowhere, and of a
policy that changed in part only that part travels. What a call came to is kept below ``passing`` in the store, under
its content key, whichever run made it; the server may let it expire. KFP's own cache, whose key knows neither content
nor code, is off.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.dsl import Artifact, Metrics, Model

from selfloop.adapters import put_base
from selfloop.artifacts import MANIFEST, check, known, manifest_of, read_json, write_json
from selfloop.errors import ending_plainly
from selfloop.modes import mlflow_plugin
from selfloop.modes.inprocess import content_key
from selfloop.stages import Out, Params, Stage, each, is_page, load, validated

if TYPE_CHECKING:
    from selfloop.store import Store

REFERENCE = "reference.json"
PASSING = "passing"
DIGITS = 12
"""Of a digest on KFP's page."""
log = logging.getLogger(__name__)


def enter(target: str, given: Mapping[str, Any]) -> bool | None:
    """Run the stage at ``target`` from a flat mapping of parameters and artifacts, as a container does."""
    return entered_flat(load(target), given)


main = ending_plainly()(enter)


def entered_flat(stage: Stage, given: Mapping[str, Any]) -> bool | None:
    """Run a stage from a flat mapping of parameters and artifacts."""
    mlflow_plugin.take_own()
    values = {name: value for name, value in given.items() if name in stage.params.model_fields}
    out, inputs = handed(stage, given)
    return entered(stage, out, validated(stage.params, values, stage.name), inputs)


def handed(stage: Stage[..., Out], given: Mapping[str, Any]) -> tuple[Out, dict[str, Any]]:
    """The outputs and the inputs of a stage from what KFP hands over under flat names; lists are gathered."""
    inputs = {
        name: _given(stage, name, given[flat]) if flat in given else [given[one] for one in numbered(flat, given)]
        for name, flat in stage.flat.inputs.items()
        if flat in given or name in stage.many
    }
    return stage.made({name: given[flat] for name, flat in stage.flat.outputs.items()}), inputs


def _given(stage: Stage, name: str, value: Any) -> Any:
    """An input as the stage takes it; KFP does not tell a list of one artifact from the artifact."""
    return each(value) if name in stage.many else value


def numbered(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """The names of a list's parts: ``parts_0``, ``parts_1``, as many as there are."""
    return itertools.takewhile(given.__contains__, (f"{name}_{number}" for number in itertools.count()))


def entered(stage: Stage, out: Any, params: Params, given: Mapping[str, Any]) -> bool | None:
    """Run a stage on artifacts that KFP handed over, or take what an equal call has left in the store.

    KFP does not try again what a network's hiccup ended, so this bears with a server that is away for some minutes.
    """
    from selfloop import lineage

    with lineage.patient():
        returned = _run_or_recall(stage, out, params, given)
    for name, kind in stage.outputs.items():  # what is told to KFP; the manifest has all of it
        output = getattr(out, name)
        output.metadata = known(output.metadata) if is_page(kind) else curtailed(output.metadata)
    if stage.concludes is not None:
        stage.concludes(out)
    return returned


def curtailed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is noted on an output only what tells it from others: what KFP notes on an artifact it tells every task
    that takes it, and Argo keeps that six times for each.
    """
    return {"digest": str(metadata["digest"])[:DIGITS]}


def _run_or_recall(stage: Stage, out: Any, params: Params, given: Mapping[str, Any]) -> bool | None:
    inputs = {
        name: [followed(each) for each in one] if name in stage.many else followed(one) for name, one in given.items()
    }
    outputs = {name: getattr(out, name) for name in stage.outputs}
    uri = os.environ.get("SELFLOOP_STORE")
    if not uri:
        return returned_of(stage, stage.run(out, params, inputs))
    from selfloop.store import open_store

    with open_store(uri) as store, open_store(f"{uri}/{PASSING}") as passing:
        key = content_key(stage, params, inputs)
        outcome = None if stage.effects else recalled(passing, store, key, outputs)
        if outcome is not None:
            log.info("%s was done before, with the same inputs: its outputs are taken from there.", stage.name)
            return outcome.returned
        returned = returned_of(stage, stage.run(out, params, inputs))
        kept = {name: left(store, output) for name, output in outputs.items() if isinstance(output, Model)}
        if not stage.effects:
            passing.note(key, json.dumps(outcome_of(passing, outputs, returned, kept)._asdict()))
    return returned


def returned_of(stage: Stage, out: Any) -> bool | None:
    """What the stage's function returned."""
    return getattr(out, stage.returns) if stage.returns else None


class Outcome(NamedTuple):
    """What a call came to: its return value, references to its policies, and where its other outputs lie."""

    returned: bool | None
    policies: dict[str, dict[str, str]]
    tables: dict[str, dict[str, str]]
    pages: dict[str, str]


def outcome_of(
    passing: Store, outputs: Mapping[str, Artifact], returned: bool | None, policies: dict[str, dict[str, str]]
) -> Outcome:
    """What a call came to, its tables put into the store; for any later call with the same key."""
    outcome = Outcome(returned, policies, {}, {})
    for name, output in outputs.items():
        if is_page(type(output)):
            outcome.pages[name] = Path(output.path).read_text()
        elif name not in policies:
            manifest = (Path(output.path) / MANIFEST).read_text()  # equal rows may be of different makes
            outcome.tables[name] = {"uri": passing.put(output.path), MANIFEST: manifest}
    return outcome


def recalled(passing: Store, store: Store, key: str, outputs: Mapping[str, Artifact]) -> Outcome | None:
    """What an equal call came to, laid into the outputs; none where there was none, or it is not whole any more."""
    note = passing.noted(key)
    if note is None:
        return None
    outcome = Outcome(**json.loads(note))
    places = [(passing, each["uri"]) for each in outcome.tables.values()] + [
        (store, each["uri"]) for each in outcome.policies.values()
    ]
    if not all(where.has(where.key(uri)) for where, uri in places):
        return None
    for name, reference in outcome.policies.items():
        refer(outputs[name], reference)
    for name, table in outcome.tables.items():
        laid(passing.get(table["uri"]), table[MANIFEST], outputs[name])
    for name, text in outcome.pages.items():
        Path(outputs[name].path).parent.mkdir(parents=True, exist_ok=True)
        Path(outputs[name].path).write_text(text)
        if isinstance(outputs[name], Metrics):
            outputs[name].metadata.update(json.loads(text))
    return outcome


def laid(place: Path, manifest: str, output: Artifact) -> None:
    """Lay an artifact of the store into an output, with the manifest that its maker gave it."""
    shutil.copytree(place, output.path, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
    (Path(output.path) / MANIFEST).write_text(manifest)
    found = check(output.path)
    output.metadata.update(found.metadata | {"digest": found.digest})


def own_place(output: Artifact) -> Artifact:
    """The output, beside what an earlier round has finished in its place: ``kfp.local`` names places after components,
    and all rounds of a compiled loop share these.
    """
    first = Path(output.path)
    places = itertools.chain([first], (first.parent / str(number) / first.name for number in itertools.count(2)))
    place = next(place for place in places if not is_taken(place))
    if place != first:
        place.parent.mkdir(parents=True, exist_ok=True)
        output.uri = str(place)
    return output


def is_taken(place: Path) -> bool:
    """Whether something finished lies there: a page, an artifact, or a reference to one."""
    return place.is_file() or (place / MANIFEST).exists() or (place / REFERENCE).exists()


def left(store: Store, output: Artifact) -> dict[str, str]:
    """Put a policy into the store and leave a reference in its place. Returns the reference."""
    put_base(store, output.path)
    reference = {"uri": store.put(output.path), "digest": output.metadata["digest"]}
    shutil.rmtree(output.path)
    refer(output, reference)
    return reference


def lighten(folder: Path) -> None:
    """Leave references in place of the policies in a folder; nothing where no store is set."""
    uri = os.environ.get("SELFLOOP_STORE")
    if not uri:
        return
    from selfloop.store import open_store

    with open_store(uri) as store:
        for place in [path.parent for path in folder.rglob(MANIFEST)]:
            manifest = manifest_of(place)
            if manifest.kind == "Model":
                left(store, Model(uri=str(place), metadata={"digest": manifest.digest}))


def refer(output: Artifact, reference: dict[str, str]) -> None:
    """Let an output be a reference."""
    write_json(output.path, reference, REFERENCE)
    output.metadata.update(reference)


def followed(given: Artifact) -> Artifact:
    """The artifact that a reference names, on this machine; any other artifact as it is."""
    if not (Path(given.path) / REFERENCE).is_file():
        return given
    from selfloop.store import open_store

    place, _, key = str(read_json(given.path, REFERENCE)["uri"]).rpartition("/")
    return type(given)(name=given.name, uri=str(open_store(place).get(key)), metadata=dict(given.metadata))
