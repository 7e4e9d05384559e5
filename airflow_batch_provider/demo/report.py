"""What a task's manifest and rows look like to people in a terminal."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.amounts import dollars
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.results import BatchResults

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRow, Cost

_ROWS = 3


def answers(task: str, manifest: dict[str, Any]) -> str:
    """The first rows of a task, its counts, tokens, cost and the place of all rows."""
    known = Manifest.model_validate(manifest)
    counts = ", ".join(f"{number} {status}" for status, number in known.counts.items() if number)
    lines = [
        f"{task} — {known.provider}, {known.model}",
        *(_row(row) for row in islice(BatchResults(known), _ROWS)),
        f"    rows    {counts} of {known.requests} asked",
        f"    tokens  {known.usage.input_tokens} in, {known.usage.output_tokens} out",
        f"    cost    {_money(known.cost)}",
        f"    all at  {known.results}",
    ]
    return "\n".join(lines)


def _row(row: BatchRow) -> str:
    said = row.output if row.error is None else row.error.message
    return f"  {row.custom_id}: " + textwrap.shorten(ascii(said)[1:-1], 90, placeholder=" …")


def _money(cost: Cost) -> str:
    if cost.usd is None:
        return "no known price"
    saved = "" if cost.saved_usd is None else f", {dollars(cost.saved_usd)} saved by asking in batch"
    return f"{dollars(cost.usd)}{saved}"
