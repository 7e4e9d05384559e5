"""The requests of files one by one, for tests that look at single ones."""

from __future__ import annotations

from itertools import chain

from airflow_batch_provider.sources import request_blocks


def requests_of(*of, **more):
    """Return what `request_blocks` returns in blocks."""
    return chain.from_iterable(request_blocks(*of, **more))
