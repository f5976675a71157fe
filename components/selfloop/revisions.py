"""What a name stands for that leads outside this machine: the version of a registry, the commit of the Hub, or what
lies below an address on S3.

Names stay while what they name changes: an alias moves, a repository gets another commit, files on S3 are written anew.
So what was made of it is kept by its revision (``identity``), and a policy of the Hub is fetched at that commit.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

VERSION = re.compile(r"models:/([^/@]+)[@/]([^/@]+)")
HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
DATASETS = "hf://datasets/"
"""What stands before the id of a data set of the Hub; an id alone is that of a model."""
SECONDS = 10
"""How long the Hub is waited for."""


def revision_of(name: str) -> str | None:
    """The revision that a name stands for now, as a digest or commit; none where nobody can tell.

    That is so without a registry and out of the Hub's reach, unless its cache knows a commit; for what is no such name;
    and for an artifact in a store, whose address has its digest. Raises ``UserError`` for a version or a bucket that is
    not there.
    """
    if found := VERSION.fullmatch(name):
        return _version(*found.groups())
    if name.startswith("s3://"):
        return _on_s3(name)
    repository = name.removeprefix(DATASETS)
    return commit_of(repository, "model" if repository == name else "dataset") if HUB.fullmatch(repository) else None


def _version(model: str, reference: str) -> str | None:
    from selfloop.lineage.registry import Registry
    from selfloop.lineage.tracking import is_on

    if not is_on():
        return None
    version = Registry(model).find(reference)
    return version.tag("digest") or hashlib.sha256(f"{model}\0{version.number}\0{version.source}".encode()).hexdigest()


def _on_s3(uri: str) -> str | None:
    from selfloop.store import is_key
    from selfloop.store.s3 import S3Store

    return None if is_key(uri.rstrip("/").rpartition("/")[2]) else S3Store(uri).revision()


@lru_cache(maxsize=64)
def commit_of(repository: str, kind: Literal["model", "dataset"]) -> str | None:
    """The commit that the Hub's main branch has, asked once in a process; without the Hub that of its cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    with suppress(Exception):  # whatever hinders it, whoever fetches from there says it
        commit = HfApi().repo_info(repository, repo_type=kind, timeout=SECONDS).sha
        if commit:
            return str(commit)
    head = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type=kind), "refs", "main")
    return head.read_text().strip() if head.is_file() else None
