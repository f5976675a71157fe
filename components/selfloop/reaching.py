"""Whether a server answers at all, found out soon: what speaks to it would try for minutes."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLError
from threading import Thread
from urllib.parse import urlsplit

ANSWER_S = 10.0
"""Seconds in which a server must answer."""
KINDS = {"http": HTTPConnection, "https": HTTPSConnection}


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


def answers(url: str) -> None:
    """Ask the server of an address for anything, without credentials: whatever it says, it answers. Raises ``OSError``
    where it does not soon, ``ValueError`` for what is no address.
    """
    parts = urlsplit(url)
    kind, host, port = KINDS[parts.scheme], parts.hostname or "", parts.port
    within(lambda: _ask(kind(host, port, timeout=ANSWER_S)))


def _ask(connection: HTTPConnection) -> None:
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (SSLError, HTTPException):
        pass  # what it says, and whether it is to be trusted, is for its client
    finally:
        connection.close()


def hangs(url: str) -> bool:
    """Whether a server leaves who asks it without an answer; what else is wrong, its client says or bears with."""
    try:
        answers(url)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False
