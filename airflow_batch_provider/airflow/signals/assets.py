"""Counts and cost as the extra of asset events, for the DAGs that an asset starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow.signals.metrics import tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_batch_provider.models import Manifest

log = logging.getLogger(__name__)


def tell_assets(outlets: Iterable[Any], context: Mapping[str, Any], manifest: Manifest) -> None:
    """Add what a task came to to the event of each of its assets; see `table.ASSET_EXTRA`.

    What the task's author has put there stays. A fault is logged: the answers are there, and the task has succeeded.
    """
    from airflow.sdk import Asset  # noqa: PLC0415 — the function is called in a running task only

    events = context.get("outlet_events")
    assets = [one for one in outlets if isinstance(one, Asset)]
    if events is None or not assets:
        return
    told = _extra(manifest)
    for asset in assets:
        try:
            extra = events[asset].extra
            extra.update({**told, **extra})
        except Exception:
            log.warning("The event of %r tells nothing of the batch", asset, exc_info=True)


def _extra(manifest: Manifest) -> dict[str, Any]:
    return {
        "provider": manifest.provider,
        "model": manifest.model,
        "requests": manifest.requests,
        "rows": {status: number for status, number in manifest.counts.items() if number},
        "tokens": tokens(manifest.usage),
        "cost_usd": manifest.cost.usd,
        "saved_usd": manifest.cost.saved_usd,
        "results": manifest.results,
        "dry_run": manifest.dry_run,
    }
