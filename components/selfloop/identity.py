"""What a stage's outputs depend on beside its inputs and selfloop's code: its parameters, and what a user brought.

A user brings modules (a verifier, an environment, a stage, ...), files and folders (a data set, a policy), on this
machine or elsewhere. Parameters only name them; what counts is their content, or their revision (``revisions``). So a
stage is found finished while that is the same, wherever it lies, and is run again where it changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from selfloop import gguf
from selfloop.artifacts import MANIFEST, SIDECAR, code_digest, file_digest
from selfloop.revisions import revision_of
from selfloop.sources import digest_of_name, is_users, signature
from selfloop.strategies import Strategy

TARGET = re.compile(r"(?<![\w./-])([\w./-]*\w):[A-Za-z_]")
"""What may be ``module:attribute`` or ``file.py:attribute`` in a text."""


class Brought(NamedTuple):
    """What a user brought, with the digests of its content: modules by name, files and folders as they were spelt."""

    code: dict[str, str]
    data: dict[str, str]

    @property
    def all(self) -> dict[str, str]:
        """Both."""
        return self.code | self.data

    def identity(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Plain parameters with what they brought, the same wherever that lies."""
        return {"params": self._placeless(dict(params)), "brought": [self.code, sorted(self.data.values())]}

    def _placeless(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._placeless(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._placeless(each) for each in value]
        if isinstance(value, str):
            for place, digest in self.data.items():
                value = re.sub(rf"(?<![\w./~-]){re.escape(place)}(?![\w./-])", digest, value)
        return value


class Named(NamedTuple):
    """What a text names: modules, and files and folders."""

    modules: Sequence[str] = ()
    places: Sequence[str] = ()


_resolvers: dict[str, Callable[[str], Named]] = {}


def resolves(parameter: str) -> Callable[[Callable[[str], Named]], Callable[[str], Named]]:
    """Let a function say what the values of every parameter of this name name."""

    def register(function: Callable[[str], Named]) -> Callable[[str], Named]:
        _resolvers[parameter] = function
        return function

    return register


def brought(model: BaseModel, *modules: str) -> Brought:
    """What a user brought: all that parameters name, and these modules."""
    found = Brought({}, {})
    for module in modules:
        _add_module(found, module)
    _add(found, model)
    return found


def work_key(
    params: BaseModel, inputs: Mapping[str, str], *modules: str, exclude: frozenset[str] = frozenset(), **more: str
) -> str:
    """SHA-256 of all that work depends on, in hex: selfloop's code, parameters but those to ``exclude``, what these and
    ``modules`` bring, the digests of its inputs, and what ``more`` tells it apart.
    """
    whole = {
        **more,
        "code": code_digest(),
        **brought(params, *modules).identity(params.model_dump(mode="json", exclude=set(exclude))),
        "inputs": dict(inputs),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _add(found: Brought, value: Any, name: str = "") -> None:
    """Add what a value names, which is that of a parameter of this name."""
    if isinstance(value, BaseModel):
        if isinstance(value, Strategy):
            _add_module(found, type(value).__module__)
        _add(found, {field: getattr(value, field) for field in type(value).model_fields})
        for field in sorted(getattr(value, "reads", ())):
            _add_place(found, getattr(value, field))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _add(found, key)
            _add(found, each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            _add(found, each, name)
    elif isinstance(value, str):
        _add_text(found, value, name)


def _add_text(found: Brought, text: str, name: str) -> None:
    settings = _settings(text)
    if text.startswith(gguf.PREFIX):
        _add_place(found, text.removeprefix(gguf.PREFIX), gguf.place_of(text))
    elif settings:
        _add(found, settings)
    elif name in _resolvers:
        modules, places = _resolvers[name](text)
        for module in modules:
            _add_module(found, module)
        for place in places:
            _add_place(found, place)
    else:
        for module in TARGET.findall(text):
            _add_module(found, module)


def _settings(text: str) -> Any:
    """The settings in a text, where it is JSON."""
    if text.startswith("{"):
        with suppress(json.JSONDecodeError):
            return json.loads(text)
    return None


def _add_module(found: Brought, module: str) -> None:
    """Add a module; nothing where there is none of the user's, which is said where it is used."""
    name = Path(module).stem if module.endswith(".py") else module
    if is_users(name) and (digest := digest_of_name(module)) is not None:
        found.code[name] = digest


def _add_place(found: Brought, spelt: str, place: Path | None = None) -> None:
    """Add a file or a folder as it was spelt, which lies at ``place`` where that is not what the spelling says; or what
    a name stands for that leads outside this machine.
    """
    place = place or Path(spelt).expanduser()
    if spelt and place.exists():
        found.data[spelt] = data_digest(place)
    elif revision := revision_of(spelt):
        found.data[spelt] = revision


def data_digest(place: Path) -> str:
    """SHA-256 over the bytes of a file, or of all files of a folder with their names in it, wherever it lies.

    Of a file the suffix counts too, which says how it is read. Of a folder neither hidden files count nor what selfloop
    notes beside an artifact.
    """
    if place.is_file():
        return hashlib.sha256(f"{place.suffix}\0{_file_digest(place)}".encode()).hexdigest()
    whole = hashlib.sha256()
    for name, path in sorted(_visible(place)):
        whole.update(f"{name}\0{_file_digest(path)}\n".encode())
    return whole.hexdigest()


def _visible(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inner.parts)
        if not hidden and path.is_file() and inner.name not in (MANIFEST, SIDECAR):
            yield inner.as_posix(), path


def _file_digest(path: Path) -> str:
    """The digest of a file. Read anew where it may have changed, always in another process."""
    unchanged = signature(path)
    return file_digest(path) if unchanged is None else _known(os.path.abspath(path), unchanged)


@lru_cache(maxsize=65536)
def _known(path: str, _: tuple[int, ...]) -> str:
    return file_digest(Path(path))
