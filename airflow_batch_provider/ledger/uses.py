"""What the rows of one batch will use at most: counted while they are written, and kept beside them for those who price them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.pricing import Uses, expected

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.envelope import Envelope
    from airflow_batch_provider.models import Spec

log = logging.getLogger(__name__)


def keep_uses(files: BatchFiles, uses: Uses) -> None:
    """Keep the counts of a batch whose request file is there."""
    files.directory.write(files.uses_name, uses.encode())


def uses_of(files: BatchFiles, envelope: Envelope, spec: Spec) -> Uses:
    """Return the counts that were kept; where they are lost, count again, from the bodies."""
    data = files.directory.read(files.uses_name)
    if data is not None:
        try:
            return Uses.decode(data)
        except msgspec.DecodeError:
            log.debug(
                "%s cannot be read; its rows are counted again", files.directory.uri(files.uses_name), exc_info=True
            )
    uses = Uses()
    for row in files.planned_rows():
        use = expected(envelope.longest(row.body), spec)
        uses.add(use, use.usage.input_tokens)
    return uses
