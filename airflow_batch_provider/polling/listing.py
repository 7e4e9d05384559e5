"""Walks through the provider's list as far as that takes fewer requests than asking for each batch."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.polling.board import Board
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.providers.listing import ListPage

# A list is opened for more batches than this; for fewer, single polls are smaller and as many.
FEW = 2

# A batch that the list did not show is sought there again after so many walks: lists lag behind.
_WALKS = 20


class Listing:
    """What the list of one connection shows, and which batches it does not."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._walks = 0
        self._created: dict[str, datetime] = {}
        self._unlisted: dict[str, int] = {}

    def shows(self, names: AbstractSet[str]) -> set[str]:
        """Return those of the batches which are worth seeking in the list."""
        return {name for name in names if self._walks - self._unlisted.get(name, -_WALKS) >= _WALKS}

    async def walk(self, provider: BatchProvider, wanted: AbstractSet[str]) -> None:
        """Post what the pages say, newest first, until every wanted batch was seen or single polls are cheaper.

        Raises:
            BatchError: a page could not be had; the pages before it are posted.
        """
        self._walks += 1
        self._forget()
        unseen, read = set(wanted), 0
        async with aclosing(provider.pages(self._board.known() | wanted)) as pages:
            while unseen and read < max(1, len(unseen)):
                turn = self._board.turn()
                if (page := await anext(pages, None)) is None:
                    break
                read += 1
                for status in page.statuses:
                    self._note(status)
                    self._board.post(status.batch_id, turn, status)
                unseen -= {status.batch_id for status in page.statuses}
                if self._is_past(page, unseen):
                    break
        self._unlisted |= dict.fromkeys(unseen, self._walks)

    def _note(self, status: BatchStatus) -> None:
        self._unlisted.pop(status.batch_id, None)
        if status.created_at is not None:
            self._created[status.batch_id] = status.created_at

    def _is_past(self, page: ListPage, unseen: AbstractSet[str]) -> bool:
        """Return True when the page is older than every batch that is still sought, and shows the newest first."""
        created = [self._created_at(name) for name in unseen]
        known = [time for time in created if time is not None]
        return bool(known) and len(known) == len(created) and page.is_past(min(known))

    def _created_at(self, name: str) -> datetime | None:
        answer = self._board.answers.get(name)
        told = getattr(answer.outcome, "created_at", None) if answer is not None else None
        return told or self._created.get(name)

    def _forget(self) -> None:
        """Keep only what concerns batches that are still on the board."""
        on_board = self._board.known()
        self._created = {name: time for name, time in self._created.items() if name in on_board}
        self._unlisted = {name: walk for name, walk in self._unlisted.items() if name in on_board}
