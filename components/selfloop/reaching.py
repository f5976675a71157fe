"""Whether a server answers at all, found out soon: what speaks to it would try for minutes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Thread
from urllib.parse import urlsplit

ANSWER_S = 10.0
"""Seconds in which a server must answer, or at least take a connection."""
PORTS = {"http": 80, "https": 443}


def within(work: Callable[[], object], seconds: float = ANSWER_S) -> None:
    """Do some work that may hang. Raises what it raises, and ``TimeoutError`` where it takes longer."""
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if failed:
        raise failed[0]


def connect(url: str) -> None:
    """Connect to the server of an address. Raises ``OSError`` where it does not take the connection soon."""
    parts = urlsplit(url)
    place = parts.hostname or "", parts.port or PORTS[parts.scheme]
    within(lambda: socket.create_connection(place, ANSWER_S).close())
