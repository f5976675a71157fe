"""What the doctor looks at, and what it says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from urllib3.exceptions import HTTPError

from selfloop.cluster.access import Access, said
from selfloop.errors import UserError
from selfloop.profiles import Profile

T = TypeVar("T")
ABSENT = "is not there"
SOON_S = (3.0, 5.0)
"""To connect, and for an answer to begin: an API that is slow is a finding."""


class Finding(NamedTuple):
    """What was looked at, what was found, and how to mend it. Unseen: it cannot be looked at from here."""

    state: Literal["well", "bad", "unseen"]
    subject: str
    found: str
    remedy: str = ""


def well(subject: str, found: str) -> Finding:
    """All is as it should be."""
    return Finding("well", subject, found)


def bad(subject: str, found: str, remedy: str) -> Finding:
    """A loop would not run."""
    return Finding("bad", subject, found, remedy)


def unseen(subject: str, found: str, remedy: str = "") -> Finding:
    """It cannot be looked at from here, which is no fault."""
    return Finding("unseen", subject, found, remedy)


@dataclass(frozen=True)
class Case:
    """What is looked at: a namespace, a profile, and the addresses that were given; empty where none was.

    ``profile`` is a ``selfloop.profiles.Profile``; ``trouble`` says why there is no ``access``.
    """

    namespace: str
    profile: Profile
    kfp: str
    tracking_uri: str
    store: str
    is_in_pod: bool
    access: Access | None
    trouble: str = ""

    @property
    def asked(self) -> Access:
        """The access to the Kubernetes API, for checks that are only made where there is one."""
        assert self.access is not None
        return self.access

    def here(self, name: str) -> str:
        """The command that does something in the namespace."""
        return f"kubectl -n {self.namespace} {name}"


Check = Callable[[Case], Iterator[Finding]]


class SettledError(Exception):
    """A check that came to its end early, with a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.found)
        self.finding = finding


@contextmanager
def looking(subject: str, absent: str, right: str) -> Iterator[None]:
    """Settle a check with what the Kubernetes API refuses: ``absent`` is the remedy where there is no such thing, and
    ``right`` what the account that asks must be allowed to.
    """
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise SettledError(_refused(subject, error, absent, right)) from None
    except HTTPError as error:
        found = f"the Kubernetes API does not answer ({reason(error)})"
        raise SettledError(bad(subject, found, "check the network and the kubeconfig")) from None


def _refused(subject: str, error: Any, absent: str, right: str) -> Finding:
    if error.status == 404:
        return bad(subject, ABSENT, absent)
    if error.status == 403:
        return unseen(subject, f"this account may not {right}", "ask somebody who may")
    remedy = "log in again, or renew the token" if error.status == 401 else "ask who runs the cluster"
    return bad(subject, f"the Kubernetes API says {said(error)}", remedy)


def reason(error: Exception) -> str:
    """Why there was no answer, in the system's words."""
    said = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
    return re.sub(r"\[Errno -?\d+\] ", "", said).strip()[:120] or type(error).__name__


def ask(method: Callable[..., T], *words: Any, **options: Any) -> T:
    """The answer to one request to the Kubernetes API, which is made once."""
    return method(*words, _request_timeout=SOON_S, **options)


def of_sentence(subject: str, error: UserError) -> Finding:
    """The finding that a sentence with a remedy makes."""
    found, _, remedy = str(error).rpartition(": ")
    return bad(subject, found, remedy.rstrip(".")) if found else bad(subject, remedy, "see what it says")
