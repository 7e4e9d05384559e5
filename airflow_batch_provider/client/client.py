"""A client for batches of one model, for stages of one's own and for the hook: submit, look, get results, cancel."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from upath import UPath

from airflow_batch_provider.client.purchases import AskedRow, Purchase, Purchases, cut_once
from airflow_batch_provider.client.spending import Record, Spending, Stats
from airflow_batch_provider.clock import Clock, random_id
from airflow_batch_provider.exceptions import NotFound, Unresolved, UsageError
from airflow_batch_provider.layout import SUBMISSIONS
from airflow_batch_provider.ledger import LedgerContext, Policy
from airflow_batch_provider.ledger.batch import BatchToBuy
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.landing import absence, checked
from airflow_batch_provider.ledger.records import Chunk, Plan, PlannedRow, Receipt, Wave, encoded
from airflow_batch_provider.ledger.requests import ChunkLimits, ChunkWriter, Fingerprint, plan_rows
from airflow_batch_provider.ledger.submit import submit_once
from airflow_batch_provider.models import BatchRow, BatchState, FrozenModel, Kind, Reply, Spec, Usage, json_schema
from airflow_batch_provider.pricing import cost
from airflow_batch_provider.providers import split_model
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchStatus, ConnectionRef
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.providers.base import BatchProvider, Candidate
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import StageStorage

log = logging.getLogger(__name__)

# What all three providers take as a key (Anthropic's rule is the narrowest: [a-zA-Z0-9_-]{1,64}), less our own prefix.
_LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]{1,49}")
_OUR_PREFIX = re.compile(r"\A[0-9a-f]{12}-c-")
_ONE_WAVE = Policy(
    retry_rows=0, in_flight=None, enqueued_tokens=None, retry_truncated=False, clean_up=False, leave_running=False
)
_DEAD: frozenset[BatchState] = frozenset({"failed", "expired", "cancelled"})


class BatchHandle(FrozenModel):
    """What a submit returns.

    Attributes:
        id: the first batch; the one that a stage suspends with.
        batch_ids: every batch that the requests were cut into.
    """

    id: str
    status: BatchState
    provider: str
    batch_ids: tuple[str, ...]


class BatchClient:
    """Batches of one model over one connection.

    Args:
        hub: the open connections of this process.
        connection: Airflow connection that pays.
        model: `claude-…`, or with its provider: `openai:gpt-…`.
        storage: a stage's storage, in which every submit is claimed before it is paid, so that the same requests are
            bought once whatever happens; None submits without that protection.
        label: whose the batches are, for the provider's console.
        kind: text or vectors; by default vectors when the model's name says `embedding`.
        registry: what this deployment has at the providers, so that a lost batch is told from a neighbour's.
    """

    def __init__(
        self,
        hub: Hub | Subscription,
        connection: ConnectionRef,
        model: str,
        *,
        storage: StageStorage | None = None,
        label: str = "",
        clock: Clock | None = None,
        kind: Kind | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.model = model
        self.kind: Kind = kind or ("embed" if "embedding" in model else "generate")
        self._hub = hub
        self._connection = connection
        self._storage = storage
        self._label = label
        self._clock = clock or Clock()
        self._registry = registry
        self._spending = Spending(storage.directory if storage else None)

    async def submit(
        self,
        requests: Iterable[Any],
        *,
        batch_size: int | None = None,
        system: str | None = None,
        output_type: type[BaseModel] | dict[str, Any] | None = None,
        max_tokens: int = 1024,
        request_params: dict[str, Any] | None = None,
    ) -> BatchHandle:
        """Buy the answers to these requests, cut into as many batches as the provider's limits ask for.

        Args:
            requests: list of str, dict or `BatchRequest`; `custom_id` is `request-{i}` when none is given.
            batch_size: most requests in one batch; the provider's limit by default. Requests that this stage has
                submitted before stay cut as they were.
            max_tokens: tokens of one answer.

        Raises:
            UsageError: no requests, a wrong one, a `custom_id` other than 1 to 49 of `[a-zA-Z0-9_-]`, or a wrong size.
            Unresolved: an earlier submit of the same requests may or may not have happened.
        """
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size={batch_size!r} leaves no room for a request. Give 1 or more, or None.")
        provider = await self._provider()
        spec = Spec(
            kind=self.kind,
            model=split_model(self.model)[1],
            system=system,
            max_tokens=max_tokens,
            output_schema=json_schema(output_type),
            request_params=request_params or {},
        )
        provider.check_spec(spec)
        if spec.output_schema:
            AnswerSchema(spec.output_schema)
        rows = list(plan_rows(requests, provider, spec))
        for row in rows:
            _check_id(row.custom_id)
        limits = provider.limits(spec)
        cut = ChunkLimits(min(batch_size or limits.requests, limits.requests), limits.bytes)
        with self._submission(provider, spec, rows, cut) as (root, name, chunks):
            receipts = [await self._buy(_Sending(provider, spec, root, name), chunk) for chunk in chunks]
        ids = tuple(receipt.batch_id for receipt in receipts)
        return BatchHandle(id=ids[0], status="pending", provider=provider.name, batch_ids=ids)

    async def get_status(self, batch_id: str) -> BatchStatus:
        """A look at one batch.

        Raises:
            NotFound, Unavailable, Denied: as the provider answers.
        """
        return await self._hub.status(self._connection, batch_id)

    async def get_results(
        self,
        batch_id: str,
        metadata: dict[str, Any] | None = None,
        *,
        output_type: type[BaseModel] | dict[str, Any] | None = None,
    ) -> list[BatchRow]:
        """Every result of an ended batch, as a list in memory: for big batches use the operators.

        Args:
            metadata: of the suspended state; `custom_ids` there names the rows of a batch that this stage's storage
                does not know. The rows come in the order asked, one for each request, where either knows them.
            output_type: answers that do not fit become `invalid`; by default what `submit` was told.

        Raises:
            NotFound, Unavailable, Denied: as the provider answers.
            Unresolved: the batch is not the one that was claimed (only Anthropic, after a lost answer to the create).
        """
        provider = await self._provider()
        purchase = await self._purchase(batch_id)
        replies: dict[str, Reply] = {}
        async for reply in provider.results(batch_id, self.kind):
            key = _custom_id(reply.key, purchase)
            if key not in replies or replies[key].status != "succeeded" or reply.status == "succeeded":
                replies[key] = reply
        schema = json_schema(output_type)
        custom_ids = (metadata or {}).get("custom_ids") or list(replies)
        asked = [AskedRow(custom_id, encoded(schema)) for custom_id in custom_ids]
        if purchase and self._storage:
            _check_ours(batch_id, purchase, replies.values())
            asked = await asyncio.to_thread(Purchases(self._storage.directory).asked, purchase, schema)
        absent = None
        if not replies.keys() >= {row.custom_id for row in asked}:
            absent = absence(await self.get_status(batch_id))
        return await asyncio.to_thread(_rows, batch_id, asked, replies, absent)

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop a batch; one that is over is no error."""
        await (await self._provider()).cancel(batch_id)

    async def is_recorded(self, batch_id: str) -> bool:
        """True when the cost of this batch has been counted."""
        return await asyncio.to_thread(self._spending.get, batch_id) is not None

    async def record_results(self, batch_id: str, rows: list[BatchRow]) -> Record:
        """Count what a batch cost, once: a second call returns the first record."""
        usage = sum((row.usage for row in rows), Usage())
        provider = (await self._provider()).name
        model = split_model(self.model)[1]
        record = Record(batch_id=batch_id, model=model, calls=len(rows), usage=usage, cost=cost(provider, model, usage))
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

    @contextmanager
    def _submission(
        self, provider: BatchProvider, spec: Spec, rows: list[PlannedRow], cut: ChunkLimits
    ) -> Iterator[tuple[Directory, str, tuple[Chunk, ...]]]:
        """Root and name of this submission's directory, and its chunks with their request files written."""
        with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
            root = self._storage.directory if self._storage else Directory(UPath(scratch))
            fingerprint = Fingerprint(f"{provider.name}\n{self._connection}", spec)
            for row in rows:
                fingerprint.add(msgspec.json.encode(row))
            name = f"{SUBMISSIONS}/{fingerprint}"
            writer = ChunkWriter(root.sub(name), provider, spec, cut, draft=random_id()[:8])
            yield root, name, cut_once(root.sub(name), writer, rows)

    async def _buy(self, sending: _Sending, chunk: Chunk) -> Receipt:
        await self._forget_useless(sending, chunk)
        batch = _SubmissionBatch(
            context=self._context(sending), plan=(plan := self._plan(sending, chunk)), waves=(plan.first,), chunk=chunk
        )
        receipt = await submit_once(batch)
        requests = f"{sending.name}/{batch.files.requests_name}"
        purchase = Purchase(tag=receipt.tag, requests=requests, output_schema=sending.spec.output_schema)
        sending.purchases.note(receipt.batch_id, purchase)
        return receipt

    def _context(self, sending: _Sending) -> LedgerContext:
        return LedgerContext(
            root=sending.root,
            provider=sending.provider,
            spec=sending.spec,
            policy=_ONE_WAVE,
            clock=self._clock,
            label=self._label,
            attempt=1,
            connection=self._connection,
            registry=self._registry,
        )

    def _plan(self, sending: _Sending, chunk: Chunk) -> Plan:
        now = self._clock.now()
        wave = Wave(nonce=random_id()[:12], number=0, attempt=1, opened_at=now, chunks=(chunk,))
        return Plan(
            fingerprint=sending.name,
            provider=sending.provider.name,
            spec=sending.spec,
            requests=chunk.requests,
            created_at=now,
            first=wave,
        )

    async def _forget_useless(self, sending: _Sending, chunk: Chunk) -> None:
        """Remove the receipt of a batch that died, to buy it again, or of one that is not surely ours, to search again."""
        files = BatchFiles.of(sending.directory, chunk)
        receipt = files.receipt()
        if receipt is None:
            return
        if receipt.tentative:
            sending.purchases.forget(receipt.batch_id)
            files.delete_receipt()
            return
        try:
            status = await sending.provider.status(receipt.batch_id)
        except NotFound:
            return  # not visible yet; whoever waits for it finds out when it never becomes so
        if status.status in _DEAD:
            log.info("Batch %s is %s: the same requests are bought again.", receipt.batch_id, status.status)
            claim = files.claim()
            # Another worker may have bought it again meanwhile; one that died right here left only the receipt.
            if claim is None or (claim.tag == receipt.tag and files.withdraw(claim)):
                files.delete_receipt()

    async def _purchase(self, batch_id: str) -> Purchase | None:
        if self._storage is None:
            return None
        return await asyncio.to_thread(Purchases(self._storage.directory).get, batch_id)


@dataclass(frozen=True)
class _Sending:
    """One submission: where its files are, and how its rows are written on the wire."""

    provider: BatchProvider
    spec: Spec
    root: Directory
    name: str

    @property
    def directory(self) -> Directory:
        return self.root.sub(self.name)

    @property
    def purchases(self) -> Purchases:
        return Purchases(self.root)


@dataclass(frozen=True, kw_only=True)
class _SubmissionBatch(BatchToBuy):
    """One chunk of a submission: it has no plan on disk, and its rows go by the keys of the user."""

    @property
    def files(self) -> BatchFiles:
        return BatchFiles.of(self.context.root.sub(self.plan.fingerprint), self.chunk)

    @property
    def tag(self) -> str:
        return f"{self.plan.nonce}-c"

    def is_outdated(self, tag: str) -> bool:  # noqa: ARG002 — a claim of an earlier submit of these rows counts
        return False

    def is_current(self) -> bool:
        return True

    def without_siblings(self, found: list[Candidate]) -> list[Candidate]:
        purchases = Purchases(self.context.root)
        return [one for one in found if one.batch_id not in purchases]

    def lines(self, tag: str) -> Iterator[tuple[str, bytes]]:
        for row in self.files.planned_rows():
            key = f"{tag}-{row.custom_id}"
            yield key, self.context.provider.codec.line(key, bytes(row.body), self.plan.spec)


def _check_id(custom_id: str) -> None:
    if not _LEGAL_ID.fullmatch(custom_id):
        raise UsageError(
            f"custom_id {custom_id!r} is not 1 to 49 of letters, digits, '_' and '-', which all providers take. "
            "Rename it, or use BatchGenerateOperator, which takes any."
        )


def _custom_id(key: str, purchase: Purchase | None) -> str:
    return key.removeprefix(f"{purchase.tag}-") if purchase else _OUR_PREFIX.sub("", key)


def _check_ours(batch_id: str, purchase: Purchase, replies: Iterable[Reply]) -> None:
    """Refuse results of which no key is ours: a batch that was adopted by its time and size was somebody else's."""
    keys = [reply.key for reply in replies]
    if keys and not any(key.startswith(purchase.tag) for key in keys):
        raise Unresolved(
            f"Batch {batch_id!r} was taken for {purchase.tag!r} by its time and size, but its answers are to other "
            "requests. Clear the task: the right one is then looked for again."
        )


def _rows(batch_id: str, asked: Iterable[AskedRow], replies: dict[str, Reply], absent: Reply | None) -> list[BatchRow]:
    rows = []
    for index, row in enumerate(asked):
        reply = checked(replies.get(row.custom_id) or absent or replies[row.custom_id], row.schema)
        fields = {name: getattr(reply, name) for name in Reply.model_fields if name != "key"}
        rows.append(BatchRow(custom_id=row.custom_id, index=index, batch_id=batch_id, **fields))
    return rows
