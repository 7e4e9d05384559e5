"""A client for batches of one model, for custom stages and for the hook: submit, poll, get results, cancel."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import shutil
import weakref
from typing import TYPE_CHECKING, Any, Self

from upath import UPath

from airflow_batch_provider.client.all_submissions import Submissions
from airflow_batch_provider.client.arguments import check_sizes, checked_output_type, listed
from airflow_batch_provider.client.foreign import combined, rows_of_foreign_batch
from airflow_batch_provider.client.spending import Record, Spending, Stats, record_of
from airflow_batch_provider.client.submission import policy_of
from airflow_batch_provider.clock import Clock, random_id
from airflow_batch_provider.exceptions import Unresolved, UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import BatchState, Kind, Spec
from airflow_batch_provider.models.tasks import refuse_half_characters
from airflow_batch_provider.pricing import price_book
from airflow_batch_provider.providers import split_model
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.scratch import lasting_folder
from airflow_batch_provider.signals import SILENT, Signals
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_batch_provider.client.purchases import Purchase
    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchRow, BatchStatus, ConnectionRef
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import StageStorage

# As `BatchConfig.retry_rows`.
_RETRY_ROWS = 2


class BatchHandle(FrozenModel):
    """The result of a submit.

    Attributes:
        id: stands for every row of the submission, in `get_status`, `get_results` and `cancel`: the batch's id, or, of
            several batches, the first one's with the number of the others: `batch_a+2`.
        status: `pending` while a batch is at the provider; `completed` when every row has its answer, or has been asked
            as often as it may be.
        batch_ids: the batches at the provider that bring the rows which were asked last. Each of these ids stands for
            its own part of the rows; all parts together are every row once.
        rest: rows that wait for the canary, for which the id stands then; 0 when it stands for every row.
    """

    id: str
    status: BatchState
    provider: str
    batch_ids: tuple[str, ...]
    rest: int = 0


class BatchClient:
    """Batches of one model over one connection.

    Args:
        hub: the open connections of this process.
        connection: Airflow connection that pays.
        model: `claude-…`, or with its provider: `openai:gpt-…`.
        storage: a stage's storage, in which every submit keeps a ledger of its own, so that the same requests are
            bought once whatever happens; None keeps it in a scratch directory, as long as the client lives.
        label: the topic: whose the batches are, for the provider's console and in the records of their cost.
        attempt: try of the task, from 1; each may ask rows again that have no good answer.
        kind: text or vectors; by default vectors when the model's name says `embedding`.
        registry: what this deployment has at the providers, so that a lost batch is told from a neighbour's.
        signals: told what is bought and what has landed.

    Raises:
        UsageError: the label holds half a character.
    """

    def __init__(  # noqa: PLR0913 — one argument for each thing that a purchase rests on
        self,
        hub: Hub | Subscription,
        connection: ConnectionRef,
        model: str,
        *,
        storage: StageStorage | None = None,
        label: str = "",
        attempt: int = 1,
        clock: Clock | None = None,
        kind: Kind | None = None,
        registry: Registry | None = None,
        new_id: Callable[[], str] = random_id,
        signals: Signals = SILENT,
    ) -> None:
        refuse_half_characters("label", label)
        self.model = model
        self.topic = label
        self.kind: Kind = kind or ("embed" if "embedding" in model else "generate")
        self._hub = hub
        self._connection = connection
        self._is_stored = storage is not None
        self._submissions = Submissions(
            root=storage.directory if storage else self._scratch(),
            hub=hub,
            label=label,
            attempt=attempt,
            clock=clock or Clock(),
            registry=registry,
            new_id=new_id,
            signals=signals,
        )
        self._spending = Spending(storage.directory if storage else None)
        self._parent: BatchClient | None = None  # holds the scratch directory

    def child(self, name: str) -> Self:
        """Return a client for a part of the work: all as here, under the topic `<topic>/<name>`.

        What both submit, and what it cost, is kept in one place: requests that the one has bought the other does not buy.

        Raises:
            UsageError: the name is empty, or holds a slash or half a character.
        """
        if not name or "/" in name:
            raise UsageError(f"{name!r} names no child of {self.topic!r}. Give a word without a slash.")
        refuse_half_characters("name", name)
        one = copy.copy(self)
        one.topic = f"{self.topic}/{name}" if self.topic else name
        one._submissions = dataclasses.replace(self._submissions, label=one.topic)  # noqa: SLF001 — of this class
        one._parent = self  # noqa: SLF001 — of this class
        return one

    async def submit(  # noqa: PLR0913 — one argument for each thing that is asked
        self,
        requests: Iterable[Any],
        *,
        batch_size: int | None = None,
        canary: int = 0,
        system: str | None = None,
        output_type: Any = None,
        max_tokens: int = 1024,
        request_params: dict[str, Any] | None = None,
        retry_rows: int = _RETRY_ROWS,
        clean_up: bool = True,
    ) -> BatchHandle:
        """Buy the answers to these requests, cut into as many batches as the provider's limits ask for.

        The same requests again return the batches that are there; once those have ended, rows without a good answer
        that may get one are bought again, and no others.

        Args:
            requests: list of str, dict or `BatchRequest`; `custom_id` is `request-{i}` when none is given.
            batch_size: most requests in one batch; the provider's limit by default. Requests that this stage has
                submitted before stay cut as they were.
            canary: buy only so many rows at first; the same submit, once they have landed, buys the rest when at least half
                of them have a good answer. 0 buys all at once.
            output_type: what each answer must be: any type that pydantic knows, or a JSON schema. Answers are checked against the
                schema; give the type to `get_results` to have it decide.
            max_tokens: tokens of one answer.
            retry_rows: how often one attempt of the task asks rows again, each time by a submit.
            clean_up: remove the files at the provider once their rows have landed.

        Raises:
            UsageError: no requests, a wrong one, or a wrong size.
            Unavailable: the provider fails for a passing reason; submit the same requests again later.
            Unresolved: an earlier submit of the same requests may or may not have happened.
            OverBudget: a budget of the deployment has no room for all of them; what was bought before that stays bought.
            RowsFailed: most rows of the canary have no good answer, so the rest is not bought in this attempt.
        """
        check_sizes(batch_size, retry_rows, canary, is_stored=self._is_stored)
        rows = listed(requests)
        provider = await self._provider()
        spec = Spec(
            kind=self.kind,
            model=split_model(self.model)[1],
            system=system,
            max_tokens=max_tokens,
            output_schema=known.schema if (known := checked_output_type(output_type)) else None,
            request_params=request_params or {},
        )
        if spec.output_schema:
            AnswerSchema(spec.output_schema)
        provider.check_spec(spec)
        name = self._submissions.name_of(rows, provider, spec, self._connection)
        policy = policy_of(clean_up=clean_up, retry_rows=retry_rows, batch_size=batch_size, canary=canary)
        # Without storage nothing tells a repeated submit from another one.
        folder = name if self._is_stored else f"{name}-{random_id()}"
        bought = await self._submissions.open(folder, provider, spec, policy, self._connection).buy(rows)
        status: BatchState = "completed" if bought.is_done else "pending"
        return BatchHandle(
            id=bought.id, status=status, provider=provider.name, batch_ids=bought.batch_ids, rest=bought.rest
        )

    async def get_status(self, batch_id: str) -> BatchStatus:
        """Poll the batch, or all batches, that an id stands for; several have ended when all of them have.

        Raises:
            NotFound, Unavailable, Denied: as the provider answers.
        """
        # Polls of the same moment share one call of the hub, which a thread for files of this machine would part.
        ids = await asyncio.to_thread(self._awaited, batch_id) if self._is_stored else self._awaited(batch_id)
        found = await asyncio.gather(*(self._hub.status(self._connection, one) for one in ids))
        return combined(batch_id, found)

    async def get_results(
        self,
        batch_id: str,
        metadata: dict[str, Any] | None = None,
        *,
        output_type: Any = None,
    ) -> list[BatchRow]:
        """Return the rows that an id stands for, in the order asked, as a list: for big batches use the operators.

        Each row is the best of all that were asked for it. Rows land in the stage's storage on the way, so that a later
        call asks the provider for nothing.

        Args:
            metadata: of the suspended state; `custom_ids` there, in the order asked, names the rows of a batch that this
                stage's storage does not know.
            output_type: a type that pydantic knows, or a JSON schema; answers that do not fit become `invalid`; by default
                the schema of what `submit` was told.

        Raises:
            NotFound, Unavailable, Denied: as the provider answers; also `Unavailable` while the batch runs.
            Unresolved: the batch is not the one that was claimed (only Anthropic, after a lost answer to the create).
        """
        known = checked_output_type(output_type)
        schema = AnswerSchema(known.schema, known.adapter) if known else None
        purchase = await self._purchase(batch_id)
        if purchase is None:
            custom_ids = (metadata or {}).get("custom_ids") or ()
            status = await self.get_status(batch_id)
            return await rows_of_foreign_batch(await self._provider(), status, self.kind, custom_ids, schema)
        submission = await self._submissions.find(purchase.submission)
        if submission is None:
            raise Unresolved(
                f"The files of batch {batch_id!r} are gone from {self._submissions.root}. Restore them, or see the "
                "batch at the provider."
            )
        return await submission.rows(purchase, schema)

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop what an id stands for; a batch that has ended is not an error."""
        provider, purchase = await self._provider(), await self._purchase(batch_id)
        for one in purchase.batch_ids if purchase else (batch_id,):
            await provider.cancel(one)

    async def cancel_all(self) -> tuple[str, ...]:
        """Ask the providers to stop every batch that this task bought and that has not landed; return their ids.

        A batch that was found by its time and size only is left alone.

        Raises:
            BatchError: one of them could not be cancelled; the others are nevertheless.
        """
        return await self._submissions.cancel_all()

    async def is_recorded(self, batch_id: str) -> bool:
        """True when the cost of this batch has been counted."""
        return await asyncio.to_thread(self._spending.get, batch_id) is not None

    async def record_results(self, batch_id: str, rows: list[BatchRow]) -> Record:
        """Count what a batch cost and each of its calls, once: a second call returns the first record."""
        account = (await self._provider()).account
        record = record_of(rows, price_book(account), batch_id, self.topic, split_model(self.model)[1])
        return await asyncio.to_thread(self._spending.count, record)

    async def get_stats(self) -> Stats:
        """Sums over every recorded batch of this task."""
        return await asyncio.to_thread(self._spending.stats)

    async def _provider(self) -> BatchProvider:
        provider = await self._hub.provider(self._connection)
        named = split_model(self.model)[0]
        if named not in (None, provider.name):
            raise UsageError(
                f"Model {self.model!r} belongs to {named}, but connection {str(self._connection)!r} is of {provider.name}. "
                "Change one of the two."
            )
        return provider

    def _awaited(self, batch_id: str) -> tuple[str, ...]:
        """Return the batches to poll: an id of a whole submission also waits for what was bought later."""
        purchase = self._submissions.purchases.get(batch_id)
        if purchase is None:
            return (batch_id,)
        later = self._submissions.unlanded(purchase.submission) if purchase.chunk is None else ()
        return tuple(dict.fromkeys([*purchase.batch_ids, *later]))

    async def _purchase(self, batch_id: str) -> Purchase | None:
        return await asyncio.to_thread(self._submissions.purchases.get, batch_id)

    def _scratch(self) -> Directory:
        path = lasting_folder()
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return Directory(UPath(path))
