"""The contract of a store: what every kind of it can do, and how it names artifacts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from selfloop.artifacts import DIGEST, Manifest, files_digest
from selfloop.errors import UserError

INDEX = "files"
NOTES = "notes"
INDEXED_BYTES = 1024**2
NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
"""The name of a note."""
AGAIN = "run the same command again, what was sent is kept"


def is_key(text: str) -> bool:
    """Whether a text may be the key of an artifact."""
    return DIGEST.fullmatch(text) is not None


def key_of(manifest: Manifest) -> str:
    """The key of an artifact: SHA-256 over the names and digests of its files. A policy's digest is the same."""
    return files_digest(manifest.files)


class Store(ABC):
    """Artifacts by key. Every method raises ``UserError``, one sentence, for what a person can mend."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def put(self, directory: str | Path) -> str:
        """Store a sealed artifact, where it is not stored already. Returns its URI, ``<store's URI>/<key>``.

        Raises ``UserError`` where a file is missing or is not what was sealed. After any error or kill the artifact
        is absent, and the next ``put`` continues with what has arrived.
        """

    @abstractmethod
    def get(self, uri_or_key: str) -> Path:
        """The artifact's directory on this machine, whole and verified; it is only to be read.

        Raises ``UserError`` where the artifact is not in the store, or a file of it is not what was put.
        """

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the artifact is in the store."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """The keys of all artifacts in the store, in order."""

    @abstractmethod
    def size(self, key: str) -> int:
        """The bytes of all files of an artifact. Raises ``UserError`` where it is not in the store."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an artifact, or what is left of one. From the first moment on it is not there any more."""

    @abstractmethod
    def note(self, name: str, text: str) -> None:
        """Write a small text under a name, in place of what is there."""

    @abstractmethod
    def noted(self, name: str) -> str | None:
        """The text under a name; none where there is none."""

    def check(self) -> None:
        """Refuse, before anything is put, a place that does not answer or refuses what is asked of it."""
        self.has("0" * 64)

    def close(self) -> None:  # noqa: B027 (a directory holds nothing)
        """Let go of what is in use: the directories that ``get`` returned may go from now on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def key(self, uri_or_key: str) -> str:
        """The key in a URI of this store. Raises ``UserError`` for anything else."""
        given = uri_or_key.removeprefix("file://").removesuffix("/")
        key = given.removeprefix(f"{self.uri}/")
        if not is_key(key):
            raise UserError(f"{uri_or_key} is not an artifact of {self.uri}: give a key, or {self.uri}/<key>.")
        return key

    def note_at(self, name: str) -> str:
        """Where a note lies below the store's URI. Raises ``UserError`` for a name that would lead elsewhere."""
        if not NAME.fullmatch(name):
            raise UserError(f"A note of {self.uri} cannot be called {name!r}: use letters, digits, '-', '_' and '.'.")
        return f"{NOTES}/{name}"

    def _absent(self, key: str) -> UserError:
        return UserError(f"There is no artifact {self.uri}/{key}: it was not put there, or it was deleted.")

    def _altered(self, key: str, name: str) -> UserError:
        return UserError(
            f"{self.uri}/{key}/{name} is not what was put there (its digest differs): "
            f"delete {self.uri}/{key} and put the artifact again."
        )
