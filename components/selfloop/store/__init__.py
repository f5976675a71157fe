"""Artifacts by digest, in a directory or on any S3: sent and fetched in parallel, resumed, verified, whole or absent.

A store holds a folder for each artifact, under the digest of its files, and beside these folders the names of files by
their own digest::

    <store>/<key>/config.json
    <store>/<key>/model-00001-of-00002.safetensors
    <store>/<key>/manifest.json                        written last, once: from then on the artifact is there
    <store>/files/<sha256>                             names a <key>/<file> with these bytes: they are not sent again
    <store>/notes/<name>                               a small text

The sidecar, which no digest covers, goes along where there is one. ``delete`` is for artifacts that nobody is putting.

On S3, files go in parts, and an upload that broke off continues from the parts that the server has. Credentials come
from the environment, ``~/.aws/credentials`` or the machine's role, the server's address from ``AWS_ENDPOINT_URL_S3``,
``AWS_ENDPOINT_URL`` or ``MLFLOW_S3_ENDPOINT_URL``. What is fetched lies in a cache that all processes of a machine
share: ``SELFLOOP_CACHE`` (``~/.cache/selfloop``), at most ``SELFLOOP_CACHE_BYTES`` (50 GB) and what is in use.

Reading order: ``contract``; ``directory`` and ``folders``; then ``s3``, which stands on ``transfers`` (files in
parallel parts), ``objects`` (single requests), ``connection``, ``refusals`` (what a server says) and ``cache``.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from selfloop.addresses import check_address
from selfloop.errors import UserError
from selfloop.store.contract import AGAIN, Store, is_key, key_of
from selfloop.store.directory import DirectoryStore

CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials"

__all__ = ["AGAIN", "Store", "is_key", "key_of", "open_store"]


def open_store(uri: str) -> Store:
    """The store at ``s3://bucket/prefix``, at a ``file://`` URI or in a directory, which is made when it is used.

    Raises ``UserError`` for other places. Nothing is contacted before the store is used.
    """
    scheme, is_uri, rest = check_address(uri, CREDENTIALS).partition("://")
    if not is_uri and not uri.startswith("s3:"):
        return DirectoryStore(Path(uri).expanduser())
    if scheme == "file" and rest:
        return DirectoryStore(Path(unquote(urlsplit(uri).path)))
    if scheme == "s3" and is_uri:
        from selfloop.store.s3 import S3Store

        return S3Store(uri)
    raise UserError(f"{uri} is no place for artifacts: give a directory or s3://bucket/prefix.")
