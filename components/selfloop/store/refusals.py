"""What a server refuses: what may pass is tried again, what lasts is said in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from selfloop.store.contract import AGAIN

PAUSES_S = (0.5, 4.0)
ABSENT = ("NoSuchKey", "NoSuchObject")

REMEDIES = {
    "NoSuchBucket": "There is no bucket '{bucket}' at {endpoint}: create it, or correct {uri}.",
    "InvalidAccessKeyId": "{endpoint} does not know the access key (any more): correct AWS_ACCESS_KEY_ID and {again}.",
    "SignatureDoesNotMatch": "{endpoint} refuses the secret key: correct AWS_SECRET_ACCESS_KEY and {again}.",
    "AccessDenied": "The credentials do not reach {uri}: ask for the right to read and write there, or renew them, and "
    "{again}.",
    "ExpiredToken": "The credentials for {endpoint} have expired: renew them and {again}.",
    "RequestTimeTooSkewed": "This machine's clock is too far from that of {endpoint}: set it and {again}.",
    "QuotaExceeded": "The bucket '{bucket}' is full: free some space or raise its quota, and {again}.",
    "BadDigest": "What was sent to {endpoint} arrived damaged, again and again: check the network and {again}.",
    "ResponseError": "{endpoint} is out of order ({why}): wait until it is well again, and {again}.",
}
"""One sentence for each refusal that a person can mend, by the code of the server."""
OTHERS = "{endpoint} refuses {uri} ({code}: {why}): ask who runs it, and {again}."
SILENT = "it takes connections and gives no answer"
UNREACHABLE = "{endpoint} cannot be reached ({why}): check the network and AWS_ENDPOINT_URL_S3, and {again}."
SAME = {
    "XAmzContentSHA256Mismatch": "BadDigest",
    "InvalidDigest": "BadDigest",
    "InternalError": "ResponseError",
    "ServiceUnavailable": "ResponseError",
    "SlowDown": "ResponseError",
    "ServerError": "ResponseError",
    "InvalidResponseError": "ResponseError",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidToken": "ExpiredToken",
    "InsufficientStorage": "QuotaExceeded",
    "InsufficientCapacity": "QuotaExceeded",
    "XMinioStorageFull": "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded": "QuotaExceeded",
}
PASSING = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "InvalidDigest",
    "InvalidPart",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
"""What a server says of a fault on the way, and of what another writer does to the same object just now."""

T = TypeVar("T")


@contextmanager
def allowing(*codes: str) -> Iterator[None]:
    """Continue after the block where a server refuses it for one of these reasons."""
    try:
        yield
    except S3Error as error:
        if error.code not in codes:
            raise


def again(work: Callable[[], T]) -> T:
    """The result of a piece of work, which is tried again after faults that may pass."""
    for pause_s in PAUSES_S:
        try:
            return work()
        except (MinioException, HTTPError) as error:
            if not may_pass(error):
                raise
            time.sleep(pause_s)
    return work()


def may_pass(error: Exception) -> bool:
    """Whether a fault may be gone at the next attempt: one on the way, or one inside the server."""
    if isinstance(error, HTTPError) or getattr(error, "code", None) in PASSING:
        return True
    status = getattr(getattr(error, "response", None), "status", None)
    return int(status or getattr(error, "status_code", None) or getattr(error, "_code", None) or 0) >= 500


def sentence(error: Exception, endpoint: str, bucket: str, uri: str) -> str:
    """What went wrong and how to mend it."""
    reason = getattr(error, "reason", error)
    code = error.code or "" if isinstance(error, S3Error) else type(reason).__name__
    remedy = REMEDIES.get(SAME.get(code, code)) or (OTHERS if isinstance(error, S3Error) else UNREACHABLE)
    why = str(getattr(error, "message", None) or reason).rpartition(": ")[2].strip()
    return remedy.format(endpoint=endpoint, bucket=bucket, uri=uri, again=AGAIN, code=code, why=why)
