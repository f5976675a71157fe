"""A store in a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from selfloop.artifacts import MANIFEST, SIDECAR, Manifest, check, file_digest, own_file
from selfloop.errors import UserError, disk_is_full
from selfloop.store import folders
from selfloop.store.contract import AGAIN, INDEX, INDEXED_BYTES, NOTES, Store, is_key, key_of


class DirectoryStore(Store):
    """A store in a directory, on this machine or shared by several. Files are hard links where that is possible."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        super().__init__(str(self.root))

    @override
    def put(self, directory: str | Path) -> str:
        manifest = check(directory)
        key = key_of(manifest)
        with self._locked(key):
            if not self._holds(Path(directory), manifest, key):
                self._build(Path(directory), manifest, key)
        return f"{self.uri}/{key}"

    @override
    def get(self, uri_or_key: str) -> Path:
        key = self.key(uri_or_key)
        if not self.has(key):
            raise self._absent(key)
        manifest = check(self.root / key)
        if key_of(manifest) != key:
            raise self._altered(key, MANIFEST)
        return self.root / key

    @override
    def has(self, key: str) -> bool:
        return folders.is_whole(self.root, self.key(key))

    @override
    def keys(self) -> Iterator[str]:
        found = self.root.glob(f"*/{MANIFEST}")
        yield from sorted(path.parent.name for path in found if is_key(path.parent.name))

    @override
    def size(self, key: str) -> int:
        if not self.has(key):
            raise self._absent(key)
        return folders.bytes_in(self.root / key)

    @override
    def delete(self, key: str) -> None:
        key = self.key(key)
        if self.root.is_dir():
            with self._locked(key):
                folders.remove(self.root, key)

    @override
    def note(self, name: str, text: str) -> None:
        with self._locked(NOTES):
            place = self.root / self.note_at(name)
            place.parent.mkdir(exist_ok=True)
            unfinished = place.with_name(f".{name}")
            unfinished.write_text(text)
            os.replace(unfinished, place)

    @override
    def noted(self, name: str) -> str | None:
        place = self.root / self.note_at(name)
        return place.read_text() if place.is_file() else None

    def _holds(self, source: Path, manifest: Manifest, key: str) -> bool:
        """Whether an artifact, whose source is whole, is here as it was put: what was damaged is put again."""
        place = self.root / key
        return self.has(key) and all(
            (place / name).is_file()
            and (os.path.samefile(source / name, place / name) or file_digest(place / name) == digest)
            for name, digest in manifest.files.items()
        )

    def _build(self, source: Path, manifest: Manifest, key: str) -> None:
        unfinished = folders.unfinished(self.root, key)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name, digest in manifest.files.items():
            target = unfinished / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(source / name, target, digest)
        for name in (SIDECAR, MANIFEST):
            if (source / name).exists():
                shutil.copyfile(own_file(source, source / name), unfinished / name)
        folders.finish(self.root, key)
        for name, digest in manifest.files.items():
            self._note(key, name, digest)

    def _place(self, source: Path, target: Path, digest: str) -> None:
        with suppress(OSError):
            os.link(source.resolve(), target)
            return
        with suppress(OSError):
            same = self.root / (self.root / INDEX / digest).read_text()
            if same.resolve().is_relative_to(self.root.resolve()) and file_digest(same) == digest:
                os.link(same, target)
                return
        shutil.copyfile(source, target)
        if file_digest(target) != digest:
            raise UserError(f"{source} changed while it was copied to {self.uri}: make the artifact again.")

    def _note(self, key: str, name: str, digest: str) -> None:
        if (self.root / key / name).stat().st_size < INDEXED_BYTES:
            return
        note = self.root / INDEX / digest
        note.parent.mkdir(exist_ok=True)
        unfinished = note.with_name(f".{digest}.{key}")
        unfinished.write_text(f"{key}/{name}")
        os.replace(unfinished, note)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Be the only one who changes an artifact, and say in one sentence what the file system refuses."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with folders.locked(folders.lock_of(self.root, key)):
                yield
        except OSError as error:
            if disk_is_full(error):
                raise UserError(f"The disk that holds {self.uri} is full: free some space and {AGAIN}.") from error
            raise UserError(
                f"{self.uri} cannot be written ({error.strerror}): give a directory that you may write."
            ) from error
