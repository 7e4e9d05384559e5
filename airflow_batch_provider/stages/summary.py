"""The lines of a task's log for people: what something costs, and the outcome of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.amounts import dollars

if TYPE_CHECKING:
    from airflow_batch_provider.models import Cost, Manifest, Usage


def price_of(cost: Cost) -> str:
    """Return an amount as people write it; "no known price" where there is none."""
    if cost.usd is None:
        return "no known price"
    return f"about {dollars(cost.usd)}" if cost.estimated else dollars(cost.usd)


def number_of(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else many}"


def block(manifest: Manifest, cut_off: int) -> str:
    """Return the lines at the end of an attempt.

    Args:
        cut_off: rows whose text ends at max_tokens although they count as succeeded.
    """
    counts = ", ".join(f"{number:,} {word}" for word, number in manifest.counts.items() if number)
    lines = [
        ("rows", f"{manifest.requests:,}: {counts}"),
        ("copies", _copies(manifest.copies)),
        ("cached", _cached(manifest.cached)),
        ("cut off", _cut_off(cut_off)),
        ("tokens", _tokens(manifest.usage)),
        ("cost", _cost(manifest.cost)),
        ("duration", _duration(manifest)),
        ("unbought", manifest.withheld),
        ("results", manifest.results),
    ]
    reasons = str(manifest.errors).splitlines()
    told = [f"  {name:<9} {value}" for name, value in lines if value]
    without = ["  without an answer:", *(f"    {line}" for line in reasons)] if reasons else []
    return "\n".join([f"What {manifest.provider} {manifest.model} was asked and answered:", *told, *without])


def _copies(rows: int) -> str:
    if not rows:
        return ""
    asked = number_of(
        rows, "row asks the same as another one and has its", "rows ask the same as others and have their"
    )
    return f"{asked} answer, at no cost; dedup_rows=False buys each"


def _cached(rows: int) -> str:
    return f"{number_of(rows, 'answer is', 'answers are')} from the row cache, at no cost" if rows else ""


def _cut_off(rows: int) -> str:
    if not rows:
        return ""
    return f"{number_of(rows, 'answer ends', 'answers end')} at max_tokens; raise max_tokens, or set retry_truncated"


def _tokens(usage: Usage) -> str:
    parts = [
        (usage.cached_tokens, "read from a cache"),
        (usage.cache_write_tokens, "written to a cache"),
    ]
    of_input = "".join(f", {number:,} of them {what}" for number, what in parts if number)
    reasoning = f", {usage.reasoning_tokens:,} of them reasoning" if usage.reasoning_tokens else ""
    return f"{usage.input_tokens:,} in{of_input}; {usage.output_tokens:,} out{reasoning}"


def _cost(cost: Cost) -> str:
    saved = f", and saved {dollars(cost.saved_usd)} against single calls" if cost.saved_usd else ""
    left_out = f"; without the price of {', '.join(cost.unpriced)}" if cost.unpriced else ""
    return price_of(cost) + saved + left_out


def _duration(manifest: Manifest) -> str:
    if manifest.submitted_at is None or manifest.completed_at is None:
        return ""
    seconds = int((manifest.completed_at - manifest.submitted_at).total_seconds())
    waves, batches = number_of(manifest.waves, "wave", "waves"), number_of(len(manifest.batches), "batch", "batches")
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} h in {waves} of {batches} in all"
