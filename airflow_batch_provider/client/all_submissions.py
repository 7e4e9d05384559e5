"""Everything that the clients of one stage bought: which folder is whose, and what is opened from it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.client.purchases import Purchases
from airflow_batch_provider.client.submission import Submission, SubmissionRecord, policy_of
from airflow_batch_provider.clock import Clock, random_id
from airflow_batch_provider.exceptions import BatchError
from airflow_batch_provider.layout import SUBMISSION, SUBMISSIONS
from airflow_batch_provider.ledger import LedgerContext, Policy
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.ledger.requests import Fingerprint, plan_rows
from airflow_batch_provider.records import load
from airflow_batch_provider.signals import SILENT, Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import ConnectionRef, Spec
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Submissions:
    """Everything that the clients of one stage bought, below its storage.

    Attributes:
        root: the task instance's directory, or a scratch directory.
        label: whose the batches are, for the provider's console.
        attempt: try of the task, from 1.
        registry: what this deployment has at the providers; None where there is none.
        signals: told what is bought and what has landed.
    """

    root: Directory
    hub: Hub | Subscription
    label: str = ""
    attempt: int = 1
    clock: Clock = field(default_factory=Clock)
    registry: Registry | None = None
    new_id: Callable[[], str] = random_id
    signals: Signals = SILENT

    @property
    def purchases(self) -> Purchases:
        """Return the index of ids."""
        return Purchases(self.root)

    def name_of(self, requests: Sequence[Any], provider: BatchProvider, spec: Spec, connection: ConnectionRef) -> str:
        """Return the folder of these requests: one for each account, spec and list of rows."""
        fingerprint = Fingerprint(f"{provider.name}\n{connection}", spec)
        for rows in plan_rows(requests, provider, spec):
            fingerprint.add(rows)
        fingerprint.check_any()
        return str(fingerprint)

    def open(
        self, name: str, provider: BatchProvider, spec: Spec, policy: Policy, connection: ConnectionRef
    ) -> Submission:
        """Return the submission in this folder, which may be new; blocking."""
        context = LedgerContext(
            root=self._directory(name),
            provider=provider,
            spec=spec,
            policy=policy,
            clock=self.clock,
            label=self.label,
            attempt=self.attempt,
            connection=connection,
            registry=self.registry,
            new_id=self.new_id,
            signals=self.signals,
        )
        return Submission(name, context, self.purchases)

    async def find(self, name: str) -> Submission | None:
        """Return the submission in this folder, None when nothing was planned there."""
        directory = self._directory(name)
        record = await asyncio.to_thread(load, directory, SUBMISSION, SubmissionRecord)
        if record is None:
            return None
        provider = await self.hub.provider(record.connection)
        spec = await asyncio.to_thread(self._spec_of, directory)
        if spec is None:
            return None
        policy = policy_of(clean_up=record.clean_up)
        return await asyncio.to_thread(self.open, name, provider, spec, policy, record.connection)

    async def cancel_all(self) -> tuple[str, ...]:
        """Ask the providers to stop every batch that has not landed and surely is ours; return their ids.

        Raises:
            BatchError: one of them could not be cancelled; the others are nevertheless.
        """
        asked: list[str] = []
        failed: BatchError | None = None
        for name in await asyncio.to_thread(self.root.names, SUBMISSIONS):
            try:
                found = await self.find(name)
                asked += await found.cancel() if found else ()
            except BatchError as error:
                log.warning("Submission %s was not cancelled: %s", name, error)
                failed = error
        if failed is not None:
            raise failed
        return tuple(asked)

    def unlanded(self, name: str) -> tuple[str, ...]:
        """Return the ids of a submission's batches without rows yet; blocking."""
        files = TaskFiles(self._directory(name))
        return tuple(receipt.batch_id for receipt in files.receipts(files.waves(), unlanded=True))

    def _spec_of(self, directory: Directory) -> Spec | None:
        plan = TaskFiles(directory).plan()
        return None if plan is None else plan.spec

    def _directory(self, name: str) -> Directory:
        return self.root.sub(f"{SUBMISSIONS}/{name}")
