"""One wave on its way: land what has ended, submit what has a place; where its parts stand is read from their files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Paused, Unavailable, Unresolved
from airflow_batch_provider.ledger.claims import Order
from airflow_batch_provider.ledger.land import ForeignBatch, Landing, NotSentYet, land
from airflow_batch_provider.ledger.records import CLOCK, ClockRecord, Part, Plan, Receipt, Void, Wave
from airflow_batch_provider.ledger.submit import GRACE, submit_once
from airflow_batch_provider.ledger.waves import planned_rows, receipts, stands, voids, wave_directory
from airflow_batch_provider.providers.listing import whole
from airflow_batch_provider.records import load, save

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.work import Work
    from airflow_batch_provider.models import BatchStatus

log = logging.getLogger(__name__)

# Seconds until the next try after a passing fault, when the provider does not say.
COME_BACK = 60.0
# How long the part of a batch that failed as a whole rests: twice as long each time.
REST = timedelta(minutes=1)
LONGEST_REST = timedelta(hours=1)
# A batch that the provider does not know this long after its create is not late but gone.
LATE = 10 * GRACE


@dataclass
class Standing:
    """Where the parts of a wave stand; those that have landed are not in it.

    Attributes:
        queued: parts that wait for a place at the provider.
        resting: parts whose batch failed as a whole and which are not due yet.
        resume_at: when to come back although no batch ended.
        held: True when coming back earlier is of no use, even if a batch ends: the provider asked for time.
    """

    in_flight: list[tuple[Part, Receipt]] = field(default_factory=list)
    queued: list[Part] = field(default_factory=list)
    resting: list[Void] = field(default_factory=list)
    resume_at: datetime | None = None
    held: bool = False

    @property
    def is_done(self) -> bool:
        """True when every part has landed."""
        return not (self.in_flight or self.queued or self.resting)

    @property
    def tokens(self) -> int:
        """Estimated input tokens at the provider."""
        return sum(part.tokens for part, _ in self.in_flight)


class Round:
    """The batches of one wave.

    Args:
        waves: all waves up to this one, which is the last.
    """

    def __init__(self, work: Work, plan: Plan, waves: list[Wave]) -> None:
        self._work = work
        self._plan = plan
        self._waves = waves
        self._wave = waves[-1]
        self._directory = wave_directory(work.root, self._wave.number)

    async def drive(self) -> Standing:
        """Land and submit as far as the provider lets us; a passing fault ends it and says when to come back."""
        try:
            late_at = await self.land_ended()
            await self._submit_queued()
        except Unavailable as error:
            standing = self.standing()
            standing.held = True
            standing.resume_at = self._work.clock.now() + timedelta(seconds=error.retry_after or COME_BACK)
            name = self._work.provider.name
            log.warning("%s does not answer now: %s Coming back at %s.", name, error, standing.resume_at)
            return standing
        standing = self.standing()
        if late_at is not None:
            standing.held, standing.resume_at = True, late_at
        elif standing.queued and not standing.in_flight and standing.resume_at is None:
            standing.resume_at = self._work.clock.now()  # its rest has just ended, and no batch would wake us
        return standing

    def standing(self) -> Standing:
        """Where the parts stand, by their files."""
        names = set(self._directory.names())
        standing = Standing()
        for part in self._wave.parts:
            if part.rows_name in names:
                continue
            receipt = self._receipt(part) if f"{part.name}.receipt.json" in names else None
            void = self._last_void(part, names)
            if receipt is not None:
                standing.in_flight.append((part, receipt))
            elif void is not None and void.again_at > self._work.clock.now():
                standing.resting.append(void)
            else:
                standing.queued.append(part)
        standing.resume_at = min((void.again_at for void in standing.resting), default=None)
        return standing

    def _receipt(self, part: Part) -> Receipt | None:
        receipt = load(self._directory, f"{part.name}.receipt.json", Receipt)
        return receipt if receipt and self._wave.owns(receipt.tag) else None

    def _last_void(self, part: Part, names: Iterable[str]) -> Void | None:
        number = voids(part, names)
        return load(self._directory, f"{part.name}.void-{number}.json", Void) if number else None

    # to the provider

    async def _submit_queued(self) -> None:
        """Buy the parts that have no receipt, in order, while there is a place for them."""
        work, standing = self._work, self.standing()
        limit = work.policy.in_flight or work.provider.limits(work.spec).in_flight
        budget = work.policy.enqueued_tokens
        for part in standing.queued:
            over = budget is not None and standing.in_flight and standing.tokens + part.tokens > budget
            if len(standing.in_flight) >= limit or over:
                return
            started_at(work)
            receipt = await submit_once(self._order(part), work.provider, work.clock)
            standing.in_flight.append((part, receipt))

    def _order(self, part: Part) -> Order:
        work, plan, wave = self._work, self._plan, self._wave

        def lines(tag: str) -> Iterator[tuple[str, bytes]]:
            only = wave.model_copy(update={"parts": (part,)})
            for row in planned_rows(work.root, only):
                key = f"{tag}-{row.index}"
                yield key, work.provider.codec.line(key, bytes(row.body), plan.spec)

        *voided, tag = plan.tags(wave.number, part.number, voids(part, self._directory.names()))
        return Order(
            directory=self._directory,
            name=part.name,
            tag=tag,
            is_outdated=lambda tag: tag in voided or not wave.owns(tag),
            stands=lambda: stands(work.root, plan),
            label=work.label,
            spec=plan.spec,
            requests=part.requests,
            lines=lines,
            attempt=work.attempt,
            is_siblings=lambda batch_id: batch_id in {receipt.batch_id for receipt in receipts(work.root, self._waves)},
            registry=work.registry,
        )

    # from the provider

    async def land_ended(self) -> datetime | None:
        """Land every batch that has ended; put the part of one that failed as a whole back into the queue.

        Returns:
            When to look again at one that has ended and does not send all its answers yet.
        """
        late_at: datetime | None = None
        in_flight = self.standing().in_flight
        if not in_flight:
            return None
        statuses = await self._work.provider.statuses([receipt.batch_id for _, receipt in in_flight])
        for part, receipt in in_flight:
            status = statuses.get(receipt.batch_id)
            if status is None:
                self._check_visible(receipt)
            elif isinstance(status, BatchError):
                continue
            elif status.status == "failed" and status.retryable:
                await self._void(part, receipt, status)
            elif status.ended:
                late_at = await self._land(part, receipt, status) or late_at
        _check_paid(whole(statuses).values())
        return late_at

    def _check_visible(self, receipt: Receipt) -> None:
        """A batch that is not there just after its create is not visible yet; later it is gone."""
        if self._work.clock.now() - receipt.submitted_at > LATE:
            raise Unresolved(
                f"{self._work.provider.name} does not know batch {receipt.batch_id!r}, bought "
                f"{receipt.submitted_at:%F %T}. Check that the connection has the same account as then; to buy its rows "
                f"again delete the .receipt.json and .claim*.json of {receipt.tag!r} in {self._work.root}."
            )

    async def _land(self, part: Part, receipt: Receipt, status: BatchStatus) -> datetime | None:
        """Land one ended batch, or say when to try again; one that turns out to be somebody else's is looked for again."""
        work = self._work
        landing = Landing(
            self._directory, self._wave.number, part, receipt, self._plan.spec, work.policy.retry_truncated
        )
        try:
            counts = await land(landing, work.provider, status, work.clock.now())
        except ForeignBatch:
            log.warning("Batch %s is not ours after all: looking for %s again.", receipt.batch_id, receipt.tag)
            self._directory.delete(f"{part.name}.receipt.json")  # the claim stays: ours may have become visible since
            self._unknow(receipt)
            return None
        except NotSentYet as error:
            log.warning("%s", error)
            return work.clock.now() + timedelta(seconds=error.retry_after or COME_BACK)
        self._leave(receipt)
        said = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
        log.info("Landed batch %s (%s): %s.", receipt.batch_id, status.status, said)
        return None

    async def _void(self, part: Part, receipt: Receipt, status: BatchStatus) -> None:
        """Put the part of a batch that failed as a whole, unbilled, back into the queue, after a rest that grows."""
        current = self._receipt(part)
        if current is None or current.batch_id != receipt.batch_id:
            return  # another worker did it already, and may have bought the part since
        names = self._directory.names()
        last, number = self._last_void(part, names), voids(part, names) + 1
        if last is None or last.batch_id != receipt.batch_id:  # no worker died right after this
            again_at = self._work.clock.now() + min(REST * 2 ** min(number - 1, 10), LONGEST_REST)
            log.warning("Batch %s failed: %s It is submitted again at %s.", receipt.batch_id, status.error, again_at)
            void = Void(batch_id=receipt.batch_id, reason=status.error or "", again_at=again_at)
            save(self._directory, f"{part.name}.void-{number}.json", void)
        # The claim stays until the next one replaces it: by now that may be another worker's, and must not get lost.
        self._directory.delete(f"{part.name}.receipt.json")
        self._leave(receipt)
        await clean_up(self._work, receipt.batch_id)

    def _leave(self, receipt: Receipt) -> None:
        if self._work.registry is not None:
            self._work.registry.leave(receipt.tag)

    def _unknow(self, receipt: Receipt) -> None:
        """The deployment still has a claimed batch under this tag, but not this one."""
        registry = self._work.registry
        if registry is not None and (entry := registry.get(receipt.tag)):
            registry.enter(entry.model_copy(update={"batch_id": None, "tentative": False}))


def _check_paid(statuses: Iterable[BatchStatus]) -> None:
    """Stop for a person to pay; what failed for want of money is bought by the next attempt."""
    for status in statuses:
        if status.unpaid:
            raise Paused(
                f"Batch {status.batch_id} failed for want of credit, and nothing of it ran: {status.error} Pay at the "
                "provider, then clear the task: it buys what is left."
            )


async def clean_up(work: Work, batch_id: str) -> None:
    """Delete what the provider keeps of a batch that is of no use there any more; a failure to is logged, never raised."""
    if not work.policy.clean_up:
        return
    try:
        await work.provider.clean_up(batch_id)
    except Exception as error:  # noqa: BLE001 — the answers are safe; left-over files only cost storage
        log.warning("Could not clean up batch %s at %s: %s", batch_id, work.provider.name, error)


def started_at(work: Work) -> datetime:
    """When the deadline began to count: at the first submit since the last deadline."""
    record = load(work.root, CLOCK, ClockRecord)
    if record is None:
        record = ClockRecord(started_at=work.clock.now())
        save(work.root, CLOCK, record)
    return record.started_at
