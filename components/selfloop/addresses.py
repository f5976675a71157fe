"""Addresses: they hold no credentials, and credentials go only where nobody on the way reads them."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from selfloop.errors import UserError

WITHIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+\.svc(\.cluster\.local)?)?|ml-pipeline\.kubeflow")
"""The names of services that only the pods of a cluster reach."""


def check_address(uri: str, instead: str) -> str:
    """An address that may be kept and shown. Raises ``UserError``, which does not show it, where it names a user or a
    password; ``instead`` is where these belong.
    """
    place = uri.partition("://")[2].partition("/")[0]
    if "@" in place:
        shown = f"{uri.partition('://')[0]}://...@{place.rpartition('@')[2]}"
        raise UserError(f"{shown} holds credentials, which would be kept and shown: take them out, and {instead}.")
    return uri


def check_private(url: str, secret: str) -> None:
    """Refuse to send a secret, which is named, to an address where others read it on the way."""
    if not is_private(url):
        shown = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
        raise UserError(f"{shown} would be sent {secret} that everybody on the way reads: use https.")


def is_private(url: str) -> bool:
    """Whether what is sent to an address can be read there alone: by https, on this machine, or inside a cluster."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    if "KUBERNETES_SERVICE_HOST" in os.environ and WITHIN.fullmatch(host):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
