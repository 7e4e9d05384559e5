"""The ledger of one task instance: plan, claim, submit, wait, land, next wave; may be killed anywhere and run again.

Every method starts from the files and leaves them so that the next call, in whatever process, goes on from there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import NotFound, Unavailable, Unresolved, UsageError
from airflow_batch_provider.ledger.patience import Patience
from airflow_batch_provider.ledger.plan import wire_line
from airflow_batch_provider.ledger.planner import Planner
from airflow_batch_provider.ledger.records import CLOCK, ClockRecord
from airflow_batch_provider.ledger.rounds import Round, clean_up, started_at
from airflow_batch_provider.ledger.waves import planned_rows, read_waves, receipts
from airflow_batch_provider.pricing import Bill, Forecast, forecast, price_book
from airflow_batch_provider.records import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

    from airflow_batch_provider.ledger.records import Plan, Receipt, Wave
    from airflow_batch_provider.ledger.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """Nothing to do before the provider has done something.

    Attributes:
        batch_ids: batches at the provider that have not ended, oldest first.
        queued: parts that wait for a place.
        started_at: when the deadline began to count.
        seen_at: when this was found.
        resume_at: when to come back although no batch ended, because the provider failed for a passing reason.
        held: True when coming back before `resume_at` is of no use.
        tentative: those of `batch_ids` that may turn out to be somebody else's.
        newest_at: when the last of them was bought.
    """

    batch_ids: tuple[str, ...]
    queued: int
    started_at: datetime
    seen_at: datetime
    resume_at: datetime | None = None
    held: bool = False
    tentative: tuple[str, ...] = ()
    newest_at: datetime | None = None


class Ledger:
    """One task instance's ledger."""

    def __init__(self, work: Work) -> None:
        self.root = work.root
        self._work = work
        self._planner = Planner(work)

    def plan(self) -> Plan | None:
        """What this ledger asks, None before it is planned."""
        return self._planner.plan()

    def open_plan(self, requests: Callable[[], Iterable[Any]], check: Callable[[Plan, Wave], None]) -> Plan:
        """The plan of these requests; see `Planner.open_plan`."""
        return self._planner.open_plan(requests, check)

    def waves(self) -> list[Wave]:
        """The waves that are sealed, in order."""
        return read_waves(self.root)

    async def advance(self) -> Waiting | None:
        """Land what ended, submit what has a place, open the next wave; None when there is nothing left to ask.

        Raises:
            Unresolved: a batch may or may not have been bought.
            Rejected, Paused: the provider refuses; what was bought stays in the ledger.
        """
        plan, waves = self.plan(), self.waves()
        if plan is None or not waves:
            raise UsageError(f"{self.root} has no plan. Clear the task to start it again.")
        while True:
            standing = await Round(self._work, plan, waves).drive()
            if not standing.is_done:
                return Waiting(
                    batch_ids=tuple(receipt.batch_id for _, receipt in standing.in_flight),
                    queued=len(standing.queued) + len(standing.resting),
                    started_at=started_at(self._work),
                    seen_at=self._work.clock.now(),
                    resume_at=standing.resume_at,
                    held=standing.held,
                    tentative=tuple(receipt.batch_id for _, receipt in standing.in_flight if receipt.tentative),
                    newest_at=max((receipt.submitted_at for _, receipt in standing.in_flight), default=None),
                )
            wave = self._planner.open_wave(plan, waves)
            if wave is None:
                self.stop_clock()
                return None
            waves.append(wave)

    def receipts(self, *, unlanded: bool = False) -> list[Receipt]:
        """Every batch that was bought, oldest first; with `unlanded` only those whose rows are not here yet."""
        return receipts(self.root, self.waves(), unlanded=unlanded)

    def bill(self, plan: Plan) -> Bill:
        """Return an empty bill at the prices of this moment.

        Raises:
            UsageError: the connection's own prices cannot be read.
        """
        return Bill(price_book(self._work.provider.account), plan.spec.model)

    def forecast(self, plan: Plan, wave: Wave) -> Forecast:
        """Return what the rows of a wave may use and cost at most, read from its request files.

        Raises:
            UsageError: the connection's own prices cannot be read.
        """
        rows = planned_rows(self.root, wave)
        lines = (wire_line(self._work.provider, row, plan.spec) for row in rows)
        return forecast(lines, self.bill(plan), plan.spec)

    async def cancel(self, budget: timedelta) -> int:
        """Stop the clock, and at the provider every batch that has not landed and surely is ours; returns how many.

        Args:
            budget: time to wait in all while the provider fails for a passing reason.

        Raises:
            NotFound: the provider does not show one of them.
            Unavailable: it failed for longer.
            Unresolved: another worker has gone on with them meanwhile.
        """
        self.stop_clock()
        ours = [receipt for receipt in self.receipts(unlanded=True) if not receipt.tentative]
        patience = Patience(self._work.provider.name, self._work.clock, budget)
        unknown = None
        for receipt in ours:
            log.info("Cancelling batch %s.", receipt.batch_id)
            try:
                await patience.repeat(partial(self._cancel, receipt))
            except NotFound as error:  # not visible yet; the others are cancelled nevertheless
                unknown = error
        if unknown is not None:
            raise unknown
        return len(ours)

    async def _cancel(self, receipt: Receipt) -> None:
        if self.root.exists(CLOCK):
            raise Unresolved(
                f"Another worker goes on with the batches of {self.root}, so they are not cancelled. Nothing is to be done."
            )
        await self._work.provider.cancel(receipt.batch_id)

    async def settle(self, patience: timedelta) -> bool:
        """Wait until every batch has ended and land it; False when the patience ran out first."""
        plan, waves, clock = self.plan(), self.waves(), self._work.clock
        give_up = clock.now() + patience
        while plan and waves:
            last = Round(self._work, plan, waves)
            try:
                await last.land_ended()
            except Unavailable as error:
                log.warning("%s does not answer now: %s", self._work.provider.name, error)
            if not last.standing().in_flight:
                break
            if clock.now() >= give_up:
                return False
            await clock.sleep(min(10.0, patience.total_seconds()))
        return True

    async def clean_up(self) -> None:
        """Delete what the provider keeps of the landed batches; a failure to is logged, never raised."""
        # A successor of this worker may wait for some of them.
        unlanded = {receipt.batch_id for receipt in self.receipts(unlanded=True)}
        for receipt in self.receipts():
            if receipt.batch_id not in unlanded:
                await clean_up(self._work, receipt.batch_id)

    def stop_clock(self) -> None:
        """The next attempt gets its own deadline."""
        self.root.delete(CLOCK)

    def renew_clock(self, max_wait: timedelta) -> None:
        """An attempt that begins after the deadline of an earlier one, which did not end by it, gets its own as well."""
        record = load(self.root, CLOCK, ClockRecord)
        if record is not None and record.started_at + max_wait <= self._work.clock.now():
            self.stop_clock()
