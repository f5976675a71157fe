"""Artifacts by digest, in a directory or on any S3: sent and fetched in parallel, resumed, verified, whole or absent.

A store holds a folder for each artifact, under the digest of its files, and beside these folders the names of files by
their own digest::

    <store>/<key>/config.json
    <store>/<key>/model-00001-of-00002.safetensors
    <store>/<key>/manifest.json                        written last, once: from then on the artifact is there
    <store>/files/<sha256>                             names a <key>/<file> with these bytes: they are not sent again

The sidecar, which no digest covers, goes along where there is one. ``delete`` is for artifacts that nobody is putting.

On S3, files go in parts, and an upload that broke off goes on from the parts that the server has. Credentials come from
the environment, ``~/.aws/credentials`` or the machine's role, the server's address from ``AWS_ENDPOINT_URL_S3``,
``AWS_ENDPOINT_URL`` or ``MLFLOW_S3_ENDPOINT_URL``. What is fetched lies in a cache that all processes of a machine
share: ``SELFLOOP_CACHE`` (``~/.cache/selfloop``), at most ``SELFLOOP_CACHE_BYTES`` (50 GB) and what is in use.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError
from typing_extensions import override

from selfloop.artifacts import MANIFEST, SIDECAR, Manifest, check, file_digest, manifest_of
from selfloop.errors import UserError, disk_is_full

if TYPE_CHECKING:
    from minio import Minio
    from minio.credentials import Provider
    from urllib3 import PoolManager

INDEX = "files"
UNFINISHED = ".unfinished"
INDEXED_BYTES = 1024**2
PART_BYTES = 8 * 1024**2
MOST_PARTS = 10_000
CHUNK_BYTES = 256 * 1024
PARALLEL = 8
PAUSES_S = (0.5, 4.0)
BACKOFF_S = 0.2
CACHE_BYTES = 50 * 10**9
DIGEST_HEADER = "x-amz-meta-sha256"
KEY = re.compile(r"[0-9a-f]{64}")
ABSENT = ("NoSuchKey", "NoSuchObject")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")

AGAIN = "run the same command again, what was sent is kept"
REMEDIES = {
    "NoSuchBucket": "There is no bucket '{bucket}' at {endpoint}: create it, or correct {uri}.",
    "InvalidAccessKeyId": "{endpoint} does not know the access key (any more): correct AWS_ACCESS_KEY_ID and {again}.",
    "SignatureDoesNotMatch": "{endpoint} refuses the secret key: correct AWS_SECRET_ACCESS_KEY and {again}.",
    "AccessDenied": "The credentials do not reach {uri}: ask for the right to read and write there, or renew them, and "
    "{again}.",
    "ExpiredToken": "The credentials for {endpoint} have expired: renew them and {again}.",
    "RequestTimeTooSkewed": "This machine's clock is too far from that of {endpoint}: set it and {again}.",
    "QuotaExceeded": "The bucket '{bucket}' is full: free some space or raise its quota, and {again}.",
    "BadDigest": "What was sent to {endpoint} arrived damaged, again and again: check the network and {again}.",
    "ResponseError": "{endpoint} is out of order ({why}): wait until it is well again, and {again}.",
}
"""One sentence for each refusal that a person can mend, by the code of the server."""
OTHERS = "{endpoint} refuses {uri} ({code}: {why}): ask who runs it, and {again}."
UNREACHABLE = "{endpoint} cannot be reached ({why}): check the network and AWS_ENDPOINT_URL_S3, and {again}."
SAME = {
    "XAmzContentSHA256Mismatch": "BadDigest",
    "InvalidDigest": "BadDigest",
    "InternalError": "ResponseError",
    "ServiceUnavailable": "ResponseError",
    "SlowDown": "ResponseError",
    "ServerError": "ResponseError",
    "InvalidResponseError": "ResponseError",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidToken": "ExpiredToken",
    "InsufficientStorage": "QuotaExceeded",
    "InsufficientCapacity": "QuotaExceeded",
    "XMinioStorageFull": "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded": "QuotaExceeded",
}
PASSING = {
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "InvalidDigest",
    "InvalidPart",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
"""What a server says of a fault on the way, and of an upload that another writer has just completed."""

T = TypeVar("T")


def key_of(manifest: Manifest) -> str:
    """The key of an artifact: SHA-256 over the names and digests of its files. A policy's digest is the same."""
    names = sorted(manifest.files, key=lambda name: PurePosixPath(name).parts)
    return hashlib.sha256("".join(f"{name}\0{manifest.files[name]}\n" for name in names).encode()).hexdigest()


def open_store(uri: str) -> Store:
    """The store at ``s3://bucket/prefix``, at a ``file://`` URI or in a directory, which is made when it is used.

    Raises ``UserError`` for other places. Nothing is contacted before the store is used.
    """
    scheme, _, rest = uri.partition("://")
    if not rest:
        return DirectoryStore(Path(uri).expanduser())
    if scheme == "file":
        return DirectoryStore(Path(unquote(urlsplit(uri).path)))
    if scheme == "s3":
        return S3Store(uri)
    raise UserError(f"{uri} is no place for artifacts: give a directory or s3://bucket/prefix.")


class Store(ABC):
    """Artifacts by key. Every method raises ``UserError``, one sentence, for what a person can mend."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def put(self, directory: str | Path) -> str:
        """Store a sealed artifact, where it is not stored already. Returns its URI, ``<store's URI>/<key>``.

        Raises ``UserError`` where a file is missing or is not what was sealed. After any error or kill the artifact
        is absent, and the next ``put`` goes on with what has arrived.
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
        if not KEY.fullmatch(key):
            raise UserError(f"{uri_or_key} is not an artifact of {self.uri}: give a key, or {self.uri}/<key>.")
        return key

    def _absent(self, key: str) -> UserError:
        return UserError(f"There is no artifact {self.uri}/{key}: it was not put there, or it was deleted.")


class DirectoryStore(Store):
    """A store in a directory, on this machine or shared by several. Files are hard links where that is possible."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        super().__init__(str(self.root))

    @override
    def put(self, directory: str | Path) -> str:
        manifest = check(directory)
        key = key_of(manifest)
        with self._told(), _locked(self.root / f".{key}.lock"):
            if not self.has(key):
                self._build(Path(directory), manifest, key)
        return f"{self.uri}/{key}"

    @override
    def get(self, uri_or_key: str) -> Path:
        key = self.key(uri_or_key)
        if not self.has(key):
            raise self._absent(key)
        manifest = check(self.root / key)
        if key_of(manifest) != key:
            raise UserError(_altered(f"{self.uri}/{key}/{MANIFEST}", f"{self.uri}/{key}"))
        return self.root / key

    @override
    def has(self, key: str) -> bool:
        return (self.root / self.key(key) / MANIFEST).is_file()

    @override
    def keys(self) -> Iterator[str]:
        found = self.root.glob(f"*/{MANIFEST}")
        yield from sorted(path.parent.name for path in found if KEY.fullmatch(path.parent.name))

    @override
    def size(self, key: str) -> int:
        if not self.has(key):
            raise self._absent(key)
        return _bytes_in(self.root / key)

    @override
    def delete(self, key: str) -> None:
        key = self.key(key)
        if self.root.is_dir():
            with self._told(), _locked(self.root / f".{key}.lock"):
                (self.root / key / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(self.root / key, ignore_errors=True)
                shutil.rmtree(self.root / f".{key}.partial", ignore_errors=True)

    def _build(self, source: Path, manifest: Manifest, key: str) -> None:
        unfinished = self.root / f".{key}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        for name, digest in manifest.files.items():
            target = unfinished / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(source / name, target, digest)
        for name in (SIDECAR, MANIFEST):
            if (source / name).exists():
                unfinished.mkdir(exist_ok=True)
                shutil.copyfile(source / name, unfinished / name)
        shutil.rmtree(self.root / key, ignore_errors=True)
        os.rename(unfinished, self.root / key)
        for name, digest in manifest.files.items():
            self._note(key, name, digest)

    def _place(self, source: Path, target: Path, digest: str) -> None:
        with suppress(OSError):
            os.link(source.resolve(), target)
            return
        with suppress(OSError):
            same = self.root / (self.root / INDEX / digest).read_text()
            if file_digest(same) == digest:
                os.link(same, target)
                return
        shutil.copyfile(source, target)
        if file_digest(target) != digest:
            raise UserError(f"{source} changed while it was copied to {self.uri}: make the artifact again.")

    def _note(self, key: str, name: str, digest: str) -> None:
        note = self.root / INDEX / digest
        if (self.root / key / name).stat().st_size < INDEXED_BYTES:
            return
        note.parent.mkdir(exist_ok=True)
        unfinished = note.with_name(f".{digest}.{key}")
        unfinished.write_text(f"{key}/{name}")
        os.replace(unfinished, note)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            if disk_is_full(error):
                raise UserError(f"The disk that holds {self.uri} is full: free some space and {AGAIN}.") from error
            raise UserError(
                f"{self.uri} cannot be written ({error.strerror}): give a directory that you may write."
            ) from error


class Stored(NamedTuple):
    """An object of a store: its name below the prefix, and its bytes."""

    name: str
    size: int


class S3Store(Store):
    """A store on S3, through the ``minio`` client. What is fetched lies in the cache."""

    def __init__(self, uri: str, cache: Cache | None = None) -> None:
        from minio.helpers import check_bucket_name

        super().__init__(uri.rstrip("/"))
        self.bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        try:
            check_bucket_name(self.bucket)
        except ValueError as error:
            raise UserError(f"{uri} names no bucket ({error}): give s3://bucket/prefix.") from None
        self.endpoint = _endpoint()
        self.cache = cache or Cache.of_machine()

    @cached_property
    def _client(self) -> Minio:
        return _client(self.endpoint)

    @override
    def put(self, directory: str | Path) -> str:
        manifest = manifest_of(directory)
        key = key_of(manifest)
        with self._told():
            if self._read(f"{key}/{MANIFEST}") is None:
                with _Transfers() as transfers:
                    self._send_all(Path(directory), manifest, key, transfers)
        return f"{self.uri}/{key}"

    @override
    def get(self, uri_or_key: str) -> Path:
        key = self.key(uri_or_key)
        with self._told():
            return self.cache.get(key, partial(self._fetch_all, key))

    @override
    def has(self, key: str) -> bool:
        with self._told():
            return self._read(f"{self.key(key)}/{MANIFEST}") is not None

    @override
    def keys(self) -> Iterator[str]:
        with self._told():
            for stored in self._listed(""):
                key, _, name = stored.name.partition("/")
                if name == MANIFEST and KEY.fullmatch(key):
                    yield key

    @override
    def size(self, key: str) -> int:
        if not self.has(key):
            raise self._absent(key)
        with self._told():
            return sum(stored.size for stored in self._listed(f"{key}/"))

    @override
    def delete(self, key: str) -> None:
        key = self.key(key)
        with self._told():
            self._remove(f"{key}/{MANIFEST}")
            for stored in list(self._listed(f"{key}/")):
                self._remove(stored.name)
            for name, upload in self._uploads(f"{key}/"):
                self._abort(name, upload)

    @override
    def close(self) -> None:
        self.cache.close()

    # Sending

    def _send_all(self, directory: Path, manifest: Manifest, key: str, transfers: _Transfers) -> None:
        if not all((directory / name).is_file() for name in manifest.files):
            check(directory)  # it says which file is missing, and what to do
        begun = any(True for _ in self._listed(f"{key}/")) or any(True for _ in self._uploads(f"{key}/"))
        transfers.files(
            partial(self._send, directory / name, key, name, digest, begun, transfers)
            for name, digest in manifest.files.items()
        )
        for name in (SIDECAR, MANIFEST):
            if (directory / name).exists():
                self._write(f"{key}/{name}", (directory / name).read_bytes(), once=name == MANIFEST)

    def _send(self, path: Path, key: str, name: str, digest: str, begun: bool, transfers: _Transfers) -> None:
        size, target = path.stat().st_size, f"{key}/{name}"
        if size < INDEXED_BYTES:
            self._write_file(path, target, digest)
            return
        noted = (self._read(f"{INDEX}/{digest}") or b"").decode()
        if noted and noted != target and self._copied(noted, target, digest, size):
            _same(file_digest(path), digest, path)
            return
        attempts = itertools.count(int(begun))
        self._again(lambda: self._upload(path, target, digest, size, next(attempts) > 0, transfers))
        if noted != target:
            self._write(f"{INDEX}/{digest}", target.encode())

    def _write_file(self, path: Path, name: str, digest: str) -> None:
        data = path.read_bytes()
        _same(hashlib.sha256(data).hexdigest(), digest, path)
        self._write(name, data, digest)

    def _is(self, name: str, digest: str, size: int) -> bool:
        """Whether an object holds a file already: it was written with its digest, and as a whole."""
        from minio.error import S3Error

        try:  # a HEAD would not say why it is refused
            answer = self._client.get_object(self.bucket, self.prefix + name, length=1)
        except S3Error as error:
            if error.code in ABSENT:
                return False
            raise
        answer.close()
        answer.release_conn()
        found = answer.headers.get(DIGEST_HEADER), answer.headers.get("content-range", "").rpartition("/")[2]
        return found == (digest, str(size))

    def _copied(self, source: str, target: str, digest: str, size: int) -> bool:
        from minio.commonconfig import REPLACE, CopySource
        from minio.error import S3Error

        if not self._again(partial(self._is, source, digest, size)):
            return False
        try:
            self._client.copy_object(
                self.bucket,
                self.prefix + target,
                CopySource(self.bucket, self.prefix + source),
                metadata={"sha256": digest},
                metadata_directive=REPLACE,
            )
        except S3Error as error:
            if error.code in (*ABSENT, *PASSING):
                return False
            raise
        return True

    def _upload(self, path: Path, name: str, digest: str, size: int, begun: bool, transfers: _Transfers) -> None:
        """Send a file in parts. Where it was ``begun``, by whomever, look what is there already."""
        from minio.error import ServerError

        if begun and self._is(name, digest, size):
            _same(file_digest(path), digest, path)
            return
        if size <= PART_BYTES:
            self._write_file(path, name, digest)
            return
        part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
        sizes = [min(part_bytes, size - start) for start in range(0, size, part_bytes)]
        known = self._unfinished(name, sizes) if begun else None
        upload, arrived = known or (self._create(name, digest), {})
        send = partial(self._part, path, name, upload, arrived, part_bytes)
        try:
            with transfers.parts(partial(send, number) for number in range(1, len(sizes) + 1)) as parts:
                _same(file_digest(path), digest, path)
        except UserError:
            self._abort(name, upload)
            raise
        made = [part.result() for part in parts]
        done = self._client._complete_multipart_upload(self.bucket, self.prefix + name, upload, made)
        if not done.etag:  # servers answer OK before they know
            raise ServerError(f"{name} was not completed", 500)

    def _create(self, name: str, digest: str) -> str:
        return str(self._client._create_multipart_upload(self.bucket, self.prefix + name, {DIGEST_HEADER: digest}))

    def _unfinished(self, name: str, sizes: list[int]) -> tuple[str, dict[int, Any]] | None:
        """The upload of an object that broke off, and the parts of it that arrived, by number."""
        for found, upload in list(self._uploads(name)):
            if found == name:
                arrived = {part.part_number: part for part in self._parts(name, upload)}
                if all(number <= len(sizes) and part.size == sizes[number - 1] for number, part in arrived.items()):
                    return upload, arrived
                self._abort(name, upload)
        return None

    def _part(self, path: Path, name: str, upload: str, arrived: dict[int, Any], part_bytes: int, number: int) -> Any:
        from minio.datatypes import Part

        with path.open("rb") as file:
            file.seek((number - 1) * part_bytes)
            data = file.read(part_bytes)
        known = arrived.get(number)
        if known and known.size == len(data) and known.etag == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return known
        etag = self._client._upload_part(self.bucket, self.prefix + name, data, None, upload, number)
        return Part(number, etag)

    def _uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Unfinished uploads: names and ids."""
        more: dict[str, str | None] = {}
        while True:
            found = self._client._list_multipart_uploads(self.bucket, prefix=self.prefix + prefix, **more)
            for upload in found.uploads:
                yield upload.object_name.removeprefix(self.prefix), str(upload.upload_id)
            if not found.is_truncated:
                return
            more = {"key_marker": found.next_key_marker, "upload_id_marker": found.next_upload_id_marker}

    def _parts(self, name: str, upload: str) -> Iterator[Any]:
        marker = None
        while True:
            found = self._client._list_parts(self.bucket, self.prefix + name, upload, part_number_marker=marker)
            yield from found.parts
            if not found.is_truncated:
                return
            marker = found.next_part_number_marker

    def _abort(self, name: str, upload: str) -> None:
        from minio.error import S3Error

        try:
            self._client._abort_multipart_upload(self.bucket, self.prefix + name, upload)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    # Fetching

    def _fetch_all(self, key: str, directory: Path) -> None:
        said = self._read(f"{key}/{MANIFEST}")
        if said is None:
            raise self._absent(key)
        manifest = self._understood(said, key)
        sizes = {stored.name.removeprefix(f"{key}/"): stored.size for stored in self._listed(f"{key}/")}
        for name in manifest.files:
            if name not in sizes:
                raise UserError(
                    f"{self.uri}/{key}/{name} is missing although its manifest lists it: "
                    f"delete {self.uri}/{key} and put the artifact again."
                )
        self.cache.make_room(sum(sizes[name] for name in manifest.files), key)
        with _Transfers() as transfers:
            transfers.files(
                partial(self._fetch, directory, key, name, digest, sizes[name], transfers)
                for name, digest in manifest.files.items()
            )
        beside = self._read(f"{key}/{SIDECAR}") if SIDECAR in sizes else None
        if beside is not None:
            (directory / SIDECAR).write_bytes(beside)
        (directory / MANIFEST).write_bytes(said)

    def _understood(self, said: bytes, key: str) -> Manifest:
        """The manifest, which must be that of the key: so nobody can pass off other files, or other places for them."""
        try:
            manifest = Manifest.model_validate_json(said)
            if key_of(manifest) == key and not any(map(_leads_astray, manifest.files)):
                return manifest
        except ValidationError:
            pass
        raise UserError(_altered(f"{self.uri}/{key}/{MANIFEST}", f"{self.uri}/{key}"))

    def _fetch(self, directory: Path, key: str, name: str, digest: str, size: int, transfers: _Transfers) -> None:
        target = directory / name
        if target.exists():  # it was verified before it got this name
            return
        file = _Ranges(directory / UNFINISHED / hashlib.sha256(name.encode()).hexdigest(), size)
        for _ in range(2):
            with file.opened() as descriptor:
                fetch = partial(self._range, f"{key}/{name}", descriptor, file)
                with transfers.parts(partial(fetch, start) for start in file.missing()):
                    pass
            if file_digest(file.path) == digest:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file.path, target)
                return
            file.remove()
        raise UserError(_altered(f"{self.uri}/{key}/{name}", f"{self.uri}/{key}"))

    def _range(self, name: str, descriptor: int, file: _Ranges, start: int) -> None:
        from urllib3.exceptions import HTTPError, ProtocolError

        at, end = start, min(start + PART_BYTES, file.size)

        def go_on() -> None:
            nonlocal at
            before = at
            try:
                for chunk in self._streamed(name, at, end):
                    os.pwrite(descriptor, chunk[: end - at], at)
                    at += len(chunk)
            except HTTPError:
                if at == before:  # otherwise the next attempt goes on from here, however many it takes
                    raise
            if at == before:
                raise ProtocolError(f"{name} came without its bytes")

        while at < end:
            self._again(go_on)
        file.note(start)

    def _streamed(self, name: str, start: int = 0, end: int = 0) -> Iterator[bytes]:
        answer = self._client.get_object(self.bucket, self.prefix + name, offset=start, length=end - start)
        try:
            yield from answer.stream(CHUNK_BYTES, decode_content=False)
        finally:
            answer.close()
            answer.release_conn()

    # Single objects

    def _read(self, name: str) -> bytes | None:
        """A small object; ``None`` where there is none."""
        from minio.error import S3Error

        try:
            return self._again(lambda: b"".join(self._streamed(name)))
        except S3Error as error:
            if error.code in ABSENT:
                return None
            raise

    def _write(self, name: str, data: bytes, digest: str | None = None, once: bool = False) -> None:
        """Write a small object as a whole; ``once`` where there is none, whoever else is writing it now."""
        from minio.error import S3Error

        headers: Any = {"Content-Type": "application/octet-stream"}
        headers |= {DIGEST_HEADER: digest} if digest else {}
        headers |= {"If-None-Match": "*"} if once else {}
        try:
            self._again(lambda: self._client._put_object(self.bucket, self.prefix + name, data, dict(headers)))
        except S3Error as error:
            if not (once and error.code == "PreconditionFailed"):
                raise

    def _remove(self, name: str) -> None:
        self._again(lambda: self._client.remove_object(self.bucket, self.prefix + name))

    def _listed(self, prefix: str) -> Iterator[Stored]:
        for found in self._client.list_objects(self.bucket, self.prefix + prefix, recursive=True):
            yield Stored(str(found.object_name).removeprefix(self.prefix), found.size or 0)

    # Faults

    def _again(self, work: Callable[[], T]) -> T:
        """The result of a piece of work, which is tried again after faults that may pass."""
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        for pause_s in PAUSES_S:
            try:
                return work()
            except (MinioException, HTTPError) as error:
                if not _may_pass(error):
                    raise
                time.sleep(pause_s)
        return work()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what libraries raise into one sentence."""
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (MinioException, HTTPError) as error:
            raise UserError(self._sentence(error)) from error
        except OSError as error:
            why = "its disk is full" if disk_is_full(error) else f"{error.strerror}: {error.filename}"
            raise UserError(
                f"{self.cache.place} cannot be used ({why}): mend that, or set SELFLOOP_CACHE to another folder."
            ) from error

    def _sentence(self, error: Exception) -> str:
        from minio.error import S3Error

        reason = getattr(error, "reason", error)
        code = error.code or "" if isinstance(error, S3Error) else type(reason).__name__
        remedy = REMEDIES.get(SAME.get(code, code))
        if remedy is None:
            remedy = OTHERS if isinstance(error, S3Error) else UNREACHABLE
        why = str(getattr(error, "message", None) or reason).rpartition(": ")[2].strip()
        return remedy.format(endpoint=self.endpoint, bucket=self.bucket, uri=self.uri, again=AGAIN, code=code, why=why)


def _same(found: str, digest: str, path: Path) -> None:
    if found != digest:
        raise UserError(f"{path} was altered after it was sealed: remove {path.parent} and make it again.")


def _altered(what: str, artifact: str) -> str:
    return f"{what} is not what was put there (its digest differs): delete {artifact} and put the artifact again."


def _leads_astray(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), (UNFINISHED,), (MANIFEST,))


def _may_pass(error: Exception) -> bool:
    """Whether a fault may be gone at the next attempt: one on the way, or one inside the server."""
    from urllib3.exceptions import HTTPError

    if isinstance(error, HTTPError) or getattr(error, "code", None) in PASSING:
        return True
    status = getattr(getattr(error, "response", None), "status", None)
    return int(status or getattr(error, "status_code", None) or getattr(error, "_code", None) or 0) >= 500


class _Transfers:
    """Threads for files, and threads for their parts: those of files wait for those of parts, never the other way."""

    def __init__(self) -> None:
        self._files, self._parts = ThreadPoolExecutor(PARALLEL), ThreadPoolExecutor(PARALLEL)
        self._waiting: set[Future[Any]] = set()

    def files(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Do it for all files. The first error ends it all."""
        _finish([self._files.submit(task) for task in tasks])

    @contextmanager
    def parts(self, tasks: Iterable[Callable[[], T]]) -> Iterator[list[Future[T]]]:
        """Do it for the parts of a file during a block; after it none of them is under way."""
        futures: list[Future[T]] = []
        try:
            for task in tasks:  # one by one: they are waited for even where the next is not taken
                futures.append(self._parts.submit(task))
                self._waiting.add(futures[-1])
            yield futures
            _finish(futures)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
            self._waiting.difference_update(futures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.shutdown(wait=False, cancel_futures=True)
        self._parts.shutdown(wait=False)
        for future in list(self._waiting):  # cancel_futures would leave them waiting for each other
            future.cancel()
        self._files.shutdown()
        self._parts.shutdown()


def _finish(futures: list[Future[T]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


class _Ranges:
    """A file that comes in ranges, and beside it the list of those that are here: so a download can go on."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._list = path.with_name(f"{path.name}.ranges")

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Its descriptor, for ``os.pwrite``."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.truncate(descriptor, self.size)
            yield descriptor
        finally:
            os.close(descriptor)

    def missing(self) -> list[int]:
        """Where the ranges begin that are not here yet."""
        here = set(self._list.read_text().split()) if self._list.exists() else set[str]()
        return [start for start in range(0, self.size, PART_BYTES) if str(start) not in here]

    def note(self, start: int) -> None:
        """Note that a range is here."""
        with self._list.open("a") as file:
            file.write(f"{start}\n")

    def remove(self) -> None:
        """Begin anew."""
        self._list.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Cache:
    """Artifacts that were fetched, for all processes of a machine, up to a number of bytes.

    What a process has got it holds until it ends or closes the cache, and what is held is never removed, even where
    that is more than the limit. Otherwise the artifacts go first that were last got longest ago.
    """

    def __init__(self, place: Path, limit_bytes: int = CACHE_BYTES) -> None:
        self.place, self.limit_bytes = place, limit_bytes
        self._held: dict[str, int] = {}

    @classmethod
    def of_machine(cls) -> Self:
        """The cache that the environment names: ``SELFLOOP_CACHE`` and ``SELFLOOP_CACHE_BYTES``."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        place = Path(os.environ.get("SELFLOOP_CACHE") or Path(home, "selfloop")).expanduser()
        limit = os.environ.get("SELFLOOP_CACHE_BYTES") or str(CACHE_BYTES)
        if not limit.isdecimal():
            raise UserError(f"SELFLOOP_CACHE_BYTES is '{limit}': give a whole number of bytes.")
        return cls(place.absolute(), int(limit))

    def get(self, key: str, fetch: Callable[[Path], None]) -> Path:
        """An artifact's directory, held from now on; ``fetch`` fills it, or goes on with it, and verifies."""
        self.place.mkdir(parents=True, exist_ok=True)
        fetched = False
        while not (key in self._held or self._hold(key, fetched)):
            self._fill(key, fetch)
            fetched = True
        os.utime(self.place / key)
        return self.place / key

    def make_room(self, needed_bytes: int, key: str) -> None:
        """Remove what was last got longest ago, until there is room for an artifact."""
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path in self.place.iterdir():
            name = path.name.removeprefix(".").removesuffix(".partial")
            if KEY.fullmatch(name) and name != key and path.is_dir():
                sizes[name] = sizes.get(name, 0) + _bytes_in(path)
                with suppress(FileNotFoundError):
                    used[name] = max(used.get(name, 0.0), path.stat().st_mtime)
        excess = sum(sizes.values()) + needed_bytes - self.limit_bytes
        for name in sorted(used, key=used.__getitem__):
            if excess <= 0:
                break
            if self.remove(name):
                excess -= sizes[name]

    def remove(self, key: str) -> bool:
        """Remove an artifact that nobody holds. Returns whether nobody did."""
        try:
            lock = _lock(self._lock_of(key), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            (self.place / key / MANIFEST).unlink(missing_ok=True)
            for name in (key, f".{key}.partial"):
                shutil.rmtree(self.place / name, ignore_errors=True)
            self._lock_of(key).unlink()
        finally:
            os.close(lock)
        return True

    def close(self) -> None:
        """Let go of what is held."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _lock_of(self, key: str) -> Path:
        return self.place / f".{key}.lock"

    def _hold(self, key: str, verified: bool) -> bool:
        """Hold an artifact that is here and is what was fetched. What is not goes, unless somebody else holds it."""
        lock = _lock(self._lock_of(key), fcntl.LOCK_SH)
        try:
            if not (self.place / key / MANIFEST).is_file():
                os.close(lock)
                return False
            if not verified:
                check(self.place / key)
        except UserError:
            os.close(lock)
            if not self.remove(key):
                raise
            return False
        self._held[key] = lock
        return True

    def _fill(self, key: str, fetch: Callable[[Path], None]) -> None:
        place, unfinished = self.place / key, self.place / f".{key}.partial"
        with _locked(self._lock_of(key)):
            if (place / MANIFEST).is_file():
                return
            unfinished.mkdir(exist_ok=True)
            fetch(unfinished)
            shutil.rmtree(unfinished / UNFINISHED, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            os.rename(unfinished, place)
        self.make_room(_bytes_in(place), key)


def _lock(path: Path, how: int) -> int:
    """The descriptor of a lock file, once it is locked and still has this name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, how)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only one in this block, among all processes; the lock file goes at its end."""
    descriptor = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _bytes_in(directory: Path) -> int:
    """The bytes of a folder's files; others may be removing some."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _endpoint() -> str:
    """The server's address."""
    for name in ENDPOINTS:
        given = os.environ.get(name)
        if given:
            parts = urlsplit(given)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
                raise UserError(f"{name} is no address of a server: give one such as https://host:9000.")
            return f"{parts.scheme}://{parts.netloc}"
    return "https://s3.amazonaws.com"


def _client(endpoint: str) -> Minio:
    """A client with the credentials that the environment, ``~/.aws/credentials`` or the machine's role has."""
    from minio import Minio

    parts = urlsplit(endpoint)
    amazon = parts.netloc.endswith("amazonaws.com")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or (None if amazon else "us-east-1")
    return Minio(
        parts.netloc,
        secure=parts.scheme == "https",
        region=region,
        credentials=_credentials(endpoint),
        http_client=_connections(),
    )


def _credentials(endpoint: str) -> Provider:
    from configparser import Error

    from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider
    from urllib3 import PoolManager
    from urllib3.exceptions import HTTPError

    known: list[Provider] = [EnvAWSProvider(), AWSConfigProvider()]
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        known.append(IamAwsProvider(http_client=PoolManager(timeout=2.0, retries=False)))
    provider = ChainedProvider(known)
    try:
        provider.retrieve()
    except (ValueError, HTTPError, Error):
        raise UserError(
            f"There are no credentials for {endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them "
            "to ~/.aws/credentials."
        ) from None
    return provider


def _connections() -> PoolManager:
    """Connections that are given up when nothing moves, however long a whole part takes on a slow link."""
    from certifi import where
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Patient:
        def send(self, data: Any) -> None:
            whole = memoryview(data) if isinstance(data, bytes) else data
            for start in range(0, len(whole), CHUNK_BYTES):  # the socket's timeout counts for each call anew
                super().send(whole[start : start + CHUNK_BYTES])  # type: ignore[misc]

    plain = type("PatientConnection", (Patient, HTTPConnection), {})
    secure = type("PatientSecureConnection", (Patient, HTTPSConnection), {})
    connections = PoolManager(
        timeout=Timeout(connect=15.0, read=60.0),
        maxsize=2 * PARALLEL,
        retries=Retry(total=5, connect=3, backoff_factor=BACKOFF_S, status_forcelist=(500, 502, 503, 504)),
        ca_certs=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or where(),
    )
    connections.pool_classes_by_scheme = {
        "http": type("PatientPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("PatientSecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return connections
