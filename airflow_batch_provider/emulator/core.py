"""The emulator without HTTP: everything its routes and its tests share."""

from __future__ import annotations

import itertools
import os
import random
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.all_jobs import Jobs
from airflow_batch_provider.emulator.answers import Ask, Unacceptable
from airflow_batch_provider.emulator.blobs import Blobs
from airflow_batch_provider.emulator.clock import Clock
from airflow_batch_provider.emulator.faults import Faults
from airflow_batch_provider.emulator.job import Codec, Job, Row
from airflow_batch_provider.emulator.jsonl import Json, Slice
from airflow_batch_provider.emulator.outcomes import Directive, Outcome, Rule, directives
from airflow_batch_provider.emulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class File:
    """A file that was uploaded or generated."""

    id: str
    provider: str
    name: str
    path: Path
    size: int
    created: float
    expires: float | None = None
    purpose: str = ""
    """OpenAI's purpose, or Google's MIME type."""
    generated: bool = False
    sha256: str = ""
    """Hexadecimal, for Google only."""


class Emulator:
    """The three services in one object: clock, settings, faults, rules, jobs and files.

    `settings` may be replaced at any time; a job's phases follow the new pace at the next poll.
    """

    def __init__(self, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.faults = Faults()
        self.rules: list[Rule] = []
        self.blobs = Blobs()
        self.jobs = Jobs(self.clock, settings or Settings(), self.rules)
        self.files: dict[str, File] = {}
        self.calls: Counter[str] = Counter()
        """How often each route was called."""
        # A receipt of an earlier run must never match a job of this one.
        self._salt = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    @property
    def settings(self) -> Settings:
        """All settings that hold."""
        return self.jobs.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.jobs.settings = settings

    def single(self, provider: str, codec: Codec, request: Json, model: str) -> tuple[Job, Outcome]:
        """Run a call for one answer; return it as a job of one row, and what the caller gets."""
        job = Job(
            id=self.id("single_"), provider=provider, codec=codec, path=Path(os.devnull), created=self.clock.now(), window=0,
            model=model, single=True,
        )  # fmt: skip
        job.rows = [row(codec, 0, "", Slice(0, 0), request)]
        return job, self.jobs.run_single(job)

    def id(self, prefix: str) -> str:
        """Return a new id such as `batch_…`."""
        return f"{prefix}{self._salt}{next(self._numbers):06x}"

    def store(self, file: File) -> File:
        """Add a file."""
        self.files[file.id] = file
        return file

    def stored(self, provider: str) -> dict[str, File]:
        """Return the provider's files that have not expired, by id and oldest first."""
        now = self.clock.now()
        files = [file for file in self.files.values() if file.provider == provider]
        return {file.id: file for file in files if file.expires is None or now < file.expires}

    def shuffled(self, job: Job) -> list[Row]:
        """Return the rows in the order of the result file: not that of the requests, and the same every time."""
        rows = list(job.rows)
        if self.settings.shuffle:
            random.Random(f"{self.settings.seed}:{len(rows)}").shuffle(rows)  # noqa: S311
        return rows

    def rule(self, do: str, **fields: Any) -> Rule:
        """Ask for an outcome for rows of choice: `rule("error=overloaded", keys="a-*", times=1)`."""
        rule = Rule.read({"do": do, **fields})
        self.rules.append(rule)
        return rule

    def change(self, changes: Mapping[str, Any]) -> None:
        """Replace some settings, nested by name; raise `ValueError` for an unknown one."""
        self.settings = self.settings.changed(changes)

    def reset(self) -> None:
        """Forget jobs, files, faults, rules and books; the clock and the settings stay."""
        for held in (self.jobs, self.files, self.calls, self.rules, self.faults):
            held.clear()

    def close(self) -> None:
        """Remove the files from disk."""
        self.blobs.close()


def row(codec: Codec, index: int, key: str, place: Slice, request: Any) -> Row:
    """Return the row of a request, which is read once: what it asks decides its digest, tokens and markers."""
    asked = request if isinstance(request, dict) else {}
    try:
        codec.check(asked)
        ask = codec.ask(asked)
    except Unacceptable as error:
        return Row(index, key, place, digest=b"", tokens=1, refusal=error.refusal)
    return Row(index, key, place, digest=ask.digest, tokens=ask.tokens, directives=_directives(ask))


def _directives(ask: Ask) -> tuple[Directive, ...]:
    return tuple(one for text in (ask.context, ask.prompt, *ask.inputs) for one in directives(text))
