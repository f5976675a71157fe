"""Python code that the maker of a policy wrote, beside its weights: it runs where a person says so, and nowhere else.

A person says so on the command line, with ``--trust-code`` and the digest of the code. Nothing that lies in a policy,
in a setting or in a registry can say it, and code that has changed is other code. Whatever reads a policy does it with
``reading``, which asks here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfloop.artifacts import file_digest
from selfloop.errors import UserError

TRUSTED = "SELFLOOP_TRUSTED_CODE"
"""The environment variable with the digests of trusted code, by which the processes of one command hear of them."""
CODE = "*.py"
KERNELS = ("attn_implementation", "experts_implementation")
"""Keys under which a configuration may name code of the Hub, as ``owner/name``."""


def trust(digests: Sequence[str]) -> Sequence[str]:
    """Let this process, and those that it starts, run the code with these digests, and no other."""
    for digest in digests:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise UserError(
                f"--trust-code takes the 64 hex digits with which a policy's code is refused, not '{digest}'."
            )
    os.environ.pop(TRUSTED, None)
    if digests:
        os.environ[TRUSTED] = ",".join(digests)
    return digests


def trusted() -> list[str]:
    """The digests of the code that a person trusts in this command."""
    return list(filter(None, os.environ.get(TRUSTED, "").split(",")))


def reading(place: str | Path) -> dict[str, bool]:
    """How a library is to read a policy: from this machine, and with its maker's code where that is trusted.

    Raises ``UserError`` for code that is not.
    """
    check_code(place)
    return {"local_files_only": True, "trust_remote_code": bool(asking(place))}


def check_code(place: str | Path) -> None:
    """Refuse a policy with code that no person trusts: ``UserError`` says which, and its digest."""
    for name, words in _named_code(Path(place)):
        elsewhere = next((word for word in words if "/" in word or "--" in word), "")
        if elsewhere:
            raise UserError(
                f"{Path(place, name)} runs Python code from another place ({elsewhere[:80]!a}), which nobody can "
                "have read: put that code into the policy's folder, and name it there."
            )
        if not code_files(place):
            raise UserError(f"{Path(place, name)} runs Python code that is not there: copy the policy again, whole.")
        if code_digest(place) not in trusted():
            raise UserError(
                f"{place} runs Python code of its maker's own ({name} has an auto_map): read its {CODE} files, and add "
                f"--trust-code {code_digest(place)} to the command if you trust them."
            )


def asking(place: str | Path) -> list[str]:
    """The files of a policy that ask for Python code of its maker's to be run."""
    return [name for name, _ in _named_code(Path(place))]


def code_files(place: str | Path) -> list[str]:
    """The Python files of a policy, by their names below its folder."""
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob(CODE))


def code_digest(place: str | Path) -> str:
    """SHA-256 over the names and digests of a policy's Python files."""
    named = "".join(f"{name}\0{file_digest(Path(place, name))}\n" for name in code_files(place))
    return hashlib.sha256(named.encode()).hexdigest()


def described(path: Path) -> dict[str, Any]:
    """What a file of a policy says. Raises ``UserError`` where it is no JSON object."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): copy it again.") from None
    if not isinstance(said, dict):
        raise UserError(f"{path} holds no JSON object: copy it again.")
    return said


def _named_code(place: Path) -> Iterator[tuple[str, list[str]]]:
    """The configurations that name code, and how."""
    for path in sorted(place.glob("*config*.json")):
        if words := list(_code_in(described(path))):
            yield path.name, words


def _code_in(value: Any) -> Iterator[str]:
    """The names of code anywhere in a configuration."""
    if isinstance(value, list):
        for item in value:
            yield from _code_in(item)
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key == "auto_map":
            yield from _texts(inner) or [key]
        elif key.lstrip("_").removesuffix("_internal") in KERNELS:
            yield from (text for text in _texts(inner) if "/" in text)
        else:
            yield from _code_in(inner)


def _texts(value: Any) -> list[str]:
    """All texts in a value."""
    if isinstance(value, dict | list):
        return [text for inner in (value.values() if isinstance(value, dict) else value) for text in _texts(inner)]
    return [value] if isinstance(value, str) else []
