"""Policies between pods: what KFP carries is a reference, the policy itself goes through the store, by digest.

So a champion that is handed on is copied nowhere, and of a policy that changed in part, only that part travels.
"""

import os
import shutil
from pathlib import Path

from kfp.dsl import Artifact, Model

from selfloop.adapters import put_base
from selfloop.artifacts import read_json, write_json

REFERENCE = "reference.json"


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
