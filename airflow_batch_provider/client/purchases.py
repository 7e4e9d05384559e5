"""An index of a client's submissions, by the ids that its submits returned."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import SUBMISSIONS
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.records import load, save

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory


class Purchase(FrozenModel):
    """The batches that one id stands for.

    Attributes:
        submission: folder of their ledger, below `submissions/`.
        wave: of the batches.
        chunk: of the one batch; None stands for every row of the submission.
    """

    submission: str
    wave: int
    batch_ids: tuple[str, ...]
    chunk: int | None = None


class Purchases:
    """The index id → purchase of one stage, a small file for each id; every method blocks."""

    def __init__(self, root: Directory) -> None:
        self._root = root

    def note(self, batch_id: str, purchase: Purchase) -> None:
        """Keep what an id stands for."""
        if self.get(batch_id) != purchase:
            save(self._root, _name(batch_id), purchase)

    def get(self, batch_id: str) -> Purchase | None:
        """Return what an id stands for, None when it was not bought here."""
        return load(self._root, _name(batch_id), Purchase)


def bought_below(root: Directory) -> tuple[str, ...]:
    """Return the ids of all batches that the clients of one stage have bought; blocking."""
    found = (TaskFiles(root.sub(f"{SUBMISSIONS}/{name}")) for name in root.names(SUBMISSIONS))
    return tuple(receipt.batch_id for files in found for receipt in files.receipts(files.waves()))


def _name(batch_id: str) -> str:
    # An id comes from the provider and may be anything, so it never becomes a path.
    return f"bought/{hashlib.blake2b(batch_id.encode(), digest_size=16).hexdigest()}.json"
