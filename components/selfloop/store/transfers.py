"""Files sent and fetched in parallel parts; a transfer that broke off continues with what has arrived."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from minio.datatypes import Part
from urllib3.exceptions import HTTPError, ProtocolError

from selfloop.artifacts import file_digest
from selfloop.errors import UserError
from selfloop.store.connection import PARALLEL
from selfloop.store.contract import INDEX, INDEXED_BYTES
from selfloop.store.objects import Objects
from selfloop.store.refusals import again

PART_BYTES = 8 * 1024**2
MOST_PARTS = 10_000

T = TypeVar("T")


class Transfer(NamedTuple):
    """A file to send or to fetch: where it lies on this machine, its name in the store, its digest (none of a file that
    nobody sealed) and bytes.
    """

    path: Path
    name: str
    digest: str
    size: int


class Threads:
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


class Sender:
    """Sends files, whole or in parts, unless the store has their bytes. Where sending was ``begun``, it continues."""

    def __init__(self, objects: Objects, threads: Threads, begun: bool) -> None:
        self.objects, self.threads, self.begun = objects, threads, begun

    def send(self, file: Transfer) -> None:
        """Send a file. Raises ``UserError`` where it is not what was sealed."""
        if file.size < INDEXED_BYTES:
            self._send_whole(file)
            return
        noted = (self.objects.read(f"{INDEX}/{file.digest}") or b"").decode()
        if noted and noted != file.name and self._copied(noted, file):
            _verify(file, file_digest(file.path))
            return
        attempts = itertools.count(int(self.begun))
        again(lambda: self._upload(file, begun=next(attempts) > 0))
        if noted != file.name:
            self.objects.write(f"{INDEX}/{file.digest}", file.name.encode())

    def _send_whole(self, file: Transfer) -> None:
        data = file.path.read_bytes()
        _verify(file, hashlib.sha256(data).hexdigest())
        self.objects.write(file.name, data, file.digest)

    def _copied(self, source: str, file: Transfer) -> bool:
        return again(lambda: self.objects.holds(source, file.digest, file.size)) and self.objects.copy(
            source, file.name, file.digest
        )

    def _upload(self, file: Transfer, begun: bool) -> None:
        """Send a file in parts. Where it was ``begun``, by whomever, look what is there already."""
        if begun and self.objects.holds(file.name, file.digest, file.size):
            _verify(file, file_digest(file.path))
            return
        if file.size <= PART_BYTES:
            self._send_whole(file)
            return
        part_bytes = max(PART_BYTES, -(-file.size // MOST_PARTS))
        sizes = [min(part_bytes, file.size - start) for start in range(0, file.size, part_bytes)]
        known = self._unfinished(file.name, sizes) if begun else None
        upload, arrived = known or (self.objects.begin(file.name, file.digest), {})
        send = partial(self._send_part, file, upload, arrived, part_bytes)
        try:
            with self.threads.parts(partial(send, number) for number in range(1, len(sizes) + 1)) as parts:
                _verify(file, file_digest(file.path))
        except UserError:
            self.objects.abort(file.name, upload)
            raise
        self.objects.complete(file.name, upload, [part.result() for part in parts])

    def _unfinished(self, name: str, sizes: list[int]) -> tuple[str, dict[int, Part]] | None:
        """The upload of an object that broke off, and the parts of it that arrived, by number."""
        for found, upload in list(self.objects.uploads(name)):
            if found == name:
                arrived = {part.part_number: part for part in self.objects.parts(name, upload)}
                if all(number <= len(sizes) and part.size == sizes[number - 1] for number, part in arrived.items()):
                    return upload, arrived
                self.objects.abort(name, upload)
        return None

    def _send_part(self, file: Transfer, upload: str, arrived: dict[int, Part], part_bytes: int, number: int) -> Part:
        with file.path.open("rb") as opened:
            opened.seek((number - 1) * part_bytes)
            data = opened.read(part_bytes)
        known = arrived.get(number)
        if known and known.etag == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return known
        return self.objects.write_part(file.name, upload, number, data)


def _verify(file: Transfer, digest: str) -> None:
    if digest != file.digest:
        raise UserError(f"{file.path} was altered after it was sealed: remove {file.path.parent} and make it again.")


def fetch(objects: Objects, threads: Threads, file: Transfer, unfinished: Path) -> bool:
    """Fetch a file by way of a folder for what is unfinished. Returns whether it is what was put."""
    if file.path.exists():  # it was verified before it got this name
        return True
    ranges = _Ranges(unfinished / hashlib.sha256(file.name.encode()).hexdigest(), file.size)
    for _ in range(2):
        with ranges.opened() as descriptor:
            take = partial(_fetch_range, objects, file.name, ranges, descriptor)
            with threads.parts(partial(take, start) for start in ranges.missing()):
                pass
        if file.digest in ("", file_digest(ranges.path)):
            file.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(ranges.path, file.path)
            return True
        ranges.remove()
    return False


class _Ranges:
    """A file that comes in ranges, and beside it the list of those that are here: so a download can continue."""

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


def _fetch_range(objects: Objects, name: str, ranges: _Ranges, descriptor: int, start: int) -> None:
    at, end = start, min(start + PART_BYTES, ranges.size)

    def resume() -> None:
        nonlocal at
        before = at
        try:
            for chunk in objects.stream(name, at, end):
                os.pwrite(descriptor, chunk[: end - at], at)
                at += len(chunk)
        except HTTPError:
            if at == before:  # otherwise the next attempt continues from here, however many it takes
                raise
        if at == before:
            raise ProtocolError(f"{name} came without its bytes")

    while at < end:
        again(resume)
    ranges.note(start)
