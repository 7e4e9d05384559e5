"""Pages of a list whose records are read once: a record whose bytes have not changed says what it said before."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import BatchError, Rejected
from airflow_batch_provider.providers.faults import read_reply
from airflow_batch_provider.providers.untrusted import as_objects, as_text, moment, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from datetime import datetime

    from airflow_batch_provider.models import BatchStatus

log = logging.getLogger(__name__)


class RawPage(msgspec.Struct):
    """A page of a list, its records as bytes.

    Attributes:
        has_more: whatever the provider says; services that leave it out are asked on.
    """

    data: list[msgspec.Raw]
    has_more: Any = None


_PAGES = msgspec.json.Decoder(RawPage)


def raw_page(body: bytes, what: str) -> RawPage | None:
    """Return the page, also where the JSON has faults that can be read over; None when there is no list in it.

    Raises:
        Unreadable: it is not valid JSON object at all.
    """
    try:
        return _PAGES.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        page = read_reply(body, what)
    if not isinstance(page.get("data"), list):
        return None
    return RawPage([msgspec.Raw(msgspec.json.encode(one)) for one in as_objects(page["data"])], page.get("has_more"))


@dataclass(frozen=True, slots=True)
class Record:
    """A list's record of one batch.

    Attributes:
        batch_id: empty where it has none.
        status: None for a batch that nobody wanted, or whose record cannot be read.
    """

    batch_id: str
    created: datetime | None
    status: BatchStatus | None


@dataclass(slots=True)
class Records:
    """The records of one walk through a list, by a digest of their bytes; those of the walk before are still known.

    Args:
        read: makes a status of a record.
    """

    read: Callable[[dict[str, Any]], BatchStatus]
    _now: dict[bytes, Record] = field(default_factory=dict, init=False)
    _before: dict[bytes, Record] = field(default_factory=dict, init=False)

    def begin(self) -> None:
        """Begin a walk; what the one before did not show is forgotten."""
        self._before, self._now = self._now, {}

    def record(self, raw: msgspec.Raw, wanted: Container[str]) -> Record:
        """Return what a record says; read again only when it has changed, or when nobody wanted it before."""
        key = hashlib.blake2b(raw, digest_size=16).digest()
        known = self._now.get(key) or self._before.get(key)
        if known is None or (known.status is None and known.batch_id in wanted):
            known = self._read(bytes(raw), wanted)
        self._now[key] = known
        return known

    def _read(self, data: bytes, wanted: Container[str]) -> Record:
        try:
            fields = read_object(data)
        except Rejected:
            return Record("", None, None)
        batch_id = as_text(fields.get("id"))
        status = None
        if batch_id in wanted:
            try:
                status = self.read(fields)
            except (BatchError, ValueError) as error:
                log.debug("A record in a list cannot be read; its batch is polled alone: %s", type(error).__name__)
        return Record(batch_id, moment(fields.get("created_at")), status)
