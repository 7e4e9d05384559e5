"""The ledger of one task instance: plan, claim, submit, wait, land, next wave; may be killed anywhere and run again.

Every method starts from the files and leaves them so that the next call, in whatever process, goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import NotFound, OverBudget, Overtaken, Unavailable, UsageError
from airflow_batch_provider.ledger.budget_check import check_plan
from airflow_batch_provider.ledger.current_wave import CurrentWave
from airflow_batch_provider.ledger.ended_batches import EndedBatches, clean_up
from airflow_batch_provider.ledger.landed import LandedRows, count_landed
from airflow_batch_provider.ledger.later_waves import LaterWaves
from airflow_batch_provider.ledger.limit import spent_on_others
from airflow_batch_provider.ledger.manifest import write_results
from airflow_batch_provider.ledger.plan import Planner
from airflow_batch_provider.ledger.retry import RetryBudget
from airflow_batch_provider.ledger.waiting import Waiting
from airflow_batch_provider.ledger.wave import WaveRun
from airflow_batch_provider.timing import SEARCH_PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta
    from decimal import Decimal

    from airflow_batch_provider.blocks import InBlocks
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.final_files import Target
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.ledger.manifest import Outcome
    from airflow_batch_provider.ledger.plan import Draft
    from airflow_batch_provider.ledger.records import Plan, Receipt, Wave
    from airflow_batch_provider.models import Cost, Manifest
    from airflow_batch_provider.pricing import Forecast
    from airflow_batch_provider.tables.keeping import Keeper

log = logging.getLogger(__name__)


class Ledger:
    """One task instance's ledger.

    Attributes:
        withheld: rows that were not bought at the last advance because of their cost.
    """

    def __init__(self, context: LedgerContext) -> None:
        self.root = context.root
        self.files = context.files
        self._context = context
        self._planner = Planner(context)
        self._later = LaterWaves(context)
        self.withheld: Withheld | None = None

    @property
    def provider(self) -> str:
        """Return the name of the provider that is asked."""
        return self._context.provider.name

    # what is asked

    def plan(self) -> Plan | None:
        """Return what this ledger asks, None before it is planned."""
        return self.files.plan()

    def waves(self) -> list[Wave]:
        """Return the waves that are committed, in order."""
        return self.files.waves()

    def current_plan(self, requests: Iterable[Any] | InBlocks) -> Plan | None:
        """Return the plan of these requests, None when they must be planned; see `Planner.current_plan`."""
        return self._planner.current_plan(requests)

    def draft(self, requests: Iterable[Any] | InBlocks, keeper: Keeper | None = None) -> Draft:
        """Write the request files of a new plan, to be priced and committed; see `Planner.draft`."""
        return self._planner.draft(requests, keeper)

    def keep(self, plan: Plan, keeper: Keeper | None) -> None:
        """Keep the columns of a plan's rows that were just read, unless the plan has these; see `Planner.keep`."""
        self._planner.keep(plan, keeper)

    def forecast(self, plan: Plan) -> Forecast:
        """Return what the first wave of a plan may use and cost at most, at the prices of this moment.

        Raises:
            UsageError: the connection's own prices cannot be read.
        """
        return self._context.forecast(self.files.batches(plan.first), plan.spec)

    def check_budgets(self, expected: Forecast) -> None:
        """Refuse a plan for which the deployment's budgets have no room; see `budget_check.check_plan`."""
        check_plan(self._context, expected)

    # what is bought

    async def advance(self) -> Waiting | None:
        """Land what ended, submit what has a place, open the next wave; None when there is nothing left to ask.

        Raises:
            Unresolved: a batch may or may not have been bought.
            Overtaken: another worker goes on with the task.
            Rejected, Paused: the provider refuses; what was bought stays in the ledger.
            RowsFailed: the canary failed, or not one answer could be read; nothing more is bought.
            OverBudget: nothing was ever bought, because a limit of money has no room for it.
        """
        plan, waves = self.plan(), self.waves()
        if plan is None or not waves:
            raise UsageError(f"{self.root} has no plan. Clear the task to start it again.")
        while True:
            progress = await WaveRun(CurrentWave(self._context, plan, waves)).drive()
            if not progress.is_done:
                now = self._context.clock.now()
                return Waiting.at(progress, started_at=self.files.start_clock(now), now=now)
            if progress.canary is not None and waves[-1].attempt == self._context.attempt:
                raise progress.canary.error()
            if progress.withheld and not self.has_bought():
                self.stop_clock()
                raise OverBudget(str(progress.withheld))
            wave = None if progress.withheld else self._later.open_next(plan, waves)
            if wave is None:
                self.withheld = progress.withheld or self._later.withheld
                self.stop_clock()
                return None
            waves.append(wave)

    def has_bought(self) -> bool:
        """Tell whether anything was bought: as a batch, or in realtime, which leaves rows and no receipt."""
        batches = (batch for wave in self.waves() for batch in self.files.batches(wave))
        return bool(self.receipts()) or any(batch.has_landed() for batch in batches)

    async def land(self) -> Waiting | None:
        """Land what ended and buy nothing; return what is still waited for, None when every batch has landed.

        Raises:
            Unavailable: the provider does not answer.
        """
        return await asyncio.to_thread(self._landed, await self._land())

    async def _land(self) -> datetime | None:
        """Land what ended, and delete what the provider keeps of it; return when to come back for late answers."""
        wave, unlanded = await asyncio.to_thread(self._last_wave)
        late_at = await EndedBatches(wave).land()
        for receipt in await asyncio.to_thread(self._landed_of, unlanded):
            await clean_up(self._context, receipt.batch_id)
        return late_at

    def _last_wave(self) -> tuple[CurrentWave, list[Receipt]]:
        plan = self.plan()
        assert plan is not None  # only what was bought can land
        return CurrentWave(self._context, plan, self.waves()), self.receipts(unlanded=True)

    def _landed_of(self, receipts: list[Receipt]) -> list[Receipt]:
        unlanded = self.receipts(unlanded=True)
        return [receipt for receipt in self.receipts() if receipt in receipts and receipt not in unlanded]

    def _landed(self, late_at: datetime | None) -> Waiting | None:
        run, now = self._last_wave()[0], self._context.clock.now()
        progress = run.progress()
        progress.resume_at = late_at or progress.resume_at
        return (
            None if progress.is_done else Waiting.at(progress, started_at=self.files.clock_started_at() or now, now=now)
        )

    def receipts(self, *, unlanded: bool = False) -> list[Receipt]:
        """Return all bought batches, oldest first; with `unlanded` only those without rows yet."""
        return self.files.receipts(self.waves(), unlanded=unlanded)

    def certain(self) -> list[Receipt]:
        """Return every batch that has not landed and surely is ours, oldest first."""
        return [receipt for receipt in self.receipts(unlanded=True) if not receipt.tentative]

    async def cancel(self, budget: timedelta) -> int:
        """Stop the clock, and at the provider every batch that has not landed and surely is ours; return how many.

        Args:
            budget: time to wait in all while the provider fails for a passing reason.

        Raises:
            NotFound: the provider does not show one of them.
            Unavailable: it failed for longer.
            Overtaken: another worker has gone on with them meanwhile.
        """
        await asyncio.to_thread(self.stop_clock)
        ours = await asyncio.to_thread(self.certain)
        retries = RetryBudget(self._context.provider.name, self._context.clock, budget)
        unknown: NotFound | None = None
        for receipt in ours:
            log.warning("Cancelling batch %s.", receipt.batch_id)
            try:
                await self._cancel(receipt, retries)
            except NotFound as error:  # not visible yet; the others are cancelled nevertheless
                unknown = error
        if unknown is not None:
            raise unknown
        return len(ours)

    async def _cancel(self, receipt: Receipt, retries: RetryBudget) -> None:
        while True:
            if await asyncio.to_thread(self.files.clock_runs):
                raise Overtaken(
                    f"Another worker goes on with the batches of {self.root}, so they are not cancelled. No action is needed."
                )
            try:
                return await self._context.provider.cancel(receipt.batch_id)
            except Unavailable as error:
                await retries.wait(error)

    async def settle(self, max_wait: timedelta) -> bool:
        """Wait until every batch has ended and land it; False when that took too long."""
        plan, waves, clock = self.plan(), self.waves(), self._context.clock
        give_up = clock.now() + max_wait
        while plan and waves:
            last = CurrentWave(self._context, plan, waves)
            try:
                await EndedBatches(last).land()
            except Unavailable as error:
                log.warning("%s does not answer now: %s", self._context.provider.name, error)
            if not last.progress().in_flight:
                break
            if clock.now() >= give_up:
                return False
            await clock.sleep(min(SEARCH_PAUSE, max_wait).total_seconds())
        return True

    async def clean_up(self) -> None:
        """Delete the files that the provider keeps of the landed batches; a failure to is logged, never raised."""
        # A successor of this worker may wait for some of them.
        unlanded = {receipt.batch_id for receipt in self.receipts(unlanded=True)}
        for receipt in self.receipts():
            if receipt.batch_id not in unlanded:
                await clean_up(self._context, receipt.batch_id)

    def spent_on_others(self) -> Decimal:
        """Return what requests have cost that were set aside for these, US dollars; see `limit.spent_on_others`."""
        return spent_on_others(self._context)

    def stop_clock(self) -> None:
        """Give the next attempt a deadline of its own."""
        self.files.stop_clock()

    def renew_clock(self, max_wait: timedelta) -> None:
        """Give an attempt that begins after the deadline of an earlier one, which did not end by it, its own as well."""
        started_at = self.files.clock_started_at()
        if started_at is not None and started_at + max_wait <= self._context.clock.now():
            self.stop_clock()

    # what became of it

    def landed(self, estimate: Cost | None = None) -> LandedRows | None:
        """Return the sums over all rows that have landed, None before there is a plan; see `landed.count_landed`."""
        plan = self.plan()
        return None if plan is None else count_landed(self._context, plan, self.waves(), estimate)

    def write_results(self, stage: str, target: Target) -> Outcome:
        """Write the results, whole, and sum them up; see `manifest.write_results`."""
        plan = self.plan()
        assert plan is not None  # only a planned ledger has results
        return write_results(self._context, plan, stage, target, self.withheld)

    def is_written(self, manifest: Manifest, target: Target) -> bool:
        """Tell whether the results of a finished task are there as they are asked for now; see `Target.is_of`."""
        plan = self.plan()
        return plan is not None and target.is_of(manifest, plan, self.files)

    def finished(self) -> Manifest | None:
        """Return the manifest of a task that is done, None when a batch was bought since or has yet to land."""
        manifest = self.files.manifest()
        if manifest is None or self.receipts(unlanded=True):
            return None
        batches = tuple(receipt.batch_id for receipt in self.receipts())
        return manifest if (manifest.waves, manifest.batches) == (len(self.waves()), batches) else None
