"""One submission of a stage's own client: a ledger of its own, which buys, lands and asks again as that of any task."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.client.purchases import Purchase
from airflow_batch_provider.exceptions import OverBudget, Unavailable, Unresolved
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import SUBMISSION
from airflow_batch_provider.ledger import Ledger, Policy, RetryBudget
from airflow_batch_provider.ledger.canary import canary_of
from airflow_batch_provider.ledger.landing import rechecked
from airflow_batch_provider.ledger.merge import best_rows, planned_rows
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.records import save
from airflow_batch_provider.rows import public
from airflow_batch_provider.schemas import answer_schema
from airflow_batch_provider.signals import SILENT
from airflow_batch_provider.timing import WORKER_RETRY_BUDGET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_batch_provider.client.purchases import Purchases
    from airflow_batch_provider.ledger import LedgerContext, Waiting, Wave
    from airflow_batch_provider.models import BatchRow
    from airflow_batch_provider.schemas import AnswerSchema

log = logging.getLogger(__name__)

# A submit is done when everything is bought, so it waits for no place at the provider; no plan has more batches.
_ALL_AT_ONCE = 100_000


class SubmissionRecord(FrozenModel):
    """The record that lets a later process go on with a submission, beside its plan.

    Attributes:
        connection: Airflow connection that paid.
        clean_up: as in `BatchConfig`.
    """

    connection: ConnectionRef
    clean_up: bool


@dataclass(frozen=True)
class Bought:
    """The batches of the last wave of a submission.

    Attributes:
        id: stands for every row of the submission, or for the canary while `rest` waits for it.
        is_done: every batch has landed, and no row is asked again.
        rest: rows that are not bought before the canary has landed.
    """

    id: str
    batch_ids: tuple[str, ...]
    is_done: bool
    rest: int = 0


class Submission:
    """One list of requests with its ledger.

    Args:
        name: its folder.
    """

    def __init__(self, name: str, context: LedgerContext, purchases: Purchases) -> None:
        self._name = name
        self._context = context
        self._ledger = Ledger(context)
        self._purchases = purchases

    async def buy(self, requests: Sequence[Any]) -> Bought:
        """Buy what is not bought: all rows at first, later those that have no good answer and may get one.

        Raises:
            Unavailable: the provider refuses for a passing reason; what was bought stays bought.
            Unresolved, Overtaken, Rejected, Paused: as `Ledger.advance`.
            OverBudget: a budget of the deployment has no room for the rest of the rows; what was bought stays bought.
            RowsFailed: most rows of the canary have no good answer, so the rest is not bought.
        """
        connection, policy = self._context.connection, self._context.policy
        assert connection is not None  # a client always has one
        save(self._ledger.root, SUBMISSION, SubmissionRecord(connection=connection, clean_up=policy.clean_up))
        while self._ledger.plan() is None:
            with self._ledger.draft(requests) as draft:
                self._ledger.check_budgets(draft.forecast)
                if draft.commit() and (gaps := draft.forecast.gaps):
                    log.warning("%s", gaps)
        budget = RetryBudget(self._context.provider.name, self._context.clock)
        while (waiting := await self._ledger.advance()) and waiting.queued and not self._ledger.withheld:
            if waiting.batch_ids and self._rest():
                break
            await budget.wait(self._refusal(waiting))
        if self._ledger.withheld:
            raise OverBudget(str(self._ledger.withheld))
        if waiting is None:
            await self._ledger.clean_up()
        await asyncio.to_thread(self._tell_landed)
        return self._noted(is_done=waiting is None)

    async def rows(self, purchase: Purchase, schema: AnswerSchema | None) -> list[BatchRow]:
        """Land what has ended, and return the best row of each request that the purchase stands for.

        Args:
            schema: replaces the one that all rows were asked with.

        Raises:
            Unavailable: a batch has not ended, or has not sent all its answers so far.
            Unresolved: the batch was taken for ours by its time and size, and is not.
        """
        waiting = await self._ledger.land()
        await asyncio.to_thread(self._tell_landed)
        return await asyncio.to_thread(self._rows, purchase, schema, waiting)

    async def cancel(self) -> tuple[str, ...]:
        """Ask the provider to stop every batch that has not landed and surely is ours; return their ids."""
        ours = tuple(receipt.batch_id for receipt in await asyncio.to_thread(self._ledger.certain))
        if ours:
            await self._ledger.cancel(WORKER_RETRY_BUDGET)
        return ours

    def _tell_landed(self) -> None:
        """Tell who observes the task what has landed; without anybody no row is counted for it."""
        if self._context.signals is SILENT:
            return
        try:
            self._ledger.landed()
        except Exception:  # the errors of object stores have no common class
            log.debug("The landed rows of %s cannot be counted", self._ledger.root, exc_info=True)

    def _refusal(self, waiting: Waiting) -> Unavailable:
        pause = waiting.resume_at - self._context.clock.now() if waiting.resume_at else None
        return Unavailable(
            f"{self._context.provider.name} did not take {waiting.queued} of the batches.",
            retry_after=max(pause.total_seconds(), 0.0) if pause else None,
            ambiguous=False,
        )

    def _noted(self, *, is_done: bool) -> Bought:
        """Put the batches of the last wave into the index; a canary alone stands for its own rows."""
        wave, rest = self._ledger.waves()[-1], self._rest()
        receipts = [batch.receipt() for batch in self._ledger.files.batches(wave)]
        ids = tuple(receipt.batch_id for receipt in receipts if receipt)
        if rest:
            self._purchases.note(ids[0], self._part(wave, 0, ids[0]))
            return Bought(ids[0], ids, is_done=False, rest=rest)
        whole = ids[0] if len(ids) == 1 else f"{ids[0]}+{len(ids) - 1}"
        self._purchases.note(whole, Purchase(submission=self._name, wave=wave.number, batch_ids=ids))
        for chunk, batch_id in zip(wave.chunks, ids, strict=True) if len(ids) > 1 else ():
            self._purchases.note(batch_id, self._part(wave, chunk.number, batch_id))
        return Bought(whole, ids, is_done)

    def _part(self, wave: Wave, chunk: int, batch_id: str) -> Purchase:
        return Purchase(submission=self._name, wave=wave.number, batch_ids=(batch_id,), chunk=chunk)

    def _rest(self) -> int:
        """Return the rows of the last wave that wait for its canary to land; 0 when none do."""
        wave = self._ledger.waves()[-1]
        return wave.requests - wave.canary if wave.canary and canary_of(self._ledger.files, wave) is None else 0

    def _rows(self, purchase: Purchase, schema: AnswerSchema | None, waiting: Waiting | None) -> list[BatchRow]:
        waves = self._ledger.waves()
        self._check_landed(purchase, waves[-1], waiting)
        rows = zip(best_rows(self._ledger.files, waves), self._schemas(waves[0], schema), strict=True)
        others = self._indices_of_others(purchase, waves)
        return [public(row if own is None else rechecked(row, own)) for row, own in rows if row.index not in others]

    def _check_landed(self, purchase: Purchase, last: Wave, waiting: Waiting | None) -> None:
        for batch in self._ledger.files.batches(last):
            is_part = purchase.chunk is not None and purchase.wave == last.number
            if batch.has_landed() or (is_part and batch.number != purchase.chunk):
                continue
            if batch.receipt() is not None:
                now = self._context.clock.now()
                pause = (waiting.resume_at - now).total_seconds() if waiting and waiting.resume_at else None
                raise Unavailable(
                    f"Batch {purchase.batch_ids[0]!r} has not ended, or has not sent all its answers so far.",
                    retry_after=pause,
                    ambiguous=False,
                )
            if not batch.failures(batch.names()):
                raise Unresolved(
                    f"Batch {purchase.batch_ids[0]!r} was taken for ours by its time and size, but its answers are to "
                    "other requests. Clear the task: the right one is then looked for again."
                )

    def _schemas(self, first: Wave, schema: AnswerSchema | None) -> Iterator[AnswerSchema | None]:
        """Return what each row is checked against once more: its own schema, or the one that replaces that of all rows."""
        rows = planned_rows(self._ledger.files, first)
        return ((answer_schema(bytes(row.schema)) if row.schema else schema) if schema else None for row in rows)

    def _indices_of_others(self, purchase: Purchase, waves: list[Wave]) -> set[int]:
        """Return the rows that other batches of the purchase's wave bring.

        The first batch of a wave also brings those rows that the wave does not ask, so that all batches together bring
        each row once.
        """
        if purchase.chunk is None:
            return set()
        asked = {
            batch.number: {row.index for row in batch.planned_rows()}
            for batch in self._ledger.files.batches(waves[purchase.wave])
        }
        own = asked.pop(purchase.chunk)
        if purchase.chunk == 0:
            return set().union(*asked.values())
        return set(range(sum(chunk.requests for chunk in waves[0].chunks))) - own


def policy_of(*, clean_up: bool, retry_rows: int = 0, batch_size: int | None = None, canary: int = 0) -> Policy:
    """Return how far a client's submission goes."""
    return Policy(
        retry_rows=retry_rows,
        in_flight=_ALL_AT_ONCE,
        enqueued_tokens=None,
        retry_truncated=False,
        waits_for_place=False,
        clean_up=clean_up,
        leave_running=False,
        batch_size=batch_size,
        canary=canary,
    )
