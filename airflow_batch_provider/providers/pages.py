"""Pages of a provider's list, read from their bytes: SDK models cost ten times as much, and one bad record ends a page."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import BatchError, Unavailable
from airflow_batch_provider.providers.wire import read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_batch_provider.models import BatchStatus

log = logging.getLogger(__name__)


class Page(msgspec.Struct):
    """A page of Anthropic's or OpenAI's list, whose records are read one by one."""

    data: list[msgspec.Raw]
    has_more: Any = None


def read_page(body: bytes, what: str) -> Page:
    """Return the page.

    Raises:
        Unavailable: the reply is not one, e.g. that of a proxy.
    """
    try:
        return msgspec.json.decode(body, type=Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None


def records(raw: Iterable[msgspec.Raw]) -> list[dict[str, Any]]:
    """Return the records that are JSON objects which can be read."""
    found: list[dict[str, Any]] = []
    for one in raw:
        try:
            found.append(read_object(bytes(one)))
        except BatchError:
            log.debug("A record of %d bytes in a list cannot be read; its batch is looked at alone.", len(bytes(one)))
    return found


def statuses(found: Iterable[dict[str, Any]], read: Callable[[dict[str, Any]], BatchStatus]) -> list[BatchStatus]:
    """Return what the records say; one that says nothing readable is left out."""
    told: list[BatchStatus] = []
    for record in found:
        try:
            told.append(read(record))
        except (BatchError, ValueError) as error:
            log.debug("A record in a list cannot be read; its batch is looked at alone: %s", type(error).__name__)
    return told


def last_id(found: list[dict[str, Any]]) -> str | None:
    """Return where the next page begins."""
    told = found[-1].get("id") if found else None
    return told if isinstance(told, str) else None
