"""A store on S3."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from minio.error import MinioException
from minio.helpers import check_bucket_name
from pydantic import ValidationError
from typing_extensions import override
from urllib3.exceptions import HTTPError

from selfloop.artifacts import MANIFEST, SIDECAR, Manifest, check, manifest_of, own_file
from selfloop.errors import UserError, disk_is_full
from selfloop.reaching import answers
from selfloop.store.cache import Cache
from selfloop.store.connection import endpoint_of_environment
from selfloop.store.contract import AGAIN, Store, is_key, key_of
from selfloop.store.objects import Objects
from selfloop.store.refusals import UNREACHABLE, sentence
from selfloop.store.transfers import Sender, Threads, Transfer, fetch

UNFINISHED = ".unfinished"


class S3Store(Store):
    """A store on S3, through the ``minio`` client. What is fetched lies in the cache."""

    def __init__(self, uri: str, cache: Cache | None = None) -> None:
        super().__init__(uri.rstrip("/"))
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        try:
            check_bucket_name(bucket)
        except ValueError as error:
            raise UserError(f"{uri} names no bucket ({error}): give s3://bucket/prefix.") from None
        self.objects = Objects(endpoint_of_environment(), bucket, f"{prefix}/" if prefix else "")
        self.cache = cache or Cache.of_machine()

    @override
    def put(self, directory: str | Path) -> str:
        manifest = manifest_of(directory)
        key = key_of(manifest)
        if not self.has(key):
            with self._explained():
                self._send(Path(directory), manifest, key)
        return f"{self.uri}/{key}"

    @override
    def get(self, uri_or_key: str) -> Path:
        key = self.key(uri_or_key)
        with self._explained():
            return self.cache.get(key, partial(self._fetch, key))

    @override
    def has(self, key: str) -> bool:
        with self._explained():
            return self.objects.read(f"{self.key(key)}/{MANIFEST}") is not None

    @override
    def keys(self) -> Iterator[str]:
        with self._explained():
            for found, _ in self.objects.listed(""):
                key, _, name = found.partition("/")
                if name == MANIFEST and is_key(key):
                    yield key

    @override
    def size(self, key: str) -> int:
        if not self.has(key):
            raise self._absent(key)
        with self._explained():
            return sum(size for _, size in self.objects.listed(f"{key}/"))

    @override
    def delete(self, key: str) -> None:
        key = self.key(key)
        with self._explained():
            self.objects.remove(f"{key}/{MANIFEST}")
            for name, _ in list(self.objects.listed(f"{key}/")):
                self.objects.remove(name)
            for name, upload in self.objects.uploads(f"{key}/"):
                self.objects.abort(name, upload)

    @override
    def note(self, name: str, text: str) -> None:
        with self._explained():
            self.objects.write(self.note_at(name), text.encode())

    @override
    def noted(self, name: str) -> str | None:
        with self._explained():
            found = self.objects.read(self.note_at(name))
        return None if found is None else found.decode()

    def revision(self) -> str | None:
        """A digest of which files lie right below this URI, and in which states; none where there are none."""
        with self._explained():
            found = sorted((name, state) for name, state in self.objects.etags() if "/" not in name)
        return hashlib.sha256(repr(found).encode()).hexdigest() if found else None

    def copy_to(self, directory: Path, wanted: Sequence[str], unwanted: Sequence[str]) -> None:
        """Fetch files of a folder that is no artifact, of those right below this URI, by patterns of their names."""
        with self._explained():
            sizes = {name: size for name, size in self.objects.listed("") if "/" not in name}
            here = [name for name in sizes if _is_like(name, wanted) and not _is_like(name, unwanted)]
            if not here:
                raise UserError(f"There is no policy at {self.uri}: it holds no file such as {', '.join(wanted)}.")

            def fetch_file(name: str) -> None:
                fetch(self.objects, threads, Transfer(directory / name, name, "", sizes[name]), directory / UNFINISHED)

            with Threads() as threads:
                threads.files(partial(fetch_file, name) for name in here)
        shutil.rmtree(directory / UNFINISHED, ignore_errors=True)

    @override
    def check(self) -> None:
        try:
            answers(self.objects.endpoint)
        except (OSError, ValueError) as error:
            raise UserError(UNREACHABLE.format(endpoint=self.objects.endpoint, why=error, again=AGAIN)) from None
        super().check()

    @override
    def close(self) -> None:
        self.cache.close()

    def _send(self, directory: Path, manifest: Manifest, key: str) -> None:
        if not all((directory / name).is_file() for name in manifest.files):
            check(directory)  # it says which file is missing, and what to do
        begun = any(self.objects.listed(f"{key}/")) or any(self.objects.uploads(f"{key}/"))
        files = [
            Transfer(own_file(directory, directory / name), f"{key}/{name}", digest, (directory / name).stat().st_size)
            for name, digest in manifest.files.items()
        ]
        with Threads() as threads:
            sender = Sender(self.objects, threads, begun)
            threads.files(partial(sender.send, file) for file in files)
        for name in (SIDECAR, MANIFEST):
            if (directory / name).exists():
                content = own_file(directory, directory / name).read_bytes()
                self.objects.write(f"{key}/{name}", content, once=name == MANIFEST)
        for name, upload in list(self.objects.uploads(f"{key}/")):  # of a writer that was killed, or is late
            self.objects.abort(name, upload)

    def _fetch(self, key: str, directory: Path) -> None:
        said = self.objects.read(f"{key}/{MANIFEST}")
        if said is None:
            raise self._absent(key)
        manifest = self._understood(said, key)
        sizes = {name.removeprefix(f"{key}/"): size for name, size in self.objects.listed(f"{key}/")}
        for name in manifest.files:
            if name not in sizes:
                raise UserError(
                    f"{self.uri}/{key}/{name} is missing although its manifest lists it: "
                    f"delete {self.uri}/{key} and put the artifact again."
                )
        self.cache.make_room(sum(sizes[name] for name in manifest.files), key)

        def fetch_file(name: str) -> None:
            file = Transfer(directory / name, f"{key}/{name}", manifest.files[name], sizes[name])
            if not fetch(self.objects, threads, file, directory / UNFINISHED):
                raise self._altered(key, name)

        with Threads() as threads:
            threads.files(partial(fetch_file, name) for name in manifest.files)
        shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
        beside = self.objects.read(f"{key}/{SIDECAR}") if SIDECAR in sizes else None
        if beside is not None:
            (directory / SIDECAR).write_bytes(beside)
        (directory / MANIFEST).write_bytes(said)

    def _understood(self, said: bytes, key: str) -> Manifest:
        """The manifest, which must be that of the key: so nobody can pass off other files."""
        try:
            manifest = Manifest.model_validate_json(said)
            if key_of(manifest) == key and not any(name.startswith(f"{UNFINISHED}/") for name in manifest.files):
                return manifest
        except ValidationError:
            pass
        raise self._altered(key, MANIFEST)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what libraries raise into one sentence."""
        try:
            yield
        except (MinioException, HTTPError) as error:
            raise UserError(sentence(error, self.objects.endpoint, self.objects.bucket, self.uri)) from error
        except OSError as error:
            why = "its disk is full" if disk_is_full(error) else f"{error.strerror}: {error.filename}"
            raise UserError(
                f"{self.cache.place} cannot be used ({why}): mend that, or set SELFLOOP_CACHE to another folder."
            ) from error


def _is_like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
