"""Walks through the provider's list as far as that takes fewer requests than asking for each batch."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.polling.board import Board
    from airflow_batch_provider.providers.base import BatchProvider

# A list is opened for more batches than this; for fewer, single looks are smaller and as many.
FEW = 2

# A batch that the list did not show is looked for there again after so many walks: lists lag behind.
_WALKS = 20


class Listing:
    """What the list of one connection shows, and which batches it does not."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._walks = 0
        self._created: dict[str, datetime] = {}
        self._unlisted: dict[str, int] = {}

    def shows(self, names: AbstractSet[str]) -> set[str]:
        """Return those of the batches which are worth looking for in the list."""
        return {name for name in names if self._walks - self._unlisted.get(name, -_WALKS) >= _WALKS}

    async def walk(self, provider: BatchProvider, wanted: AbstractSet[str]) -> None:
        """Post what the pages say, newest first, until every wanted batch was seen or single looks are cheaper.

        Raises:
            BatchError: a page could not be had; the pages before it are posted.
        """
        self._walks += 1
        self._forget()
        unseen, read = set(wanted), 0
        async with aclosing(provider.pages()) as pages:
            while unseen and read < max(1, len(unseen)):
                turn = self._board.turn()
                if (page := await anext(pages, None)) is None:
                    break
                read += 1
                for status in page:
                    self._note(status)
                    self._board.post(status.batch_id, turn, status)
                unseen -= {status.batch_id for status in page}
                if self._is_past(page, unseen):
                    break
        self._unlisted |= dict.fromkeys(unseen, self._walks)

    def _note(self, status: BatchStatus) -> None:
        self._unlisted.pop(status.batch_id, None)
        if status.created_at is not None:
            self._created[status.batch_id] = status.created_at

    def _is_past(self, page: Sequence[BatchStatus], unseen: AbstractSet[str]) -> bool:
        """Return True when the page is older than every batch that is still looked for, and shows the newest first."""
        created = [self._created_at(name) for name in unseen]
        times = [status.created_at for status in page if status.created_at is not None]
        known = [time for time in created if time is not None]
        if not known or len(known) < len(created) or len(times) < 2:
            return False
        newest_first = times[0] > times[-1] and times == sorted(times, reverse=True)
        return newest_first and times[-1] < min(known)

    def _created_at(self, name: str) -> datetime | None:
        answer = self._board.answers.get(name)
        told = getattr(answer.outcome, "created_at", None) if answer is not None else None
        return told or self._created.get(name)

    def _forget(self) -> None:
        """Keep only what concerns batches that are still on the board."""
        on_board = self._board.answers.keys() | self._board.watchers.keys() | self._board.waiting.keys()
        self._created = {name: time for name, time in self._created.items() if name in on_board}
        self._unlisted = {name: walk for name, walk in self._unlisted.items() if name in on_board}
