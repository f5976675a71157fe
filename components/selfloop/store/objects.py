"""Single requests to a server: objects that are read, written, copied and listed, and uploads in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import Part
from minio.error import ServerError

from selfloop.errors import UserError
from selfloop.reaching import hangs
from selfloop.store.connection import CHUNK_BYTES, client_of
from selfloop.store.contract import AGAIN
from selfloop.store.refusals import ABSENT, PASSING, SILENT, UNREACHABLE, again, allowing

DIGEST_HEADER = "x-amz-meta-sha256"


class Objects:
    """The objects of a bucket below a prefix; their names do without it."""

    def __init__(self, endpoint: str, bucket: str, prefix: str) -> None:
        self.endpoint, self.bucket, self.prefix = endpoint, bucket, prefix

    @cached_property
    def _client(self) -> Minio:
        if hangs(self.endpoint):
            raise UserError(UNREACHABLE.format(endpoint=self.endpoint, why=SILENT, again=AGAIN))
        return client_of(self.endpoint)

    def _at(self, name: str) -> tuple[str, str]:
        return self.bucket, self.prefix + name

    def read(self, name: str) -> bytes | None:
        """A small object; ``None`` where there is none."""
        with allowing(*ABSENT):
            return again(lambda: b"".join(self.stream(name)))
        return None

    def stream(self, name: str, start: int = 0, end: int = 0) -> Iterator[bytes]:
        """The bytes of an object, or of a range of it."""
        with self._answer(name, start, end - start) as answer:
            yield from answer.stream(CHUNK_BYTES, decode_content=False)

    def write(self, name: str, data: bytes, digest: str | None = None, once: bool = False) -> None:
        """Write a small object as a whole; ``once`` where there is none, whoever else is writing it now."""
        headers = {"Content-Type": "application/octet-stream"}
        headers |= {DIGEST_HEADER: digest} if digest else {}
        headers |= {"If-None-Match": "*"} if once else {}
        with allowing("PreconditionFailed") if once else nullcontext():
            again(lambda: self._client._put_object(*self._at(name), data, dict(headers)))

    def holds(self, name: str, digest: str, size: int) -> bool:
        """Whether an object holds a file already: it was written with its digest, and as a whole."""
        with allowing(*ABSENT), self._answer(name, 0, 1) as answer:  # a HEAD would not say why it is refused
            whole = answer.headers.get("content-range", "").rpartition("/")[2]
            return (answer.headers.get(DIGEST_HEADER), whole) == (digest, str(size))
        return False

    def copy(self, source: str, target: str, digest: str) -> bool:
        """Have the server copy an object. Returns whether it did."""
        with allowing(*ABSENT, *PASSING):
            self._client.copy_object(
                *self._at(target),
                CopySource(*self._at(source)),
                metadata={"sha256": digest},
                metadata_directive=REPLACE,
            )
            return True
        return False

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""
        again(lambda: self._client.remove_object(*self._at(name)))

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The names and bytes of objects."""
        for found in self._client.list_objects(*self._at(prefix), recursive=True):
            yield found.object_name.removeprefix(self.prefix), found.size or 0

    def etags(self) -> Iterator[tuple[str, str]]:
        """The names of all objects, and what the server calls the content of each."""
        for found in self._client.list_objects(*self._at(""), recursive=True):
            yield found.object_name.removeprefix(self.prefix), f"{found.etag} {found.size}"

    def begin(self, name: str, digest: str) -> str:
        """Begin an upload in parts. Returns its id."""
        return str(self._client._create_multipart_upload(*self._at(name), {DIGEST_HEADER: digest}))

    def write_part(self, name: str, upload: str, number: int, data: bytes) -> Part:
        """Send a part, counted from 1."""
        return Part(number, self._client._upload_part(*self._at(name), data, None, upload, number))

    def complete(self, name: str, upload: str, parts: list[Part]) -> None:
        """Make an object of the parts of an upload."""
        done = self._client._complete_multipart_upload(*self._at(name), upload, parts)
        if not done.etag:  # servers answer OK before they know
            raise ServerError(f"{name} was not completed", 500)

    def abort(self, name: str, upload: str) -> None:
        """Drop an upload and its parts."""
        with allowing("NoSuchUpload"):
            self._client._abort_multipart_upload(*self._at(name), upload)

    def uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The names and ids of uploads that nobody has completed."""
        more: dict[str, str | None] = {}
        while True:
            found = self._client._list_multipart_uploads(self.bucket, prefix=self.prefix + prefix, **more)
            for upload in found.uploads:
                yield upload.object_name.removeprefix(self.prefix), upload.upload_id
            if not found.is_truncated:
                return
            more = {"key_marker": found.next_key_marker, "upload_id_marker": found.next_upload_id_marker}

    def parts(self, name: str, upload: str) -> Iterator[Part]:
        """The parts of an upload that arrived."""
        marker = None
        while True:
            found = self._client._list_parts(*self._at(name), upload, part_number_marker=marker)
            yield from found.parts
            if not found.is_truncated:
                return
            marker = found.next_part_number_marker

    @contextmanager
    def _answer(self, name: str, offset: int, length: int) -> Iterator[Any]:
        answer = self._client.get_object(*self._at(name), offset=offset, length=length)
        try:
            yield answer
        finally:
            answer.close()
            answer.release_conn()
