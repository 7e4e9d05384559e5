"""The plan of one task, drafted on disk with its first wave and committed before anything is paid.

Two workers may plan at once (a zombie and its successor). Each writes request files of its own; the one that makes the
record which names them was first, and the other goes on with the plan or wave of the first one.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from airflow_batch_provider.exceptions import Overtaken, UsageError
from airflow_batch_provider.formats import RESULT_FORMATS
from airflow_batch_provider.layout import CLOCK, MANIFEST, PLAN, RESULTS, SUPERSEDED, UNMET, WAVES
from airflow_batch_provider.ledger.apart import rows_apart
from airflow_batch_provider.ledger.bad_rows import refuse_bad
from airflow_batch_provider.ledger.records import Plan
from airflow_batch_provider.ledger.requests import Fingerprint, check_rows
from airflow_batch_provider.ledger.wave_drafts import WaveDrafts
from airflow_batch_provider.pricing import Forecast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from airflow_batch_provider.blocks import InBlocks
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Wave
    from airflow_batch_provider.tables.keeping import Keeper

log = logging.getLogger(__name__)

# The ledger's own files in the order in which a finished plan is set aside: answers first, and the plan last, so that
# an attempt which dies meanwhile leaves a plan that the next one sets aside again.
_SET_ASIDE = (RESULTS, *(f"{RESULTS}.{one}" for one in RESULT_FORMATS), UNMET, MANIFEST, WAVES, CLOCK, PLAN)


class Planner:
    """Writes the plan of one task instance."""

    def __init__(self, context: LedgerContext) -> None:
        self._context = context
        self._files = context.files
        self._drafts = WaveDrafts(context)
        # Both from the very beginning: a worker that began later may set plans aside from the next moment on.
        self._superseded = set(context.root.names(SUPERSEDED))
        self._began_at = context.clock.now()

    def current_plan(self, requests: Iterable[Any] | InBlocks) -> Plan | None:
        """Return the plan of these requests; None when they must be planned, because there is none or it was of others.

        A finished plan of other requests is set aside.

        Args:
            requests: can be gone through again and again.

        Raises:
            UsageError: a row or the spec is wrong, or the ledger holds other requests of which batches are still open.
            Overtaken: another worker has begun later, with other requests.
        """
        plan = self._files.plan()
        if plan is None:
            return None
        if self._fingerprint(requests) == plan.fingerprint:
            self._check_whole(plan)
            log.debug("Going on with the plan of %d requests in %s.", plan.requests, self._context.root)
            return plan
        self._supersede(plan, self._files.waves())
        return None

    def _check_whole(self, plan: Plan) -> None:
        """Refuse a plan that another worker is setting aside, or was when it died: its rows may have good answers."""
        root = self._context.root
        there = set(self._files.wave_directory(0).names())
        if not all(batch.requests_name in there for batch in self._files.batches(plan.first)):
            raise Overtaken(
                f"Another worker is setting these requests aside in {root}, to ask others. No action is needed while it "
                f"goes on. If there is none, give the task those others, or delete {root} to pay for these again."
            )

    def _fingerprint(self, requests: Iterable[Any] | InBlocks) -> str:
        context = self._context
        fingerprint = Fingerprint(context.provider.name, context.spec)
        rows = check_rows(requests, context.provider, context.spec)
        for block in rows if context.policy.skip_bad_rows else refuse_bad(rows):
            fingerprint.add(block)
        self._check_any(fingerprint)
        return str(fingerprint)

    def _check_any(self, fingerprint: Fingerprint) -> None:
        """Refuse to ask nothing, unless that is wanted."""
        if not self._context.policy.may_be_empty:
            fingerprint.check_any()

    def _supersede(self, plan: Plan, waves: list[Wave]) -> None:
        """Set a finished plan of other requests aside; refuse when any of its batches is still open."""
        root = self._context.root
        if plan.created_at > self._began_at:
            raise self._files.overtaken()
        if tag := self._files.open_tag(plan, waves):
            raise UsageError(
                f"{root} holds {plan.requests} other requests, and batch {tag!r} of them is still open. Restore the "
                "requests to go on with them, or delete that directory to pay for the new ones."
            )
        log.warning(
            "The requests changed since the last attempt: its results are kept in %s/%s.", SUPERSEDED, plan.nonce
        )
        self._superseded.add(plan.nonce)
        there = set(root.names())
        for name in _SET_ASIDE:
            if name in there and self._files.is_current(plan):  # no other worker did the same meanwhile
                root.move(name, f"{SUPERSEDED}/{plan.nonce}/{name}")

    def draft(self, requests: Iterable[Any] | InBlocks, keeper: Keeper | None = None) -> Draft:
        """Write the request files of a new plan; nothing counts before the draft is committed.

        Args:
            keeper: gathers columns of the source while the requests are read; they are kept with the plan.

        Raises:
            UsageError: a row or the spec is wrong.
        """
        context = self._context
        fingerprint = Fingerprint(context.provider.name, context.spec)
        nonce = context.new_id()[:12]
        forecast = Forecast(context.bill(context.spec))
        checked = check_rows(requests, context.provider, context.spec)
        with rows_apart(context, fingerprint) as apart:
            with closing(apart.without(checked)) as blocks:
                rows = (block.rows for block in blocks)
                wave = self._drafts.write(0, nonce, rows, apart.skipped, forecast, canary=context.policy.canary)
            self._check_any(fingerprint)
            apart.save(self._files, nonce)
        if keeper is not None:
            keeper.save(*self._files.kept(nonce, keeper.kept))
        plan = Plan(
            fingerprint=str(fingerprint),
            provider=context.provider.name,
            spec=context.spec,
            requests=fingerprint.requests,
            **apart.counts,
            created_at=context.clock.now(),
            first=wave,
        )
        return Draft(plan, forecast, self)

    def keep(self, plan: Plan, keeper: Keeper | None) -> None:
        """Keep columns of the rows of a plan, which were just read again, unless it has these already.

        So an attempt may ask for other columns than the one that planned, and buys nothing for them.
        """
        if keeper is None:
            return
        directory, stem = self._files.kept(plan.nonce, keeper.kept)
        if not any(name.startswith(f"{stem}.") for name in directory.names()):
            keeper.save(directory, stem)

    def check_latest(self) -> None:
        """Fence a zombie off, which must not plan the requests that its successor has just set aside.

        Raises:
            Overtaken: another worker has set a plan aside since this one began.
        """
        if set(self._context.root.names(SUPERSEDED)) - self._superseded:
            raise self._files.overtaken()

    def discard(self, plan: Plan) -> None:
        """Delete the request files of a draft that was not committed."""
        self._drafts.discard(plan.first)

    def commit(self, plan: Plan) -> bool:
        """Commit a draft. Return False when another worker's plan was first."""
        others = self._drafts.others(plan.first)
        if not self._files.add_plan(plan):
            log.warning("Another worker has just planned %s.", self._context.root)
            return False
        self._drafts.delete(0, others)
        log.debug("Planned: requests=%d batches=%d", plan.requests, len(plan.first.chunks))
        return True


@dataclass
class Draft:
    """A plan with its request files on disk, which does not count yet; leaving the block discards it.

    Attributes:
        plan: as it will be committed.
        forecast: what its first wave may use and cost at most.
    """

    plan: Plan
    forecast: Forecast
    _planner: Planner
    _may_count: bool = field(default=False, init=False)

    def commit(self) -> bool:
        """Commit the plan. Return False when another worker committed first; its plan is then the current one.

        Raises:
            Overtaken: another worker, which began later, asks other requests.
        """
        self._planner.check_latest()
        self._may_count = True  # a fault of the storage from here on leaves it open whether the plan was made
        self._may_count = self._planner.commit(self.plan)
        return self._may_count

    def __enter__(self) -> Self:
        """Use the draft until the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        """Discard the draft unless it was committed."""
        dies = kind is not None and not issubclass(kind, Exception)  # a worker that is being killed only stops
        if not self._may_count and not dies:
            self._planner.discard(self.plan)
