"""What the batches of one deployment have cost: a small file for each that has landed, whoever bought it.

The file is written right before the rows, under the batch's own tag: a worker that dies in between writes the same one again.
So every batch counts once, and its cost outlasts the stage storage of its task.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from airflow_batch_provider import __version__
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import LAYOUT
from airflow_batch_provider.models import Cost, Usage
from airflow_batch_provider.records import load, save

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.storage import Directory


class Spent(FrozenModel):
    """The cost of one landed batch.

    Attributes:
        layout: version of the file layout.
        package: version of this package that wrote it.
        connection: Airflow connection that paid; None where it is not known.
        label: whose it is: `dag/run/task[/map_index]`.
        claim: URI of its claim, whose folders tell the task.
        requests: rows that it asked.
        succeeded: those of them with a good answer.
        submitted_at: its month is the one that it counts for; under a budget the moment at which that let it in.
    """

    layout: Literal[1] = LAYOUT
    package: str = __version__
    tag: str
    batch_id: str
    provider: str
    model: str
    connection: str | None = None
    label: str
    claim: str
    requests: int
    succeeded: int
    submitted_at: AwareDatetime
    usage: Usage
    cost: Cost


class SpendingBook:
    """The records of one deployment, a folder for each month.

    Args:
        directory: shared by all workers.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def note(self, spent: Spent) -> None:
        """Keep the cost of a batch, in the place of what is known of the same batch."""
        save(self._directory.sub(month_of(spent.submitted_at)), f"{spent.tag}.json", spent)

    def since(self, start: datetime | None = None) -> Iterator[Spent]:
        """Return every batch that was submitted from then on, each once, month by month; with None all of them."""
        seen: set[str] = set()
        for month in self._directory.names():
            if start is not None and month < month_of(start):
                continue
            for spent in self.of_month(month):
                if spent.tag not in seen and (start is None or spent.submitted_at >= start):
                    seen.add(spent.tag)
                    yield spent

    def of_month(self, month: str) -> Iterator[Spent]:
        """Return the batches of one month, `2026-11`."""
        directory = self._directory.sub(month)
        for name in directory.names():
            if name.endswith(".json") and (spent := load(directory, name, Spent)):
                yield spent


def month_of(moment: datetime) -> str:
    """Return the month of a moment, in UTC: `2026-11`."""
    return f"{moment.astimezone(UTC):%Y-%m}"
