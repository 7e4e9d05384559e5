"""Waves after the first: rows without a good answer are asked again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import RowsFailed
from airflow_batch_provider.layout import WAVES
from airflow_batch_provider.ledger.blocks import in_blocks
from airflow_batch_provider.ledger.canary import canary_of
from airflow_batch_provider.ledger.limit import CostLimit
from airflow_batch_provider.ledger.merge import is_answered, rows_to_ask, unreadable_rows
from airflow_batch_provider.ledger.wave_drafts import WaveDrafts

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.ledger.records import Plan, Wave

log = logging.getLogger(__name__)


class LaterWaves:
    """Opens the next wave of a task.

    Attributes:
        withheld: the wave that was not opened, because of its cost.
    """

    def __init__(self, context: LedgerContext) -> None:
        self._context = context
        self._files = context.files
        self._drafts = WaveDrafts(context)
        self.withheld: Withheld | None = None

    def open_next(self, plan: Plan, waves: list[Wave]) -> Wave | None:
        """Commit the next wave; None when no row can be asked again or this attempt has asked often enough.

        Raises:
            Overtaken: another worker has set the plan aside.
            RowsFailed: not one answer could be read.
        """
        context = self._context
        self._files.check_current(plan)
        opened_here = sum(wave.attempt == context.attempt for wave in waves)
        # The attempt that planned has opened wave 0, and a later one begins by asking what is left: one more in both.
        if opened_here >= 1 + context.policy.retry_rows:
            return None
        self._check_readable(waves)
        if is_answered(self._files, waves):
            return None
        number = len(waves)
        before = canary_of(self._files, waves[-1])
        canary = context.policy.canary if before and before.failed else 0  # nothing but canaries was bought so far
        blocks = in_blocks(rows_to_ask(self._files, plan, waves, context.provider))
        wave = self._drafts.write(number, plan.nonce, blocks, canary=canary)
        if not wave.chunks or self._is_too_dear(plan, waves, wave):
            return None
        others = self._drafts.others(wave)
        if not self._files.add_wave(wave):
            self._drafts.discard(wave)
            return self._opened(plan, waves)
        self._drafts.delete(number, others)
        log.debug("Wave %d asks rows again that have no good answer: requests=%d", number, wave.requests)
        return wave

    def _is_too_dear(self, plan: Plan, waves: list[Wave], wave: Wave) -> bool:
        """Discard a wave that would cost more than is left to the task."""
        limit = CostLimit.of(self._context, plan, waves)
        self.withheld = limit.withhold(wave, wave.chunks) if limit else None
        if self.withheld is not None:
            self._drafts.discard(wave)
        return self.withheld is not None

    def _check_readable(self, waves: list[Wave]) -> None:
        """Stop before buying rows again when not one answer of any wave could be read.

        Raises:
            RowsFailed: nothing could be read; asking again would only be paid again.
        """
        if (digest := unreadable_rows(self._files, waves)) is None:
            return
        root, name = self._context.root, self._context.provider.name
        raise RowsFailed(
            f"Not one answer of {name} could be read, so none is bought again. Reasons:\n{digest}\nLook at a result in "
            f"{name}'s console. Once it can be read (another `api` of the connection, another version of this package), "
            f"delete {root.uri(WAVES)}/*/*.rows.jsonl and clear the task: what {name} still keeps is read again, unpaid. To "
            f"pay for new answers, delete {root}.",
            digest=digest,
            retryable=False,
        )

    def _opened(self, plan: Plan, waves: list[Wave]) -> Wave | None:
        """Return the next wave, which another worker opened; one of requests that were set aside is replaced."""
        number = len(waves)
        known = self._files.waves()
        self._files.check_current(plan)
        if len(known) > number:
            log.warning("Another worker has just opened wave %d of %s.", number, self._context.root)
            return known[number]
        self._files.delete_wave(number)
        return self.open_next(plan, waves)
