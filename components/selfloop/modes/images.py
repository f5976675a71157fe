"""The images of stages, by digest where their registry answers: what is compiled today is what runs tomorrow.

A prefix that names no registry (``selfloop``) stands for images that the nodes have: nobody is asked. Credentials are
those of Docker's configuration, as ``docker login`` left them, with its credential helpers.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from requests import RequestException

from selfloop.profiles import Profile

log = logging.getLogger(__name__)
SECONDS = 5.0
"""How long a registry may take to answer."""
HUB = "docker.io"
LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")


def references(profile: Profile, images: Iterable[str]) -> dict[str, str]:
    """The reference of each image as a profile has it, with the digest in place of the tag where it can be had."""
    tagged = {image: f"{profile.registry.prefix}/{image}:{profile.registry.tag}" for image in images}
    pinned = resolved(tagged.values())
    return {image: pinned[reference] for image, reference in tagged.items()}


def resolved(tagged: Iterable[str]) -> dict[str, str]:
    """References by digest for references by tag. Those whose registry does not say stay, and one warning says so.

    A registry that did not answer at all is not asked again.
    """
    found: dict[str, str] = {}
    silent: dict[str, str] = {}
    failed: dict[str, str] = {}
    for reference in tagged:
        host, repository, tag = parted(reference)
        found[reference] = reference
        if not host or "@" in reference:
            continue
        if host in silent:
            failed[reference] = silent[host]
            continue
        try:
            found[reference] = f"{host}/{repository}@{_digest(host, repository, tag)}"
        except (RequestException, UnansweredError) as error:
            failed[reference] = _why(error)
            if getattr(error, "response", None) is None:
                silent[host] = failed[reference]
    if failed:
        reasons = "; ".join(dict.fromkeys(failed.values()))
        log.warning("%s: no digest, so the tag stays and its image may change: %s.", ", ".join(failed), reasons)
    return found


def parted(reference: str) -> tuple[str, str, str]:
    """Registry, repository and tag of a reference; the registry is empty where the reference names none."""
    host, slash, rest = reference.partition("/")
    if not slash or not (re.search(r"[.:]", host) or host == "localhost"):
        host, rest = "", reference
    repository, _, tag = rest.partition(":")
    return host, repository, tag or "latest"


class UnansweredError(Exception):
    """The registry does not say what was asked."""


def _digest(host: str, repository: str, tag: str) -> str:
    from dxf import DXF
    from dxf.exceptions import DXFError

    authorization = credentials(host)

    def log_in(registry: Any, response: Any) -> None:
        try:
            registry.authenticate(authorization=authorization, response=response)
        except (KeyError, TypeError, ValueError) as error:  # what the library makes of a header that is none
            raise UnansweredError(f"{host} asks for a login in a way that is not understood") from error

    where = "registry-1.docker.io" if host == HUB else host
    local = LOCAL.fullmatch(host) is not None
    # requests itself heeds REQUESTS_CA_BUNDLE
    authorities = True if os.environ.get("REQUESTS_CA_BUNDLE") else os.environ.get("SSL_CERT_FILE") or True
    registry = DXF(where, repository, log_in, insecure=local, tlsverify=authorities, timeout=SECONDS)
    try:
        digest, _ = registry.head_manifest_and_response(tag)
    except DXFError as error:
        raise UnansweredError(f"{host} does not let one read {repository} without a login ({error})") from None
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest or ""):
        raise UnansweredError(f"{host} tells no digest")
    return str(digest)


def credentials(host: str) -> str | None:
    """What Docker's configuration has for a registry, as an ``Authorization`` header; nothing for an anonymous one."""
    key = "https://index.docker.io/v1/" if host == HUB else host
    config = _docker_configuration()
    helper = config.get("credHelpers", {}).get(key) or config.get("credsStore")
    kept = config.get("auths", {}).get(key, {}).get("auth")
    if kept:
        return f"Basic {kept}"
    return _from_helper(helper, key) if helper else None


def _docker_configuration() -> Mapping[str, Any]:
    place = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        read = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _from_helper(helper: str, key: str) -> str | None:
    """What a credential helper of Docker's knows."""
    try:
        command = [f"docker-credential-{helper}", "get"]
        asked = subprocess.run(command, input=key, capture_output=True, text=True, check=True, timeout=SECONDS)
        known = json.loads(asked.stdout)
        both = f"{known['Username']}:{known['Secret']}"
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
    return "Basic " + base64.b64encode(both.encode()).decode()


def _why(error: Exception) -> str:
    """Why a registry gave no digest, without what was sent to it."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"its registry answered {response.status_code} {response.reason}"
    if isinstance(error, UnansweredError):
        return str(error)
    return f"its registry does not answer ({type(error).__name__})"
