"""The way to a server: its address, the credentials, and connections that bear a slow link."""

from __future__ import annotations

import os
from configparser import Error
from typing import Any
from urllib.parse import urlsplit

from certifi import where
from minio import Minio
from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider, Provider
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from selfloop.errors import UserError

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
CHUNK_BYTES = 256 * 1024
PARALLEL = 8
BACKOFF_S = 0.2


def endpoint_of_environment() -> str:
    """The server's address."""
    for name in ENDPOINTS:
        given = os.environ.get(name)
        if given:
            parts = urlsplit(given)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
                raise UserError(f"{name} is no address of a server: give one such as https://host:9000.")
            return f"{parts.scheme}://{parts.netloc}"
    return "https://s3.amazonaws.com"


def client_of(endpoint: str) -> Minio:
    """A client with the credentials that the environment, ``~/.aws/credentials`` or the machine's role has."""
    parts = urlsplit(endpoint)
    amazon = parts.netloc.endswith("amazonaws.com")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or (None if amazon else "us-east-1")
    return Minio(
        parts.netloc,
        secure=parts.scheme == "https",
        region=region,
        credentials=_credentials(endpoint),
        http_client=_connections(),
    )


def _credentials(endpoint: str) -> Provider:
    known: list[Provider] = [EnvAWSProvider(), AWSConfigProvider()]
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        known.append(IamAwsProvider(http_client=PoolManager(timeout=2.0, retries=False)))
    provider = ChainedProvider(known)
    try:
        provider.retrieve()
    except (ValueError, HTTPError, Error):
        raise UserError(
            f"There are no credentials for {endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them "
            "to ~/.aws/credentials."
        ) from None
    return provider


class _PlainConnection(HTTPConnection):
    """A connection that is given up when nothing moves, however long a whole part takes on a slow link."""

    def send(self, data: Any) -> None:
        whole = memoryview(data) if isinstance(data, bytes) else data
        for start in range(0, len(whole), CHUNK_BYTES):  # the socket's timeout counts for each call anew
            super().send(whole[start : start + CHUNK_BYTES])


class _SecureConnection(_PlainConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _connections() -> PoolManager:
    connections = PoolManager(
        timeout=Timeout(connect=15.0, read=60.0),
        maxsize=2 * PARALLEL,
        retries=Retry(total=5, connect=3, backoff_factor=BACKOFF_S, status_forcelist=(500, 502, 503, 504)),
        ca_certs=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or where(),
    )
    connections.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return connections
