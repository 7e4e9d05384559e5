"""What a stage's own client bought, found again by the batch's id: which rows were asked, and under which schema."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import NO_SCHEMA, Chunk, encoded
from airflow_batch_provider.models import FrozenModel
from airflow_batch_provider.records import create, load, save

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.ledger.requests import ChunkWriter
    from airflow_batch_provider.storage import Directory


_CUT = "chunks.json"


class Purchase(FrozenModel):
    """Where the requests of one batch stand.

    Attributes:
        requests: file of the planned rows, below the stage's storage.
        output_schema: of every row that has none of its own.
    """

    tag: str
    requests: str
    output_schema: dict[str, Any] | None = None


class Cut(FrozenModel):
    """How the requests of one submission were cut into batches."""

    chunks: tuple[Chunk, ...]


def cut_once(directory: Directory, writer: ChunkWriter, rows: Iterable[PlannedRow]) -> tuple[Chunk, ...]:
    """Return the chunks of a submission with their request files, as they were cut when it was first made.

    Other limits would move rows between its batches, of which some may be bought.
    """
    if known := load(directory, _CUT, Cut):
        return known.chunks
    chunks = writer.write(rows)
    if create(directory, _CUT, Cut(chunks=chunks)):
        return chunks
    for chunk in chunks:
        BatchFiles.of(directory, chunk).delete_requests()
    return cut_once(directory, writer, ())


class AskedRow(msgspec.Struct, frozen=True):
    """One planned row without its body; `schema` as in `PlannedRow`."""

    custom_id: str
    schema: msgspec.Raw = NO_SCHEMA


class Purchases:
    """One small file per batch; `batch_id in purchases` tells whether it was bought here."""

    def __init__(self, root: Directory) -> None:
        self._root = root

    def __contains__(self, batch_id: object) -> bool:
        return self._root.exists(_name(str(batch_id)))

    def note(self, batch_id: str, purchase: Purchase) -> None:
        """Keep what was bought; noting it again changes nothing."""
        if batch_id not in self:
            save(self._root, _name(batch_id), purchase)

    def get(self, batch_id: str) -> Purchase | None:
        """What was bought under this id, None when it was not bought here."""
        return load(self._root, _name(batch_id), Purchase)

    def forget(self, batch_id: str) -> None:
        """The batch turned out to be another's, or must be looked for anew."""
        self._root.delete(_name(batch_id))

    def asked(self, purchase: Purchase, schema: dict[str, Any] | None = None) -> list[AskedRow]:
        """The rows of a purchase in the order asked, with their schemas; `schema` replaces what the purchase says."""
        decoder = msgspec.json.Decoder(AskedRow)
        default = encoded(schema or purchase.output_schema)
        rows = (decoder.decode(line) for line in self._root.lines(purchase.requests))
        return [row if row.schema else AskedRow(row.custom_id, default) for row in rows]


def _name(batch_id: str) -> str:
    # An id comes from the provider and may be anything, so it never becomes a path.
    return f"bought/{hashlib.blake2b(batch_id.encode(), digest_size=16).hexdigest()}.json"
