"""Reading what a provider sends, which may have any shape: records, words, moments, result lines."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from airflow_batch_provider.exceptions import NotFound, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.providers.base import Limits
from airflow_batch_provider.providers.wire import as_objects, checked_id, clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

    from airflow_batch_provider.models import Account, BatchState, BatchStatus, Kind, Reply
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)


class Words:
    """A provider's status words in ours; one that is not in the table is logged once and taken for `processing`."""

    def __init__(self, provider: str, table: Mapping[str, BatchState]) -> None:
        self._provider = provider
        self._table = table
        self._strange: set[str] = set()

    def __getitem__(self, word: str) -> BatchState:
        if word in self._table:
            return self._table[word]
        if word not in self._strange:
            self._strange.add(word)
            log.warning("%s says batch status %r, which is not documented; taken for processing.", self._provider, word)
        return "processing"


def limits(account: Account, defaults: Limits) -> Limits:
    """The provider's limits, as far as `options["max_requests"]` and `options["max_bytes"]` say nothing else.

    Raises:
        UsageError: one of them is no whole number above zero.
    """
    chosen = {"requests": account.options.get("max_requests"), "bytes": account.options.get("max_bytes")}
    for name, value in chosen.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"The connection's max_{name} is {value!r}. Give a whole number above zero.")
    return Limits(
        requests=chosen["requests"] or defaults.requests,
        bytes=chosen["bytes"] or defaults.bytes,
        in_flight=defaults.in_flight,
    )


def record(reply: object, what: str) -> dict[str, Any]:
    """The JSON object of an SDK's model, whose fields may be of other types than it declares.

    Raises:
        Unavailable: the reply was no JSON object, e.g. the page of a proxy.
    """
    if not isinstance(reply, BaseModel):
        raise Unavailable(f"{what} got a {type(reply).__name__} where a JSON object belongs.", ambiguous=True)
    return reply.model_dump(mode="json", warnings=False)


def check_same(told: object, asked: str, what: str) -> None:
    """Make sure that a reply is about what was asked for, e.g. not the JSON of a proxy, which would show no results.

    Raises:
        Unavailable: it is not.
    """
    if told != asked:
        raise Unavailable(f"{what} got an object that is not this batch: {clip(repr(told), 80)}.", ambiguous=True)


def bought_id(batch_id: object, tag: str) -> str:
    """The id of a batch just created.

    Raises:
        Unavailable: the provider took the batch and told no usable id; looking for the tag says the rest.
    """
    try:
        return checked_id(batch_id)
    except Rejected as error:
        raise Unavailable(f"The provider took batch {tag} and told no id: {error}", ambiguous=True) from None


def found_id(batch_id: object, tag: str) -> str:
    """The id of a batch that may be the claimed one.

    Raises:
        Unresolved: it is not usable, and neither adopting the batch nor buying it again would be right.
    """
    try:
        return checked_id(batch_id)
    except Rejected as error:
        raise Unresolved(
            f"A batch that may be the claimed {tag} exists, under an id that cannot be used: {error} "
            "Look for it in the provider's console and cancel it there, then clear the task."
        ) from None


def moment(value: object) -> datetime | None:
    """An aware time of an RFC 3339 text or of Unix seconds; None when it is neither."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    return when.replace(tzinfo=when.tzinfo or UTC) if when else None


def read_reply(provider: BatchProvider, line: bytes, kind: Kind) -> Reply | None:
    """What the line says; None, and a warning without its content, when it says nothing readable."""
    try:
        return provider.codec.decode(line, kind)
    except Rejected:
        log.warning("%s sent a result line of %d bytes that cannot be read; passed over.", provider.name, len(line))
        return None


async def page(call: Awaitable[Any], what: str) -> Any:
    """One page of an SDK's list, sure to be one.

    Raises:
        Unavailable: the reply was no list, e.g. the page of a proxy.
    """
    try:
        reply = await call
    except AttributeError:
        # Both SDKs stumble over a list reply that is no JSON (anthropic 2.12, openai 3.54, `_set_private_attributes`).
        reply = None
    if not isinstance(record(reply, what).get("data"), list):
        raise Unavailable(f"{what} got an object where a list belongs.", ambiguous=True)
    return reply


async def pages(call: Awaitable[Any], most: int, since: datetime | None = None) -> AsyncIterator[dict[str, Any]]:
    """The records of at most so many pages of an SDK's list, newest first, beginning with the one that `call` brings.

    With `since`, those that were created then or later, all of them.

    Raises:
        Unresolved: so many pages do not reach back to `since`; what they lack may exist nevertheless.
    """
    current: Any = None
    for turn in range(most):
        current = await page(current.get_next_page() if turn else call, "Listing")
        for one in as_objects(record(current, "Listing")["data"]):
            created = moment(one.get("created_at"))
            if since is not None and created is not None and created < since:
                return
            yield one
        if not current.has_next_page():
            return
    if since is not None:
        raise Unresolved(
            f"{most} pages of the list do not reach back to {since:%Y-%m-%d %H:%M}, so nobody can tell whether a batch "
            "was created then. Look for its tag in the provider's console; nothing was bought meanwhile."
        )


async def picked(
    records: AsyncIterator[dict[str, Any]], wanted: Collection[str], read: Callable[[dict[str, Any]], BatchStatus]
) -> dict[str, BatchStatus]:
    """The wanted ones of the records, by id; reads no further than it must."""
    seen: dict[str, BatchStatus] = {}
    async for one in records:
        if one.get("id") in wanted:
            seen[one["id"]] = read(one)
            if len(seen) == len(wanted):
                break
    return seen


async def one_by_one(
    look: Callable[[str], Awaitable[BatchStatus]], batch_ids: Collection[str]
) -> dict[str, BatchStatus]:
    """A look at each; ids that the provider does not know are absent."""
    seen: dict[str, BatchStatus] = {}
    for batch_id in batch_ids:
        try:
            seen[batch_id] = await look(batch_id)
        except NotFound:
            log.debug("%s is not known to the provider.", batch_id)
    return seen
