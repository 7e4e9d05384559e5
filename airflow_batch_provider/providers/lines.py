"""Result lines, one at a time: memory does not grow with their number."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.providers.untrusted import without_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from airflow_batch_provider.models import Kind, Reply
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
"""Bytes per read of a result body; small enough for the event loop, large enough to be cheap per line."""


async def replies(provider: BatchProvider, chunks: AsyncIterator[bytes], kind: Kind) -> AsyncGenerator[Reply, None]:
    """Yield what the lines of a body say; those that cannot be read are counted in one warning, without their content."""
    ignored, key = 0, provider.account.api_key.get_secret_value().strip()
    async for line in jsonl(chunks):
        try:
            reply = provider.codec.decode(without_key(line, key), kind)
        except Rejected:
            ignored += 1
            continue
        yield reply
    if ignored:
        log.warning("%s sent %d result lines that cannot be read; they are ignored.", provider.name, ignored)


async def jsonl(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    r"""Yield the non-blank lines of a body. Only `\n` ends a line: U+2028, U+2029 and U+0085 may occur in JSON strings."""
    part: list[bytes] = []
    async for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            part.append(line)
            whole = b"".join(part)
            part = []
            if whole.strip():
                yield whole
        if rest:
            part.append(rest)
    if (whole := b"".join(part)).strip():
        yield whole
