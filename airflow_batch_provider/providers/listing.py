"""Looks at many batches: what a list shows, and single looks side by side."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, NotFound, Rejected
from airflow_batch_provider.providers.untrusted import checked_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

PAGE = 100
"""Batches per page, the most that each provider gives."""

# Single looks on their way at once, half of the connections of a client.
_SIDE_BY_SIDE = 10


async def one_by_one(provider: BatchProvider, batch_ids: Collection[str]) -> dict[str, BatchStatus | BatchError]:
    """Look at each batch by itself, several at once; ids that the provider does not know are absent."""
    places = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def look(batch_id: str) -> BatchStatus | BatchError:
        async with places:
            try:
                return await provider.status(batch_id)
            except BatchError as error:
                return error

    seen = dict(zip(batch_ids, await asyncio.gather(*map(look, batch_ids)), strict=True))
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
