"""The books: every batch with its keys, how often each prompt was paid, how often each route was called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.clock import rfc3339

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator, File
    from airflow_batch_provider.emulator.job import Job
    from airflow_batch_provider.emulator.jsonl import Json


def books(emulator: Emulator) -> Json:
    """Return every job with its keys, every prompt with how often it ran and was paid, every route with its calls."""
    for job in [*emulator.jobs.all.values()]:
        emulator.jobs.advance(job)
    return {
        "now": rfc3339(emulator.clock.now()),
        "calls": dict(sorted(emulator.calls.items())),
        "jobs": [_job(job, number) for number, job in enumerate(emulator.jobs.ever, 1)],
        "prompts": {
            digest.hex(): {"asked": asked, "bought": emulator.jobs.bought[digest]}
            for digest, asked in [*emulator.jobs.asked.items()]
        },
        "rows_asked": emulator.jobs.asked.total(),
        "rows_bought": emulator.jobs.bought.total(),
        "bought_twice": sum(1 for times in emulator.jobs.bought.values() if times > 1),
        "files": [_file(file) for file in [*emulator.files.values()]],
    }


def _file(file: File) -> Json:
    return {
        "id": file.id, "provider": file.provider, "name": file.name, "bytes": file.size, "generated": file.generated,
    }  # fmt: skip


def _job(job: Job, number: int) -> Json:
    billed = sum(1 for row in job.rows if row.outcome is not None and row.outcome.billed)
    return {
        "order": number, "id": job.id, "provider": job.provider, "model": job.model, "label": job.label, "metadata": job.metadata,
        "single": job.single,
        "phase": job.phase, "created_at": rfc3339(job.created), "polls": job.polls, "requests": len(job.rows),
        "executed": job.executed, "billed": billed, "counts": dict(job.counts), "keys": [row.key for row in job.rows],
        "prompts": [row.digest.hex() for row in job.rows], "input_tokens": job.tokens, "usage": dict(job.usage),
    }  # fmt: skip
