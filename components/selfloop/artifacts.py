"""Artifacts that are complete or absent: data first, a manifest with SHA-256 digests last.

An artifact is a directory. Its digest covers what defines it: the rows of a table, whatever its shards; the weights,
configuration and tokenizer of a policy. Timings and other things of the moment live in a sidecar, outside the digest.
"""

import functools
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from kfp.dsl import Artifact
from pydantic import BaseModel, ValidationError, field_validator

from selfloop import flavour
from selfloop.errors import UserError
from selfloop.links import link
from selfloop.records import TABLE

MANIFEST = "manifest.json"
SIDECAR = "sidecar.json"
VALUE = "value.json"
"""The file of an artifact that is a small value."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class Manifest(BaseModel):
    """What an artifact is and where it came from. ``inputs`` maps the stage's input names to digests, ``brought``
    the user's modules and files that the stage depended on.
    """

    version: int = 1
    kind: str
    digest: str
    files: dict[str, str]
    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    code: str
    brought: dict[str, str] = {}
    metadata: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _lie_below(cls, files: dict[str, str]) -> dict[str, str]:
        """Names become paths, and digests names: neither may lead anywhere else."""
        for name, digest in files.items():
            parts = PurePosixPath(name).parts
            is_plain = parts and "/".join(parts) == name and ".." not in parts and "\0" not in name
            if not is_plain or parts[-1] in (MANIFEST, SIDECAR) or not DIGEST.fullmatch(digest):
                raise ValueError(f"{name!r} is no file of an artifact")
        return files


def files_in(directory: Path, within: Path | None = None) -> Iterator[Path]:
    """The files of a folder in the order of their names, hidden ones too. Raises ``UserError`` for what is not the
    folder's own: a link that leads out of it, or out of ``within``, a device, a file that runs as its owner.
    """
    for path in sorted(directory.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            yield own_file(within or directory, path)


def own_file(directory: Path, path: Path) -> Path:
    """The path of a file of a folder. Raises ``UserError`` as ``files_in`` does."""
    whole, real = os.path.realpath(directory), Path(os.path.realpath(path))  # Path.resolve raises on a ring of links
    if not real.is_relative_to(whole):
        raise UserError(f"{path} is a link that leads out of {directory}: put the file itself there.")
    mode = path.stat().st_mode if os.path.exists(path) else 0
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is no file but a link, a pipe or a device: remove it.")
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise UserError(f"{path} would run with the rights of its owner: take that away with 'chmod a-s'.")
    return path


def files_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over names and digests of files, in the order of the names' parts."""
    names = sorted(files, key=lambda name: PurePosixPath(name).parts)
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in names).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_digest() -> str:
    """SHA-256 over the files of the installed selfloop package: the version of the code, also between releases."""
    root, whole = Path(__file__).parent, hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".j2"}):
        whole.update(f"{path.relative_to(root)}\0{file_digest(path)}\n".encode())
    return whole.hexdigest()


def seal(
    directory: Path,
    kind: str,
    *,
    stage: str = "",
    params: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
    brought: dict[str, str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Manifest:
    """Write the manifest of a directory whose data is complete; from then on it is an artifact."""
    if kind == "Model":
        flavour.describe(directory)
    files = {
        str(path.relative_to(directory)): file_digest(path)
        for path in files_in(directory)
        if path.name not in (MANIFEST, SIDECAR)
    }
    digest = str(json.loads((directory / TABLE).read_text())["digest"]) if TABLE in files else files_digest(files)
    manifest = Manifest(
        kind=kind,
        digest=digest,
        files=files,
        stage=stage,
        params=params or {},
        inputs=inputs or {},
        code=code_digest(),
        brought=brought or {},
        metadata=metadata or {},
    )
    unfinished = directory / f"{MANIFEST}.partial"
    unfinished.write_text(manifest.model_dump_json(indent=1))
    os.replace(unfinished, directory / MANIFEST)
    return manifest


def manifest_of(directory: str | Path) -> Manifest:
    """The manifest of an artifact. Raises ``UserError`` where there is none: its maker did not finish."""
    path = Path(directory) / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{directory} is not a finished artifact (it has no {MANIFEST}): make it again.") from None
    except ValidationError:
        raise UserError(f"{path} is not a manifest of selfloop: remove {directory} and make it again.") from None


def check(directory: str | Path) -> Manifest:
    """The manifest, after every file was compared with it. A file altered or missing is refused by name."""
    manifest = manifest_of(directory)
    for name, expected in manifest.files.items():
        path = Path(directory) / name
        if not path.is_file():
            raise UserError(f"{path} is missing although its manifest lists it: remove {directory} and make it again.")
        if file_digest(own_file(Path(directory), path)) != expected:
            raise UserError(f"{path} was altered after it was sealed: remove {directory} and make it again.")
    if TABLE not in manifest.files and files_digest(manifest.files) != manifest.digest:
        raise UserError(f"{directory} is not what its {MANIFEST} says: remove it and make it again.")
    return manifest


def hand_on(source: Artifact, target: Artifact) -> None:
    """Give a sealed artifact a second place: hard links where the file system allows it, copies elsewhere.

    It stays the same artifact: its manifest, which tells who made it of what, goes with it, last.
    """
    place, target_place = Path(source.path), Path(target.path)
    shutil.copytree(
        place, target_place, copy_function=link, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True
    )
    link(place / MANIFEST, target_place / MANIFEST)
    target.metadata.update(source.metadata)


def known(metadata: Any) -> Any:
    """Metadata without what is not known, at whatever depth: nothing, and what is no finite number. Neither JSON nor
    KFP's metadata store has these.
    """
    if isinstance(metadata, Mapping):
        return {name: known(value) for name, value in metadata.items() if _is_known(value)}
    if isinstance(metadata, list | tuple):
        return [known(value) for value in metadata if _is_known(value)]
    return metadata


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def sidecar_of(directory: str | Path) -> dict[str, Any]:
    """What is noted beside an artifact and outside its digest; empty where nothing is."""
    path = Path(directory) / SIDECAR
    return dict(json.loads(path.read_text())) if path.exists() else {}


def as_read(value: object) -> Any:
    """A small value as it is read after ``write_json`` wrote it: names are texts, and in order."""
    return json.loads(json.dumps(value, sort_keys=True))


def write_json(directory: str | Path, value: object, name: str = VALUE) -> None:
    """Write a small value as canonical JSON, so that equal values have equal digests."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    partial = Path(directory) / f"{name}.partial"
    partial.write_text(json.dumps(value, sort_keys=True, indent=1))
    os.replace(partial, Path(directory) / name)


def read_json(directory: str | Path, name: str = VALUE) -> Any:
    """Read what ``write_json`` wrote."""
    return json.loads((Path(directory) / name).read_text())
