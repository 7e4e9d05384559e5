"""Which errors of other people's clients (HTTP, storage, databases) may pass by themselves; none of them is imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_batch_provider.exceptions import BatchError, DiskFull, NotFound, Unavailable

# What libraries call the errors of an answer that did not come whole, or not yet; seen in httpx, httpx2, httpcore, aiohttp,
# urllib3, botocore, azure-core, google-auth, gcsfs, grpc, pymongo, redis and the providers' SDKs (their sources, 2026-11).
# `requests` raises OSErrors, and so do Python's own time-outs and broken sockets.
_NO_ANSWER = re.compile(
    r"Time(d)?out|Connect(ion|Timeout)?(Pool)?(Error|Closed|Reset|Refused|Aborted|Lost)|Network|Transport|ProtocolError"
    r"|ServerError|Unavailable|Throttl|TooManyRequests|SlowDown|RateLimit|MaxRetry|RetryError|AutoReconnect"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ServiceRe(quest|sponse)Error|ClientPayloadError|HTTPClientError|IncompleteRead"
)
# Request timeout, too early, too many requests.
_PASSING_STATUS = frozenset({408, 425, 429})
_SERVER_ERRORS = range(500, 600)


def is_passing(error: Exception) -> bool:
    """Tell whether a poll that met this error should simply be made again later."""
    if isinstance(error, ExceptionGroup):  # of tasks that ran side by side
        return all(map(is_passing, error.exceptions))
    if isinstance(error, BatchError):
        return isinstance(error, Unavailable | NotFound | DiskFull)
    status = _http_status(error)
    if status is not None:
        return status in _PASSING_STATUS or status in _SERVER_ERRORS
    names = (base.__name__ for base in type(error).__mro__)
    return isinstance(error, OSError) or any(_NO_ANSWER.search(name) for name in (*names, *_codes(error)))


def _http_status(error: Exception) -> int | None:
    """Return the status of the reply that a client's error is about, None when it is about none."""
    reply: Any = getattr(error, "response", None)
    for holder in (error, reply):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and status in range(100, 600):
                return int(status)
    told = reply.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(reply, Mapping) else None
    return told if isinstance(told, int) else None


def _codes(error: Exception) -> list[str]:
    """Return the word that botocore's `ClientError` or grpc's `RpcError` has for a refusal; none for any other error."""
    reply: Any = getattr(error, "response", None)
    if isinstance(reply, Mapping):
        return [str(reply.get("Error", {}).get("Code"))]
    code = getattr(error, "code", None)
    return [str(code())] if callable(code) else []
