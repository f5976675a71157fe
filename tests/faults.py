"""A small HTTP proxy that breaks what passes through it, and counts it.

It stands before an S3 server; clients take its address for the server's, and sign for it. Each fault names the requests
that it strikes and how often::

    with proxied(server.port) as proxy:
        proxy.faults.append(Fault("reset", method="PUT", after_bytes=100_000, times=2))
        ...
        assert proxy.sent("PUT") < 2 * size
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedIOBase
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Literal

BLOCK_BYTES = 16 * 1024
ALWAYS = 10**9


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a method and a path (a pattern), after the first ``skip`` of them.

    reset: the connection is reset once that many bytes of the request's body have passed. answer: the proxy answers
    itself. cut: the connection ends once that many bytes of the answer's body have passed. spoil request, spoil
    answer: the byte there is another one when it arrives. lose answer: the server does it, and nobody hears of it.
    """

    kind: Literal["reset", "answer", "cut", "spoil request", "spoil answer", "lose answer"]
    method: str = ".*"
    path: str = ".*"
    times: int = 1
    skip: int = 0
    after_bytes: int = 0
    status: int = 503
    code: str = "SlowDown"

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this request. Counts."""
        if not (self.times and re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Exchange:
    """A request that came by: the bytes of its body that were passed on so far, and those of the answer's."""

    method: str
    path: str
    headers: dict[str, str]
    passed: tuple[list[int], list[int]]

    @property
    def sent(self) -> int:
        return self.passed[0][0]

    @property
    def received(self) -> int:
        return self.passed[1][0]


class _BrokenError(Exception):
    """The connection ends here."""


@dataclass
class Proxy:
    """A running proxy. ``bytes_per_s`` slows all bodies together."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    bytes_per_s: float = float("inf")
    passed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sent(self, method: str = "PUT") -> int:
        """Bytes of bodies that were sent to the server by a method."""
        return sum(exchange.sent for exchange in list(self.exchanges) if exchange.method == method)

    def received(self) -> int:
        """Bytes of bodies that came from the server."""
        return sum(exchange.received for exchange in list(self.exchanges))

    def forget(self) -> None:
        """Count anew, without faults."""
        self.exchanges = []  # what is still under way counts for what was before
        self.faults.clear()
        self.bytes_per_s, self.passed = float("inf"), 0

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault that strikes a request."""
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(method, path)), None)

    def count(self, size: int) -> None:
        """Count bytes that pass, and hold them up on a slow link."""
        with self._lock:
            self.passed += size
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self.bytes_per_s
            pause = self._free_at - now
        time.sleep(pause)


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """Run a proxy before a server on this machine for the length of a block."""

    class Connection(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(_BrokenError, OSError), socket.create_connection(("127.0.0.1", port)) as upstream:
                _serve(proxy, self.connection, self.rfile, upstream)

    with ThreadingTCPServer(("127.0.0.1", 0), Connection) as listening:
        listening.daemon_threads = True
        proxy = Proxy(listening.server_address[1])
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listening.shutdown()


def _serve(proxy: Proxy, client: socket.socket, requests: BufferedIOBase, upstream: socket.socket) -> None:
    answers = upstream.makefile("rb")
    while True:
        first, headers, raw = _head(requests)
        method, path, _ = first.split(" ", 2)
        fault = proxy.strike(method, path)
        if fault and fault.kind == "answer":
            _discard(requests, int(headers.get("content-length", 0)))
            client.sendall(_answer(fault, method))
            continue
        sent, received = [0], [0]
        proxy.exchanges.append(Exchange(method, path, headers, (sent, received)))
        upstream.sendall(raw)
        size = int(headers.get("content-length", 0))
        _pass(proxy, requests, upstream, size, sent, fault, ("reset", "spoil request"), client)
        _pass_answer(proxy, answers, client, method, received, fault)


def _pass_answer(
    proxy: Proxy, answers: BufferedIOBase, client: socket.socket, method: str, received: list[int], fault: Fault | None
) -> None:
    first, headers, raw = _head(answers)
    if fault and fault.kind == "lose answer":
        raise _BrokenError
    while first.split(" ")[1] == "100":
        client.sendall(raw)
        first, headers, raw = _head(answers)
    client.sendall(raw)
    if method == "HEAD" or first.split(" ")[1] in ("204", "304"):
        return
    if headers.get("transfer-encoding", "").lower() == "chunked":
        _pass_chunks(proxy, answers, client, received)
    else:
        size = int(headers.get("content-length", 0))
        _pass(proxy, answers, client, size, received, fault, ("cut", "spoil answer"), client)


def _pass_chunks(proxy: Proxy, answers: BufferedIOBase, client: socket.socket, received: list[int]) -> None:
    size = -1
    while size:
        line = answers.readline()
        size = int(line.split(b";")[0], 16)
        client.sendall(line + answers.read(size + 2))
        received[0] += size
        proxy.count(size)


def _pass(
    proxy: Proxy,
    source: BufferedIOBase,
    target: socket.socket,
    size: int,
    passed: list[int],
    fault: Fault | None,
    kinds: tuple[str, str],
    client: socket.socket,
) -> None:
    """Pass a body on. ``kinds`` are the faults of this direction: one that ends it, and one that spoils it."""
    struck = fault if fault and fault.kind in kinds else None
    while passed[0] < size:
        most = min(BLOCK_BYTES, size - passed[0])
        if struck and struck.kind == kinds[0]:
            most = min(most, struck.after_bytes - passed[0])
            if not most:
                _break(client, hard=struck.kind == "reset")
        block = source.read(most)
        if not block:
            raise _BrokenError
        if struck and struck.kind == kinds[1] and passed[0] <= struck.after_bytes < passed[0] + len(block):
            at = struck.after_bytes - passed[0]
            block = block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
        proxy.count(len(block))
        target.sendall(block)
        passed[0] += len(block)


def _break(client: socket.socket, hard: bool) -> None:
    if hard:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise _BrokenError


def _head(source: BufferedIOBase) -> tuple[str, dict[str, str], bytes]:
    """The first line, the headers and all their bytes, of a request or an answer."""
    raw = first = source.readline()
    headers: dict[str, str] = {}
    while True:
        line = source.readline()
        if not line:
            raise _BrokenError
        raw += line
        if line == b"\r\n":
            return first.decode().rstrip(), headers, raw
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()


def _discard(source: BufferedIOBase, size: int) -> None:
    while size:
        block = source.read(min(BLOCK_BYTES, size))
        if not block:
            raise _BrokenError
        size -= len(block)


def _answer(fault: Fault, method: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>planted</Message></Error>".encode()
    head = f"HTTP/1.1 {fault.status} Planted\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)
