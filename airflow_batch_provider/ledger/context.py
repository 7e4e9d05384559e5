"""The context that every module of a ledger works in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.clock import random_id
from airflow_batch_provider.ledger.envelope import Envelope
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.ledger.uses import uses_of
from airflow_batch_provider.places import Places
from airflow_batch_provider.pricing import NOTHING_LEARNED, Bill, Forecast, Learned, price_book
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.signals import SILENT, Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.row_cache import RowCache
    from airflow_batch_provider.models import ConnectionRef, Spec
    from airflow_batch_provider.output_types import OutputType
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How far a task goes for its rows.

    Attributes:
        retry_rows: waves after the first in one attempt.
        in_flight: most batches at the provider at once; None takes the provider's limit.
        enqueued_tokens: most estimated input tokens at the provider at once; None means any number.
        retry_truncated: texts that were cut off count as failed, and are asked again with twice the room each time.
        clean_up: delete what the provider keeps of a batch once its rows have landed or its wave is over.
        skip_bad_rows: rows that cannot be asked go to the results as failed; otherwise they are refused.
        may_be_empty: without any rows nothing is bought; otherwise that is refused.
        leave_running: a batch that runs when the deadline has passed is left to the next attempt.
        batch_size: most requests in one batch; None takes the provider's limit.
        canary: rows that are bought alone, before the rest; 0 buys all at once.
        canary_realtime: they are asked by single calls, at the price without a batch, where the provider has such.
        dedup_rows: rows that ask the same are bought once.
        waits_for_place: False buys also where all tasks of the deployment together have as many batches as they may.
        max_cost_usd: most that all waves of all attempts may cost; None means any amount.
    """

    retry_rows: int
    in_flight: int | None
    enqueued_tokens: int | None
    retry_truncated: bool
    clean_up: bool
    leave_running: bool
    skip_bad_rows: bool = False
    may_be_empty: bool = False
    batch_size: int | None = None
    canary: int = 0
    canary_realtime: bool = False
    dedup_rows: bool = False
    waits_for_place: bool = True
    max_cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class LedgerContext:
    """One task instance's requests at one provider.

    Attributes:
        root: the task instance's directory.
        label: whose it is, for the provider's console: `dag/run/task`.
        attempt: try of the task, from 1.
        output_type: reads the answers where the Python type is known; None goes by the schema of the spec.
        connection: how a person's commands find the account again; no key.
        row_cache: has answers of earlier tasks, and gets those of this one; None where there is none.
        registry: what this deployment has at the providers; None where there is none (a script).
        new_id: draws 32 hex digits that nobody else has.
        signals: told what is bought and what has landed.
    """

    root: Directory
    provider: BatchProvider
    spec: Spec
    policy: Policy
    clock: Clock
    label: str
    attempt: int
    output_type: OutputType | None = None
    connection: ConnectionRef | None = None
    row_cache: RowCache | None = None
    registry: Registry | None = None
    new_id: Callable[[], str] = random_id
    signals: Signals = SILENT

    def places(self, model: str) -> Places | None:
        """Return the places at the provider that all tasks of the deployment share; None where no limit is set.

        Raises:
            UsageError: a limit is not a number above 0.
        """
        if self.registry is None:
            return None
        return Places.of(self.registry, self.connection, self.provider.account, model, self.provider_now)

    def provider_now(self) -> datetime:
        """Return the provider's time, by which its batches are dated; this machine's where the provider tells none."""
        return self.provider.now() or self.clock.now()

    @property
    def files(self) -> TaskFiles:
        """Return the files of the record."""
        return TaskFiles(self.root)

    def answers(self, spec: Spec) -> AnswerSchema | None:
        """Return what answers are checked against that have no schema of their own; None where any text is one."""
        if spec.output_schema is None:
            return None
        known = self.output_type
        return AnswerSchema(spec.output_schema, known.adapter if known and known.schema == spec.output_schema else None)

    def bill(self, spec: Spec) -> Bill:
        """Return an empty bill at the prices of this moment.

        Raises:
            UsageError: the connection's own prices cannot be read.
        """
        return Bill(price_book(self.provider.account), spec.model)

    def forecast(self, batches: Iterable[BatchFiles], spec: Spec, learned: Learned = NOTHING_LEARNED) -> Forecast:
        """Return what the rows of these batches may use and cost at most, as it was counted while they were planned.

        Raises:
            UsageError: as `bill`.
        """
        total, envelope = Forecast(self.bill(spec)), Envelope(self.provider.codec, spec)
        for batch in batches:
            uses_of(batch, envelope, spec).add_to(total, learned, realtime=batch.realtime)
        return total
