"""What people read in a task's log: what is planned, what was submitted where, and what the task came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.providers.consoles import console_url

if TYPE_CHECKING:
    from airflow_batch_provider.ledger import Receipt
    from airflow_batch_provider.models import Account, Cost, Manifest, Usage


def dollars(cost: Cost) -> str:
    """Return an amount as people write it; "no known price" where there is none."""
    if cost.usd is None:
        return "no known price"
    amount = f"${cost.usd:,.4f}" if cost.usd < 1 else f"${cost.usd:,.2f}"
    return f"about {amount}" if cost.estimated else amount


def submitted(receipt: Receipt, account: Account) -> str:
    """Return the line on one batch that was bought."""
    url = console_url(account, receipt.batch_id)
    see = f" See {url}" if url else ""
    return f"Submitted batch {receipt.batch_id!r} to {account.provider}: {receipt.requests} requests.{see}"


def block(manifest: Manifest, cut_off: int) -> str:
    """Return the lines at the end of an attempt.

    Args:
        cut_off: rows whose text ends at max_tokens although they count as succeeded.
    """
    counts = ", ".join(f"{number:,} {word}" for word, number in manifest.counts.items() if number)
    lines = [
        ("rows", f"{manifest.requests:,}: {counts}"),
        (
            "cut off",
            f"{cut_off:,} answers end at max_tokens; raise max_tokens, or set retry_truncated" if cut_off else "",
        ),
        ("tokens", _tokens(manifest.usage)),
        ("cost", _cost(manifest.cost)),
        ("duration", _duration(manifest)),
        ("results", manifest.results),
    ]
    reasons = str(manifest.errors).splitlines()
    told = [f"  {name:<9} {value}" for name, value in lines if value]
    without = ["  without an answer:", *(f"    {line}" for line in reasons)] if reasons else []
    return "\n".join([f"What {manifest.provider} {manifest.model} was asked and answered:", *told, *without])


def _tokens(usage: Usage) -> str:
    parts = [
        (usage.cached_tokens, "read from a cache"),
        (usage.cache_write_tokens, "written to a cache"),
    ]
    of_input = "".join(f", {number:,} of them {what}" for number, what in parts if number)
    reasoning = f", {usage.reasoning_tokens:,} of them reasoning" if usage.reasoning_tokens else ""
    return f"{usage.input_tokens:,} in{of_input}; {usage.output_tokens:,} out{reasoning}"


def _cost(cost: Cost) -> str:
    saved = f", ${cost.saved_usd:,.4f} less than without batches" if cost.saved_usd else ""
    return dollars(cost) + saved


def _duration(manifest: Manifest) -> str:
    if manifest.submitted_at is None or manifest.completed_at is None:
        return ""
    seconds = int((manifest.completed_at - manifest.submitted_at).total_seconds())
    waves = "1 wave" if manifest.waves == 1 else f"{manifest.waves} waves"
    batches = "1 batch" if len(manifest.batches) == 1 else f"{len(manifest.batches)} batches"
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} h in {waves} of {batches} in all"
