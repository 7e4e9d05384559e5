"""The files of one task instance's record; which of them exist is its state.

```
plan.json                     what is asked and how, and the chunks of wave 0; made last, by one worker only
clock.json                    when the deadline began to count; absent while nothing is waited for
waves/1/wave.json             the chunks of a later wave; made after its request files, by one worker only
waves/0/00000-DRAFT.requests.jsonl  one planned row a line
waves/0/00000-DRAFT.uses.json what they will use at most, counted
waves/0/NONCE.skipped.jsonl   rows that cannot be asked, as they are in the results; absent without any
waves/0/NONCE.copies.jsonl    rows that ask the same as an earlier one, a line each; absent without any
waves/0/NONCE.cached.jsonl    rows whose answers the row cache had, as they are in the results; absent without any
waves/0/NONCE.kept-COLUMNS.jsonl.zst | .parquet  columns of the source that go into the results; absent without any
waves/0/00000.claim.json      about to submit under this tag; a later claim is a file of its own: 00000.claim-1.json
waves/0/00000.receipt.json    the provider has it
waves/0/00000.failed-1.json   a batch of this chunk failed as a whole, before anything ran
waves/0/00000-DRAFT.rows.jsonl  landed: one row per request
waves/0/00000-DRAFT.sums.json the sums over these rows
results.jsonl | .parquet …    one row per request, in the order asked; part files of them in results/
manifest.json                 done
manifest.unmet.json           what an attempt came to that fell short
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.exceptions import Overtaken
from airflow_batch_provider.layout import CLOCK, MANIFEST, PLAN, UNMET, WAVE, WAVES
from airflow_batch_provider.ledger.batch_files import REQUESTS, USES, BatchFiles
from airflow_batch_provider.ledger.records import ClockRecord, CopiedRow, Plan, Wave
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.records import create, load, save
from airflow_batch_provider.rows import Row, decode_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from airflow_batch_provider.ledger.records import Receipt
    from airflow_batch_provider.storage import Directory
    from airflow_batch_provider.tables.columns import KeptColumns

SKIPPED = ".skipped.jsonl"
COPIES = ".copies.jsonl"
CACHED = ".cached.jsonl"
KEPT = ".kept-"


@dataclass(frozen=True)
class TaskFiles:
    """The files of one task instance's record.

    Attributes:
        root: its directory.
    """

    root: Directory

    # what is asked

    def plan(self) -> Plan | None:
        """Return what is asked, None before it is planned."""
        return load(self.root, PLAN, Plan)

    def add_plan(self, plan: Plan) -> bool:
        """Commit a plan; False when another worker was first."""
        return create(self.root, PLAN, plan)

    def is_current(self, plan: Plan) -> bool:
        """Tell whether this plan is the one on disk: another worker may have set it aside for other requests."""
        now = self.plan()
        return now is not None and now.nonce == plan.nonce

    def check_current(self, plan: Plan) -> None:
        """Stop a worker if its plan was set aside.

        Raises:
            Overtaken: another worker has set it aside.
        """
        if not self.is_current(plan):
            raise self.overtaken()

    def overtaken(self) -> Overtaken:
        """Return the error for a worker whose plan was replaced: its successor asks other requests."""
        return Overtaken(
            f"A worker that began later asks other requests in {self.root}. No action is needed: that one goes on. If there "
            "is none, clear the task."
        )

    def waves(self) -> list[Wave]:
        """Return the waves that are committed, in order."""
        plan = self.plan()
        waves = [plan.first] if plan else []
        while plan and (wave := self._wave(len(waves))) and wave.nonce == plan.nonce:
            waves.append(wave)
        return waves

    def _wave(self, number: int) -> Wave | None:
        return load(self.wave_directory(number), WAVE, Wave)

    def add_wave(self, wave: Wave) -> bool:
        """Commit a later wave; False when another worker was first."""
        return create(self.wave_directory(wave.number), WAVE, wave)

    def delete_wave(self, number: int) -> None:
        """Remove a wave of requests that were set aside, which a zombie left."""
        self.wave_directory(number).delete(WAVE)

    def wave_directory(self, number: int) -> Directory:
        """Return where a wave keeps its files."""
        return self.root.sub(WAVES).sub(str(number))

    def batches(self, wave: Wave) -> Iterator[BatchFiles]:
        """Return the files of each batch of a wave, in order."""
        directory = self.wave_directory(wave.number)
        return (BatchFiles.of(directory, chunk) for chunk in wave.chunks)

    def drafts(self, number: int) -> list[str]:
        """Return the names of all files of a wave's requests, whoever wrote them."""
        names = self.wave_directory(number).names()
        ends = (REQUESTS, USES, SKIPPED, COPIES, CACHED)
        return [name for name in names if name.endswith(ends) or KEPT in name]

    def is_beside(self, nonce: str, name: str) -> bool:
        """Tell whether a file of wave 0 stands beside the requests of this plan: skipped rows, copies, cached rows, kept columns."""
        return name.startswith(f"{nonce}.")

    def kept(self, nonce: str, columns: KeptColumns) -> tuple[Directory, str]:
        """Return where the kept columns of a plan are: directory, and name without its ending."""
        return self.wave_directory(0), f"{nonce}{KEPT}{columns.digest}"

    def skipped_name(self, nonce: str) -> str:
        """Return the name, in wave 0, of the file of a plan's rows that cannot be asked."""
        return nonce + SKIPPED

    def skipped_rows(self, plan: Plan) -> Iterator[Row]:
        """Return the rows of a plan that cannot be asked, as they are in the results."""
        return self._rows(self.skipped_name(plan.nonce)) if plan.skipped else iter(())

    def _rows(self, name: str) -> Iterator[Row]:
        return map(decode_row, self.wave_directory(0).lines(name))

    def cached_name(self, nonce: str) -> str:
        """Return the name, in wave 0, of the file of a plan's rows whose answers the row cache had."""
        return nonce + CACHED

    def cached_rows(self, plan: Plan) -> Iterator[Row]:
        """Return the rows of a plan whose answers the row cache had, as they are in the results."""
        return self._rows(self.cached_name(plan.nonce)) if plan.cached else iter(())

    def copies_name(self, nonce: str) -> str:
        """Return the name, in wave 0, of the file of a plan's rows that ask the same as others."""
        return nonce + COPIES

    def copied_rows(self, plan: Plan) -> Iterator[CopiedRow]:
        """Return the rows of a plan that ask the same as an earlier one, in order."""
        if not plan.copies:
            return iter(())
        lines = self.wave_directory(0).lines(self.copies_name(plan.nonce))
        return map(msgspec.json.Decoder(CopiedRow).decode, lines)

    # what was bought

    def receipts(self, waves: Collection[Wave], *, unlanded: bool = False) -> list[Receipt]:
        """Return all bought batches, oldest first; with `unlanded` only those without rows yet."""
        found: list[Receipt] = []
        for wave in waves:
            names = set(self.wave_directory(wave.number).names())
            for batch in self.batches(wave):
                if batch.has_receipt(names) and not (unlanded and batch.has_landed(names)):
                    receipt = batch.receipt()
                    found += [receipt] if receipt and wave.owns(receipt.tag) else []
        return found

    def open_tag(self, plan: Plan, waves: Collection[Wave]) -> str | None:
        """Return the tag of a batch that was claimed and has neither landed nor failed as a whole, None if there is none."""
        for wave in waves:
            names = set(self.wave_directory(wave.number).names())
            for batch in self.batches(wave):
                if not batch.is_claimed(names) or batch.has_landed(names):
                    continue
                claim = batch.claim()
                *failed, _ = plan.tags(wave.number, batch.number, batch.failures(names))
                if claim is not None and not claim.realtime and claim.tag not in failed:
                    return claim.tag
        return None

    # time

    def clock_started_at(self) -> datetime | None:
        """Return when the deadline began to count, None while nothing is waited for."""
        record = load(self.root, CLOCK, ClockRecord)
        return None if record is None else record.started_at

    def start_clock(self, now: datetime) -> datetime:
        """Let the deadline count from now on, unless it does already; return when it began to."""
        started_at = self.clock_started_at()
        if started_at is None:
            save(self.root, CLOCK, ClockRecord(started_at=now))
        return started_at or now

    def stop_clock(self) -> None:
        """Give the next attempt a deadline of its own."""
        self.root.delete(CLOCK)

    def clock_runs(self) -> bool:
        """Tell whether a deadline counts."""
        return self.root.exists(CLOCK)

    # what became of it

    def manifest(self) -> Manifest | None:
        """Return the manifest of a task that is done, None otherwise."""
        data = self.root.read(MANIFEST)
        return None if data is None else Manifest.model_validate_json(data)

    def unmet(self) -> Manifest | None:
        """Return what the last attempt came to that fell short, None when none did."""
        data = self.root.read(UNMET)
        return None if data is None else Manifest.model_validate_json(data)

    def write_manifest(self, manifest: Manifest) -> None:
        """Say that the task is done: later attempts return this manifest and buy nothing."""
        save(self.root, MANIFEST, manifest)
        self.root.delete(UNMET)

    def write_unmet(self, manifest: Manifest) -> None:
        """Keep the manifest of an attempt that fell short, for people."""
        save(self.root, UNMET, manifest)
