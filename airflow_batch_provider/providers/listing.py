"""Polls of many batches: what a list shows, and single polls side by side."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, NotFound, Rejected
from airflow_batch_provider.providers.untrusted import as_text, checked_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping
    from datetime import datetime
    from typing import Any

    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

PAGE = 100
"""Batches per page, the most that each provider gives."""


@dataclass(frozen=True)
class ListPage:
    """One page of an account's batches.

    Attributes:
        statuses: of the wanted batches, as far as their records can be read; a poll of the others tells why.
        created: when each batch of the page was created, in the list's order; without those that do not say.
    """

    statuses: list[BatchStatus]
    created: list[datetime]

    def is_past(self, horizon: datetime) -> bool:
        """Return True when no later page can hold a batch from after the horizon: this one is older, newest first."""
        times = self.created
        newest_first = len(times) > 1 and times[0] > times[-1] and times == sorted(times, reverse=True)
        return newest_first and times[-1] < horizon


def read_statuses(
    records: Collection[dict[str, Any]],
    id_field: str,
    wanted: Container[str],
    read: Callable[[dict[str, Any]], BatchStatus],
) -> list[BatchStatus]:
    """Return what the wanted records say; a list may have thousands, and reading one costs more than finding it."""
    told: list[BatchStatus] = []
    for record in records:
        if as_text(record.get(id_field)) not in wanted:
            continue
        try:
            told.append(read(record))
        except (BatchError, ValueError) as error:
            log.debug("A record in a list cannot be read; its batch is polled alone: %s", type(error).__name__)
    return told


# Single polls under way at once, half of the connections of a client.
_SIDE_BY_SIDE = 10


async def one_by_one(provider: BatchProvider, batch_ids: Collection[str]) -> dict[str, BatchStatus | BatchError]:
    """Poll each batch by itself, several at once; ids that the provider does not know are absent."""
    places = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def poll(batch_id: str) -> BatchStatus | BatchError:
        async with places:
            try:
                return await provider.status(batch_id)
            except BatchError as error:
                return error

    seen = dict(zip(batch_ids, await asyncio.gather(*map(poll, batch_ids)), strict=True))
    return {batch_id: answer for batch_id, answer in seen.items() if not isinstance(answer, NotFound)}


def whole(answers: Mapping[str, BatchStatus | BatchError]) -> dict[str, BatchStatus]:
    """Return the statuses.

    Raises:
        BatchError: one of the answers is a fault.
    """
    for answer in answers.values():
        if isinstance(answer, BatchError):
            raise answer
    return {batch_id: answer for batch_id, answer in answers.items() if not isinstance(answer, BatchError)}


def sendable(batch_ids: Collection[str]) -> tuple[set[str], dict[str, BatchError]]:
    """Return the ids that can be asked for, and what is wrong with each of the others."""
    good: set[str] = set()
    bad: dict[str, BatchError] = {}
    for batch_id in batch_ids:
        try:
            good.add(checked_id(batch_id))
        except Rejected as error:
            bad[batch_id] = error
    return good, bad
