"""HTTP as all providers speak it: the client, the key, the address, time-outs, and how long a reply asks to wait."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import zlib
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx2

from airflow_batch_provider.exceptions import Denied, UsageError
from airflow_batch_provider.providers.untrusted import one_line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_batch_provider.models import Account

LONGEST_WAIT = 3600.0
"""Seconds; a provider that asks for more is asked again after this."""

MOST_BYTES = 32 * 1024 * 1024
"""Largest reply that is read as a whole, decompressed; the status of a batch with 50,000 faults has some 10 MB."""

# A reply that drips a byte now and then may take this many times the seconds without a byte.
_READS = 5
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 120.0
_KEY = re.compile(r"[!-~]{1,4096}")


class TooMuchError(httpx2.HTTPError):
    """A reply that is too large, or compressed in a way that nobody asked for."""


class Client(httpx2.AsyncClient):
    """Reads every reply that is not streamed, and every refusal, up to `MOST_BYTES` after decompression.

    A few kilobytes of gzip may hold a gigabyte, which httpx2 would read into memory.
    """

    _told: tuple[datetime, float] | None = None
    """The `date` of the last reply that had one, and when it came by the event loop, whose clock never jumps."""

    def now(self) -> datetime | None:
        """Return the server's time by its last reply, None before one told it."""
        if self._told is None:
            return None
        date, came_at = self._told
        return date + timedelta(seconds=asyncio.get_running_loop().time() - came_at)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request."""
        response = await super().send(request, stream=True, **options)
        if date := _date(response.headers.get("date")):
            self._told = date, asyncio.get_running_loop().time()
        if stream and response.is_success:
            return response
        try:
            return await _whole(response)
        finally:
            await response.aclose()


async def _whole(response: httpx2.Response) -> httpx2.Response:
    """Return the reply with its body read."""
    if response.is_closed:  # the transport brought it in one piece
        return response
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", ""}:
        raise TooMuchError(f"the reply is compressed as {one_line(encoding, 40)!r}, which was not asked for")
    seconds = response.request.extensions.get("timeout", {}).get("read")
    try:
        async with asyncio.timeout(None if seconds is None else _READS * seconds):
            body = await _body(response, zlib.decompressobj(wbits=31) if encoding == "gzip" else None)
    except zlib.error as error:
        raise TooMuchError(f"the reply is not the gzip that it says: {error}") from None
    except TimeoutError:
        raise httpx2.ReadTimeout(f"the reply took more than {_READS * seconds:g} s") from None
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_TRANSFER]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=body,
        request=response.request,
        extensions={name: value for name, value in response.extensions.items() if name != "network_stream"},
    )


async def _body(response: httpx2.Response, unpack: zlib._Decompress | None) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk if unpack is None else unpack.decompress(chunk, MOST_BYTES + 1 - len(body))
        if len(body) > MOST_BYTES:
            raise TooMuchError(f"the reply is larger than {MOST_BYTES} bytes")
    return bytes(body)


_OF_THE_TRANSFER = {b"content-encoding", b"content-length", b"transfer-encoding"}


def http_client(account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> Client:
    """Return one pool of connections for one account; `options["timeout"]` is the seconds without a byte, default 120.

    The environment has its say on proxies and CA files only. Redirects are not followed: a key belongs to one host.

    Raises:
        UsageError: `options["timeout"]` is not a number above zero.
    """
    _quiet()
    return Client(
        headers={"accept-encoding": "gzip"},
        timeout=timeouts(account),
        limits=httpx2.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30),
        follow_redirects=False,
        verify=certificates(),
        transport=transport,
    )


def _quiet() -> None:
    """Keep the line that httpx2 logs for every request out of the task's log, unless somebody set its level."""
    logger = logging.getLogger("httpx2")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


@lru_cache(maxsize=1)
def certificates() -> ssl.SSLContext:
    """Return the trusted CAs, read once per process: reading takes some 40 ms and 0.8 MB (measured, 2026-11)."""
    return httpx2.create_ssl_context()


def timeouts(account: Account, times: int = 1) -> httpx2.Timeout:
    """Return how long to wait for the next byte: the account's seconds, `times` as long where a provider digests a batch.

    Raises:
        UsageError: `options["timeout"]` is not a number above zero.
    """
    seconds = account.options.get("timeout", _READ_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise UsageError(f"The connection's timeout is {seconds!r}. Give a number of seconds above zero.")
    return httpx2.Timeout(seconds * times, connect=min(seconds, _CONNECT_SECONDS))


def api_key(account: Account) -> str:
    """Return the account's key, fit for a header.

    Raises:
        Denied: there is none, or one that a header cannot hold (which HTTP libraries would quote in their errors).
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
    """Return the address that is asked, without a trailing slash.

    Raises:
        UsageError: the account's `base_url` is not an http(s) address, or carries a user name.
    """
    address = (account.base_url or default).rstrip("/")
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise UsageError(f"The connection's base URL {address!r} is not an address: {error}.") from None
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        shown = url.copy_with(username=None, password=None)
        raise UsageError(f"The connection's base URL {str(shown)!r} must be http(s)://host[:port][/path], and no more.")
    return address


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that the provider asks to wait, at most `LONGEST_WAIT`; None when it says nothing readable.

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
    # Years beyond these are not a time that anything can be added to.
    return value if value.tzinfo and 1970 <= value.year < 9000 else None
