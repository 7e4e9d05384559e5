"""What went wrong in a call, as the error that says what the reader can do: a refusal, no answer, an unreadable one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound, Paused, Rejected, Unavailable
from airflow_batch_provider.providers.http import TooMuchError
from airflow_batch_provider.providers.untrusted import one_line, read_object

# Raised before the request went out, so the provider did nothing.
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Unreadable(Unavailable):
    """A passing fault: the reply cannot be read; the call may have taken effect."""


def read_reply(body: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object of a reply.

    Raises:
        Unreadable: it is not one, e.g. the page of a proxy.
    """
    try:
        return read_object(body)
    except Rejected as error:
        raise Unreadable(f"{what} got a reply that cannot be read: {error}") from None


@dataclass(frozen=True)
class Fault:
    """A refusing reply, in HTTP's terms.

    Attributes:
        message: the provider's words, of any length.
        code: the provider's own word for it.
        pauses: True when the word means that money or quota is used up.
        key: the account's key, which is masked wherever the provider quotes it.
    """

    provider: str
    http_status: int
    message: str
    code: str | None = None
    retry_after: float | None = None
    pauses: bool = False
    key: str = "\0"


def refused(fault: Fault) -> BatchError:
    """Return the exception that says what the reader can do about a refusing reply."""
    code = one_line((fault.code or "").replace(fault.key, "***"), 80)
    message = one_line(fault.message.replace(fault.key, "***"))
    fact = f"{fault.provider} answered {fault.http_status} {code}".rstrip() + f": {message!r}."
    status = fault.http_status
    if fault.pauses or status == 402:
        return Paused(f"{fact} Pay or raise the limit at the provider, then clear the task; everything is kept.")
    if status in {401, 403}:
        remedy = "Check the key of the Airflow connection and its rights."
        return Denied(f"{fact} {remedy}", code=code or None, http_status=status)
    if status == 404:
        return NotFound(f"{fact} It is not visible yet, was removed, is another account's, or the base URL is wrong.")
    if status in _PASSING or (status >= 500 and status != 501):
        return Unavailable(fact, retry_after=fault.retry_after, ambiguous=status != 429)
    return Rejected(f"{fact} {_REMEDY.get(status, _CHANGE)}", code=code or None, http_status=status)


# Also too early, and 499, by which gateways and google.rpc say that somebody hung up: the call may have taken effect.
_PASSING = frozenset({408, 409, 425, 429, 499})
_CHANGE = "Change the request or the connection; nothing was billed."
_REMEDY = {
    501: "This server does not offer the call; check the connection's base URL.",
    413: "The batch is larger than the account may send; lower the task's limit of bytes per batch.",
    **dict.fromkeys(
        (301, 302, 303, 307, 308), "The connection's base URL redirects; give the address it redirects to."
    ),
}


def unreachable(error: BaseException, what: str) -> Unavailable:
    """Return the exception for a fault of the network in the middle of `what`; ambiguous unless nothing can have been sent."""
    cause = _transport_cause(error)
    if isinstance(cause, TooMuchError):
        return Unreadable(f"{what} got a reply that cannot be read: {cause}.")
    detail = f"{type(cause).__name__} {one_line(str(cause))}".rstrip()
    return Unavailable(f"{what} got no answer{_address(cause)}: {detail}.", ambiguous=not isinstance(cause, _UNSENT))


def _address(cause: BaseException) -> str:
    """Return the server that was asked; without the path, which names batches, and the query, which may hold a key."""
    request = getattr(cause, "_request", None)  # the public property raises where there is none
    if not isinstance(request, httpx2.Request):
        return ""
    return f" from {request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"


def _transport_cause(error: BaseException) -> BaseException:
    """Return the HTTP library's own error inside an SDK's wrapping."""
    seen = error
    while not isinstance(seen, httpx2.HTTPError) and seen.__cause__ is not None:
        seen = seen.__cause__
    return seen if isinstance(seen, httpx2.HTTPError) else error
