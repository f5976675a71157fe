"""What a version is made of: its provenance and the state of its loop, as an artifact in the store.

The registry's tags tell a person the most of it, and where it lies; ``reproduce`` and ``--from`` read the record.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from pydantic import BaseModel

from selfloop import __version__
from selfloop.adapters import put_base
from selfloop.artifacts import code_digest, manifest_of, read_json, seal, write_json
from selfloop.errors import UserError
from selfloop.sandbox.isolation import is_unsafe
from selfloop.store import Store, open_store
from selfloop.trust import trusted

PACKAGES = ("torch", "transformers", "trl", "vllm", "accelerate", "peft", "kfp", "mlflow", "reasoning-gym")


class Reference(BaseModel):
    """An artifact in the store; ``base`` is the policy that an adapter is for, where that is in the store as well."""

    uri: str
    digest: str
    kind: str
    base: str = ""


class Record(BaseModel):
    """All that is known of a candidate.

    ``roles`` are the policies themselves and ``champions`` those they were trained from and compared with; ``before``
    is the state that their round began with, ``after`` the one that it left. Of the policies that a loop began with,
    there are no champions and nothing before. ``settings`` are those that differ from the recipe's or shape it;
    ``brought`` holds the digests of the modules, files and folders of the user's own that these name.
    """

    recipe: str
    settings: dict[str, Any]
    round: int
    seed: int
    roles: dict[str, Reference]
    champions: dict[str, Reference] = {}
    before: dict[str, Reference] = {}
    after: dict[str, Reference] = {}
    decision: dict[str, Any] = {}
    trained_on: dict[str, dict[str, str]] = {}
    trained_with: dict[str, dict[str, Any]] = {}
    origin: str = "start"
    code: str = ""
    brought: dict[str, str] = {}
    software: dict[str, str] = {}
    image: str = ""
    mlflow_run: str = ""
    kfp_run: str = ""


def store_uri() -> str:
    """Where artifacts are kept: ``SELFLOOP_STORE``, or beside MLflow's file where MLflow is a file."""
    given = os.environ.get("SELFLOOP_STORE")
    if given:
        return given
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith("sqlite:///"):
        return str(Path(tracking.removeprefix("sqlite:///")).parent / "store")
    raise UserError(
        "There is no place for policies and the state of loops: set SELFLOOP_STORE to a folder or to s3://bucket/prefix."
    )


def store() -> Store:
    """The store of this process."""
    return _opened(store_uri())


@cache
def _opened(uri: str) -> Store:
    return open_store(uri)


def kept(artifacts: Mapping[str, Artifact]) -> dict[str, Reference]:
    """Put artifacts, and the bases of adapters, into the store, where they are not there already."""
    made = {}
    for name, artifact in artifacts.items():
        manifest, base = manifest_of(artifact.path), put_base(store(), artifact.path)
        made[name] = Reference(uri=store().put(artifact.path), digest=manifest.digest, kind=manifest.kind, base=base)
    return made


def fetched(reference: Reference) -> Path:
    """The artifact on this machine. Raises ``UserError`` where its object is gone or is not what it was."""
    try:
        place = _placed(reference.uri)
    except UserError as error:
        remedy = "'selfloop reproduce NAME VERSION' makes the policies of a version again"
        raise UserError(f"{str(error).rstrip('.')}; {remedy}.") from None
    found = manifest_of(place).digest
    if found != reference.digest:
        raise UserError(
            f"{reference.uri} holds {found[:12]}, not {reference.digest[:12]} as the registry says: it is refused; "
            "restore the object, or choose another version."
        )
    return place


def write(record: Record) -> str:
    """Put a record into the store. Returns its URI."""
    with tempfile.TemporaryDirectory() as place:
        write_json(place, record.model_dump())
        seal(Path(place), "Artifact", stage="promote")
        return store().put(place)


def read(uri: str) -> Record:
    """The record at a URI. Raises ``UserError`` where there is none."""
    place = _placed(uri)
    try:
        return Record.model_validate(read_json(place))
    except (OSError, ValueError):
        raise UserError(f"{uri} is no record of a version: restore it, or choose another version.") from None


def _placed(uri: str) -> Path:
    """Where an artifact lies on this machine, found by its key in this process's store, which may have moved, or at its
    URI.
    """
    place, _, key = uri.rstrip("/").rpartition("/")
    return (store() if store().has(key) else _opened(place)).get(key)


def software() -> dict[str, str]:
    """What a result depends on beyond the code: Python, the machine's kind, the libraries that are installed, and what
    a person chose: that generated code ran without the sandbox, whose policies' own code ran.
    """
    found = {"selfloop": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found |= {"sandbox": "none"} if is_unsafe() else {}
    return found | ({"trusted code": ", ".join(trusted())} if trusted() else {})


def moment() -> dict[str, Any]:
    """The fields of a record that are those of this process."""
    return {"code": code_digest(), "software": software(), "image": os.environ.get("SELFLOOP_IMAGE", "")}
