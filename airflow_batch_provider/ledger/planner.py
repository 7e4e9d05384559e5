"""What is asked: the plan and the waves of one ledger, written before anything is paid.

Two workers may plan at once (a zombie and its successor). Each writes request files of its own; the one that makes the
record which names them was first, and the other goes on with what the first one wrote.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from airflow_batch_provider.exceptions import Unresolved, UsageError
from airflow_batch_provider.ledger.plan import Cutter, Fingerprint, PartLimits, plan_rows
from airflow_batch_provider.ledger.records import CLOCK, REQUESTS, UNMET, Plan, PlannedRow, Wave
from airflow_batch_provider.ledger.waves import (
    check_stands,
    open_tag,
    overtaken,
    read_waves,
    rows_to_ask,
    stands,
    wave_directory,
)
from airflow_batch_provider.records import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_batch_provider.ledger.work import Work
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# The ledger's own files in the order in which a finished plan is set aside: answers first, and the plan last, so that
# an attempt which dies meanwhile leaves a plan that the next one sets aside again.
_FILES = ("results.jsonl", "results.parquet", UNMET, "manifest.json", "waves", CLOCK, "plan.json")
# Where to.
_ASIDE = "superseded"
_WAVE = "wave.json"


class Planner:
    """Writes plan and waves of one task instance."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began_at = work.clock.now()
        self._aside: set[str] = set()

    def plan(self) -> Plan | None:
        """What this ledger asks, None before it is planned."""
        return load(self._work.root, "plan.json", Plan)

    def open_plan(self, requests: Callable[[], Iterable[Any]], check: Callable[[Plan, Wave], None]) -> Plan:
        """The plan of these requests: the one on disk when they are the same, or else a new one.

        Args:
            requests: gives the rows anew at each call.
            check: sees a plan before it is sealed and raises to refuse it (budget).

        Raises:
            UsageError: a row or the spec is wrong, or the ledger holds other requests of which batches are still open.
            Unresolved: another worker has begun later, with other requests; or request files are missing.
        """
        self._aside = set(self._work.root.names(_ASIDE))
        return self._open(requests, check)

    def _open(self, requests: Callable[[], Iterable[Any]], check: Callable[[Plan, Wave], None]) -> Plan:
        plan = self.plan()
        if plan is None:
            return self._make_plan(requests, check)
        if self._fingerprint(requests()) == plan.fingerprint:
            self._check_whole(plan)
            log.info("Going on with the plan of %d requests in %s.", plan.requests, self._work.root)
            check(plan, plan.first)
            return plan
        self._supersede(plan, read_waves(self._work.root))
        return self._make_plan(requests, check)

    def _check_whole(self, plan: Plan) -> None:
        """Refuse a plan that another worker is setting aside, or was when it died: its rows may have good answers."""
        root = self._work.root
        there = set(wave_directory(root, 0).names())
        if not all(part.requests_name in there for part in plan.first.parts):
            raise Unresolved(
                f"Another worker is setting these requests aside in {root}, to ask others. Nothing is to be done while it "
                f"goes on. If there is none, give the task those others, or delete {root} to pay for these again."
            )

    def _fingerprint(self, requests: Iterable[Any]) -> str:
        fingerprint = Fingerprint(self._work.provider.name, self._work.spec)
        for row in plan_rows(requests, self._work.provider, self._work.spec):
            fingerprint.add(msgspec.json.encode(row))
        return str(fingerprint)

    def _make_plan(self, requests: Callable[[], Iterable[Any]], check: Callable[[Plan, Wave], None]) -> Plan:
        work = self._work
        nonce = uuid4().hex[:12]
        fingerprint = Fingerprint(work.provider.name, work.spec)
        wave = self._write_wave(0, nonce, plan_rows(requests(), work.provider, work.spec), fingerprint)
        plan = Plan(
            fingerprint=str(fingerprint),
            provider=work.provider.name,
            spec=work.spec,
            requests=fingerprint.requests,
            created_at=work.clock.now(),
            first=wave,
        )
        try:
            check(plan, wave)
            self._check_latest()
        except Exception:
            self._discard(wave)
            raise
        if not self._seal(wave, work.root, "plan.json", plan):
            log.warning("Another worker has just planned %s.", work.root)
            return self._open(requests, check)
        log.info("Planned: requests=%d batches=%d", plan.requests, len(wave.parts))
        return plan

    def _seal(self, wave: Wave, directory: Directory, name: str, record: Plan | Wave) -> bool:
        """Make the record that counts, unless another worker was first; the request files of the other ones go."""
        there = wave_directory(self._work.root, wave.number)
        ours = {part.requests_name for part in wave.parts}
        # Listed before: what comes later may be of a plan that has replaced this one.
        drafts = [draft for draft in there.names() if draft.endswith(REQUESTS) and draft not in ours]
        if not directory.create(name, record.model_dump_json().encode()):
            self._discard(wave)
            return False
        for draft in drafts:
            there.delete(draft)
        return True

    def _discard(self, wave: Wave) -> None:
        for part in wave.parts:
            wave_directory(self._work.root, wave.number).delete(part.requests_name)

    def _supersede(self, plan: Plan, waves: list[Wave]) -> None:
        """Set a finished plan of other requests aside; refuse when any of its batches is still open."""
        root = self._work.root
        if plan.created_at > self._began_at:
            raise overtaken(root)
        if tag := open_tag(root, plan, waves):
            raise UsageError(
                f"{root} holds {plan.requests} other requests, and batch {tag!r} of them is still open. Restore the "
                "requests to go on with them, or delete that directory to pay for the new ones."
            )
        log.warning("The requests changed since the last attempt: its results are kept in %s/%s.", _ASIDE, plan.nonce)
        self._aside.add(plan.nonce)
        there = set(root.names())
        for name in _FILES:
            if name in there and stands(root, plan):  # no other worker did the same meanwhile
                root.move(name, f"{_ASIDE}/{plan.nonce}/{name}")

    def _check_latest(self) -> None:
        """A zombie must not plan what its successor has just set aside."""
        if set(self._work.root.names(_ASIDE)) - self._aside:
            raise overtaken(self._work.root)

    def open_wave(self, plan: Plan, waves: list[Wave]) -> Wave | None:
        """The next wave, None when no row can be asked again or this attempt has asked often enough.

        Raises:
            Unresolved: another worker has set the plan aside.
        """
        work = self._work
        check_stands(work.root, plan)
        opened_here = sum(wave.attempt == work.attempt for wave in waves)
        # The attempt that planned has opened wave 0, and a later one begins by asking what is left: one more in both.
        if opened_here >= 1 + work.policy.retry_rows:
            return None
        number = len(waves)
        wave = self._write_wave(number, plan.nonce, rows_to_ask(work.root, waves, work.provider))
        if not wave.parts:
            return None
        if not self._seal(wave, wave_directory(work.root, number), _WAVE, wave):
            return self._opened(plan, waves)
        log.info("Wave %d asks rows again that have no good answer: requests=%d", number, wave.requests)
        return wave

    def _opened(self, plan: Plan, waves: list[Wave]) -> Wave | None:
        """The next wave, which another worker has opened; a zombie's, of requests that were set aside, is replaced."""
        root, number = self._work.root, len(waves)
        known = read_waves(root)
        check_stands(root, plan)
        if len(known) > number:
            log.warning("Another worker has just opened wave %d of %s.", number, root)
            return known[number]
        wave_directory(root, number).delete(_WAVE)
        return self.open_wave(plan, waves)

    def _write_wave(
        self, number: int, nonce: str, rows: Iterable[PlannedRow], fingerprint: Fingerprint | None = None
    ) -> Wave:
        work = self._work
        directory = wave_directory(work.root, number)
        cutter = Cutter(directory, work.provider, work.spec, self._part_limits(nonce), draft=uuid4().hex[:8])
        parts = cutter.write(rows, fingerprint)
        return Wave(nonce=nonce, number=number, attempt=work.attempt, opened_at=work.clock.now(), parts=parts)

    def _part_limits(self, nonce: str) -> PartLimits:
        """The provider's, but a little less where only its size tells a batch: full batches of two tasks then differ."""
        limits = self._work.provider.limits(self._work.spec)
        spare = 0 if self._work.provider.keeps_tags else int(nonce, 16) % max(1, limits.requests // 20)
        return PartLimits(limits.requests - spare, limits.bytes, self._work.policy.enqueued_tokens)
