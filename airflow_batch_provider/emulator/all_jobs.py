"""Jobs without HTTP: how they progress, what their rows become, how they end."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.job import Instant
from airflow_batch_provider.emulator.outcomes import CANCELLED, EXPIRED, NOT_SENT, TIMED_OUT, Outcome, Rule, decide
from airflow_batch_provider.emulator.pace import Pace

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.clock import Clock
    from airflow_batch_provider.emulator.job import Hidden, Job, Row
    from airflow_batch_provider.emulator.settings import Settings


class Jobs:
    """All jobs, and the rules by which they progress."""

    def __init__(self, clock: Clock, settings: Settings, rules: list[Rule]) -> None:
        self._clock = clock
        self.settings = settings
        self._rules = rules
        self._books_lock = threading.Lock()
        self.all: dict[str, Job] = {}
        self.ever: list[Job] = []
        """Also those that were deleted: they were paid."""
        self.asked: Counter[bytes] = Counter()
        """How often each prompt ran."""
        self.bought: Counter[bytes] = Counter()
        """How often each prompt ran and cost money."""

    def add(self, job: Job) -> None:
        """Add a new job."""
        self.all[job.id] = job
        self.ever.append(job)

    def run_single(self, job: Job) -> Outcome:
        """Run the only row of a call for one answer, which is not a batch: no list shows it, and the books do.

        Returns:
            What the caller gets: a time-out where the outcome has no answer.
        """
        self.ever.append(job)
        job.written = True  # the caller gets the result
        self._execute(job, 1)
        job.enter("completed", self._clock.now())
        outcome = job.rows[0].outcome
        return TIMED_OUT if outcome is None or outcome.kind in NOT_SENT else outcome

    def clear(self) -> None:
        """Forget all jobs and what they bought."""
        for held in (self.all, self.ever, self.asked, self.bought):
            held.clear()

    def of(self, provider: str) -> list[Job]:
        """Return the provider's jobs, newest first."""
        return [job for job in reversed([*self.all.values()]) if job.provider == provider]

    def visible(self, provider: str, job_id: str) -> Job | None:
        """Return the provider's job of that id; None when there is none, or a fault hides it."""
        job = self.all.get(job_id)
        return job if job and job.provider == provider and not self._is_covered(job.faults.hidden) else None

    def listed(self, provider: str) -> list[Job]:
        """Return the jobs that the provider lists, newest first."""
        return [job for job in self.of(provider) if not self._is_covered(job.faults.unlisted)]

    def _is_covered(self, hidden: Hidden | None) -> bool:
        return hidden is not None and hidden.covers(self._clock.now())

    def refresh(self, provider: str) -> None:
        """Bring all jobs of a provider to where they are now."""
        for job in self.of(provider):
            self.advance(job)

    def active(self, provider: str) -> list[Job]:
        """Return the provider's jobs that had not ended when they were last brought up to date."""
        return [job for job in self.of(provider) if not job.ended]

    def poll(self, *jobs: Job) -> None:
        """Count a poll of each job, and bring it to where it is now."""
        for job in jobs:
            with job.lock:
                job.polls += 1
                self.advance(job)

    def advance(self, job: Job) -> Job:
        """Bring the job to where it is now, and write its results when it has just ended."""
        with job.lock:
            while self._step(job):
                pass
            if job.ended and not job.written:
                job.codec.write_results(job)
                job.written = True
        return job

    def cancel(self, job: Job) -> bool:
        """Begin to cancel; return False when the job had ended before."""
        with job.lock:
            self.advance(job)
            if job.ended:
                return False
            if job.cancelled is None:
                job.cancelled = Instant(self._clock.now(), job.polls)
                job.enter("cancelling", self._clock.now())
            self.advance(job)
            return True

    def _passed(self, since: Instant, job: Job) -> float:
        by_time = self.settings.progress.by == "time"
        return self._clock.now() - since.moment if by_time else job.polls - since.polls - 1

    def _step(self, job: Job) -> bool:
        if job.ended:
            return False
        if self._clock.now() >= job.created + job.window:
            return self._expire(job, job.created + job.window, self._share(job))
        if job.phase == "cancelling":
            return self._settle(job)
        return not job.faults.stuck and self._progress(job)

    def _settle(self, job: Job) -> bool:
        settle = self.settings.progress.settle
        if job.cancelled is None or self._passed(job.cancelled, job) < settle:
            return False
        self._end_unrun(job, CANCELLED)
        job.enter("cancelled", self._moment(job.cancelled, settle))
        return True

    def _progress(self, job: Job) -> bool:
        pace, born = self._pace(job), Instant(job.created, 0)
        age = self._passed(born, job)
        if job.phase == "running":
            limit = 1.0 if job.faults.expire is None else job.faults.expire
            self._execute(job, int(len(job.rows) * min(limit, pace.share(age))))
        if (coming := pace.after(job.phase, age)) is None:
            return False
        at = self._moment(born, pace.start(coming))
        if job.faults.fail and coming == "running":
            job.enter("failed", at)
        elif job.faults.expire is not None and coming == "finalizing":
            return self._expire(job, at, job.faults.expire)
        else:
            job.enter(coming, at)
        return True

    def _pace(self, job: Job) -> Pace:
        return Pace(self.settings.progress, finalizes=job.provider == "openai")

    def _moment(self, since: Instant, passed: float) -> float:
        by_time = self.settings.progress.by == "time"
        return since.moment + passed if by_time else self._clock.now()

    def _share(self, job: Job) -> float:
        if job.faults.stuck or self.settings.progress.by == "polls":
            return job.executed / max(1, len(job.rows))
        return self._pace(job).share(job.window)

    def _expire(self, job: Job, moment: float, share: float) -> bool:
        self._execute(job, int(len(job.rows) * share))
        self._end_unrun(job, EXPIRED)
        job.enter("expired", moment)
        return True

    def _execute(self, job: Job, upto: int) -> None:
        # Two jobs may run at once, and the books must not lose what either bought.
        with self._books_lock:
            for row in job.rows[job.executed : upto]:
                row.outcome = self._outcome(job, row)
                job.counts[tally(row.outcome)] += 1
        job.executed = max(job.executed, upto)

    def _outcome(self, job: Job, row: Row) -> Outcome:
        if row.refusal:
            return Outcome(kind="error", error="invalid_request")
        asked = self.asked[row.digest]
        self.asked[row.digest] += 1
        settings = self.settings
        rules = [rule.directive for rule in self._rules if rule.hits(job.provider, row.key, row.index, settings.seed)]
        outcome = decide((*rules, *row.directives), asked, settings.separators)
        if job.faults.row_error is not None:
            outcome = Outcome(kind="error", error=job.faults.row_error)
        self.bought[row.digest] += outcome.billed
        return outcome

    def _end_unrun(self, job: Job, outcome: Outcome) -> None:
        for row in job.rows[job.executed :]:
            row.outcome = outcome
            job.counts[tally(outcome)] += 1


def tally(outcome: Outcome) -> str:
    """Return under which of the four headings a row counts."""
    return {"error": "failed", "expired": "expired", "cancelled": "cancelled"}.get(outcome.kind, "succeeded")
