"""What the three adapters share below their SDKs: the HTTP client, JSON lines, waiting times, ids and faults."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound, Paused, Rejected, Unavailable, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from airflow_batch_provider.models import Account

CHUNK = 64 * 1024
"""Bytes per read of a result body; small enough for the event loop, large enough to be cheap per line."""

LONGEST_WAIT = 3600.0
"""Seconds; a provider that asks for more is asked again after this."""

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 120.0
# The longest known are those of LiteLLM's proxy, which packs routing into base64.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,511}")
_KEY = re.compile(r"[!-~]{1,4096}")

# Raised before the request went out, so the provider did nothing.
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


def http_client(account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """One pool of connections for one account; `options["timeout"]` sets the seconds without a byte, default 120.

    The environment has its say on proxies and CA files only. Redirects are not followed: a key belongs to one host.

    Raises:
        UsageError: `options["timeout"]` is no number above zero.
    """
    _quiet()
    return httpx2.AsyncClient(
        timeout=patience(account),
        limits=httpx2.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30),
        follow_redirects=False,
        verify=_certificates(),
        transport=transport,
    )


def _quiet() -> None:
    """Keep the line that httpx2 logs for every request out of the task's log, unless somebody set its level."""
    logger = logging.getLogger("httpx2")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """The trusted CAs, read once per process: reading takes some 40 ms and 0.8 MB (measured, 2026-11)."""
    return httpx2.create_ssl_context()


def patience(account: Account, times: int = 1) -> httpx2.Timeout:
    """How long to wait for the next byte: the account's seconds, `times` as long where a provider digests a batch.

    Raises:
        UsageError: `options["timeout"]` is no number above zero.
    """
    seconds = account.options.get("timeout", _READ_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise UsageError(f"The connection's timeout is {seconds!r}. Give a number of seconds above zero.")
    return httpx2.Timeout(seconds * times, connect=min(seconds, _CONNECT_SECONDS))


def api_key(account: Account) -> str:
    """The account's key, fit for a header.

    Raises:
        Denied: there is none, or one that no header can hold (which HTTP libraries would quote in their errors).
    """
    key = account.api_key.get_secret_value().strip()
    if not _KEY.fullmatch(key):
        fact = "has characters that no key has" if key else "is empty"
        raise Denied(
            f"The API key for {account.provider!r} {fact}. Put the key into the password of the Airflow connection, "
            "or try without one: python -m airflow_batch_provider.emulator."
        )
    return key


def base_url(account: Account, default: str) -> str:
    """The address that is asked, without a trailing slash.

    Raises:
        UsageError: the account's `base_url` is no http(s) address, or carries a user name.
    """
    address = (account.base_url or default).rstrip("/")
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise UsageError(f"The connection's base URL {address!r} is no address: {error}.") from None
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        shown = url.copy_with(username=None, password=None)
        raise UsageError(f"The connection's base URL {str(shown)!r} must be http(s)://host[:port][/path], and no more.")
    return address


def checked_id(value: object, what: str = "batch") -> str:
    """The id, when it can stand in a URL as one step of a path.

    Raises:
        Rejected: it holds anything but letters, digits and `_.=-`, or is longer than 512 characters.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Rejected(
            f"{clip(repr(value), 80)} is no id of a {what}. It is not sent anywhere; check where it came from.",
            code="invalid_id",
        )
    return value


async def jsonl(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    r"""The non-blank lines of a body, split on `\n` only: U+2028, U+2029 and U+0085 may stand raw in JSON strings."""
    part: list[bytes] = []
    async for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            part.append(line)
            whole = b"".join(part)
            part = []
            if whole.strip():
                yield whole
        if rest:
            part.append(rest)
    if (whole := b"".join(part)).strip():
        yield whole


def read_object(line: bytes) -> dict[str, Any]:
    r"""The JSON object of a line; halves of surrogate pairs (answers cut at `max_tokens`) and bad UTF-8 become `?`.

    Raises:
        Rejected: the line is no JSON object; the message tells its length, never its content.
    """
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _mended(line)
    if not isinstance(value, dict):
        raise Rejected(f"A line of {len(line)} bytes is no JSON object.", code="unreadable_line")
    return value


def _mended(line: bytes) -> object:
    try:
        value = json.loads(line.decode("utf-8", "replace"))
        return msgspec.json.decode(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def as_object(value: object) -> dict[str, Any]:
    """The value when it is an object, an empty one otherwise: hostile replies have any shape."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list; nothing when it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The value when it is a text, an empty one otherwise."""
    return value if isinstance(value, str) else ""


# No request has a trillion of anything; sums over a million rows of less fit into 64 bits, as Parquet keeps them.
MOST = 10**12


def as_count(value: object) -> int:
    """Return the value when it is a believable number of things, 0 otherwise."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else 0


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the provider asks to wait, between 0 and `LONGEST_WAIT`; None when it says nothing readable.

    A date counts from `now`, by default from the reply's own `date`, which no skewed clock of ours can falsify.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return min(max(seconds * scale, 0.0), LONGEST_WAIT)
    until, since = _date(headers.get("retry-after")), now or _date(headers.get("date"))
    if until is None or since is None:
        return None
    return min(max((until - since).total_seconds(), 0.0), LONGEST_WAIT)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date(text: str | None) -> datetime | None:
    try:
        value = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return value if value.tzinfo else None


@dataclass(frozen=True)
class Fault:
    """A refusing reply, in HTTP's terms.

    Attributes:
        message: the provider's words, of any length.
        code: the provider's own word for it.
        pauses: True when the word means that money or quota is used up.
    """

    provider: str
    http_status: int
    message: str
    code: str | None = None
    retry_after: float | None = None
    pauses: bool = False


def refused(fault: Fault) -> BatchError:
    """The exception that says what the reader can do about a refusing reply."""
    fact = f"{fault.provider} answered {fault.http_status} {fault.code or ''}".rstrip() + f": {clip(fault.message)!r}."
    status = fault.http_status
    if fault.pauses or status == 402:
        return Paused(f"{fact} Pay or raise the limit at the provider, then clear the task; everything is kept.")
    if status in {401, 403}:
        remedy = "Check the key of the Airflow connection and its rights."
        return Denied(f"{fact} {remedy}", code=fault.code, http_status=status)
    if status == 404:
        return NotFound(f"{fact} It is not visible yet, was removed, is another account's, or the base URL is wrong.")
    if status in {408, 409, 429} or status >= 500:
        return Unavailable(fact, retry_after=fault.retry_after, ambiguous=status != 429)
    return Rejected(f"{fact} {_REMEDY.get(status, _CHANGE)}", code=fault.code, http_status=status)


_CHANGE = "Change the request or the connection; nothing was billed."
_REMEDY = {
    413: "The batch is larger than the account may send; lower the task's limit of bytes per batch.",
    **dict.fromkeys(
        (301, 302, 303, 307, 308), "The connection's base URL redirects; give the address it redirects to."
    ),
}


def unreachable(error: BaseException, what: str) -> Unavailable:
    """The exception for a fault of the network in the middle of `what`; ambiguous unless nothing can have been sent."""
    cause = _transport_cause(error)
    detail = f"{type(cause).__name__} {clip(str(cause))}".rstrip()
    return Unavailable(f"{what} got no answer: {detail}.", ambiguous=not isinstance(cause, _UNSENT))


def _transport_cause(error: BaseException) -> BaseException:
    """The HTTP library's own error inside an SDK's wrapping."""
    seen = error
    while not isinstance(seen, httpx2.HTTPError) and seen.__cause__ is not None:
        seen = seen.__cause__
    return seen if isinstance(seen, httpx2.HTTPError) else error


def clip(text: str, limit: int = 300) -> str:
    """At most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
