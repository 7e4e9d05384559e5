"""Which errors of a stage's own HTTP client may pass by themselves, known by their names: none of them is imported here."""

from __future__ import annotations

from airflow_batch_provider.exceptions import NotFound, Unavailable

# Base classes of what httpx, httpx2, httpcore, aiohttp, urllib3, botocore and the providers' SDKs raise when no whole
# answer came (their references, 2026-11). `requests` raises OSErrors, and so do time-outs and broken sockets.
_NO_ANSWER = frozenset(
    {
        "TransportError",
        "TimeoutException",
        "NetworkError",
        "ProtocolError",
        "ClientConnectionError",
        "ClientPayloadError",
        "MaxRetryError",
        "NewConnectionError",
        "HTTPClientError",
        "APIConnectionError",
        "ServerError",
    }
)
# Request timeout, too early, too many requests.
_PASSING_STATUS = frozenset({408, 425, 429})
_FIRST_SERVER_ERROR = 500


def is_passing(error: Exception) -> bool:
    """Tell whether a poll that met this error should simply be made again later."""
    if isinstance(error, Unavailable | NotFound | OSError):
        return True
    if any(base.__name__ in _NO_ANSWER and base.__module__ != "builtins" for base in type(error).__mro__):
        return True
    status = _http_status(error)
    return status is not None and (status in _PASSING_STATUS or status >= _FIRST_SERVER_ERROR)


def _http_status(error: Exception) -> int | None:
    """Return the status of the reply that an HTTP client's error is about, None when it is about none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            status = getattr(holder, name, None)
            if isinstance(status, int):
                return status
    return None
