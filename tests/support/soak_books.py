"""Balances the books after a round: what the provider ran against what the tasks asked, landed and paid."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import msgspec

from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.models import BatchRow, Manifest

KEY = re.compile(r"([0-9a-f]{12})-([0-9]+)-([0-9]{5})(?:-[0-9]+)?-([0-9]+)")
USAGE = {"input_tokens": "input", "output_tokens": "output", "cached_tokens": "cached", "reasoning_tokens": "reasoning"}

# What the emulator echoes when a row was shown its unfit answer and asked again.
ASKED_BETTER = "Your answer does not have the required form"


def imbalance(world, tasks):
    """Sentences about what is wrong; none when all is well."""
    books = _Books(world)
    said = [*books.neighbours(), *books.live(), *books.registry()]
    for task in tasks:
        said += [f"{task.script.name}: {problem}" for problem in _Account(books, task).problems()]
    return said


def told(job):
    """One batch in a line: its phase, and each row with its fate."""
    rows = " ".join(f"{row.key}={row.outcome.kind if row.outcome else '-'}" for row in job.rows)
    return f"{job.id} {job.phase}{' after a cancel' if job.cancelled else ''}: {rows}"


class _Books:
    """The provider's side."""

    def __init__(self, world):
        self.world = world
        self.jobs = world.emulator.jobs.ever
        self.of = defaultdict(list)
        for job in self.jobs:
            if job.rows and (match := KEY.fullmatch(job.rows[0].key)):
                self.of[match[1]].append(job)

    def neighbours(self):
        theirs = [job for job in self.jobs if job.rows and job.rows[0].key.startswith("theirs-")]
        return [f"somebody else's batch {job.id} was cancelled" for job in theirs if job.cancelled]

    def live(self):
        return [
            f"batch {job.id} runs for nobody: {job.rows[0].key if job.rows else 'no rows'}"
            for job in self.world.live_after_reconcile
            if not self._is_theirs(job) and not self._was_left(job)
        ]

    def _is_theirs(self, job):
        return bool(job.rows) and job.rows[0].key.startswith("theirs-")

    def _was_left(self, job):
        """Its task may have left it running on purpose."""
        for task in self.world.tasks.values():
            if task.script.config["on_timeout"] == "leave" and any(job.id == one.batch_id for one in _receipts(task)):
                return True
        return False

    def registry(self):
        tags = self.world.deployment.registry.tags()
        return [f"the registry still has {tags}"] if tags else []


def _receipts(task):
    files = TaskFiles(task.directory)
    return files.receipts(files.waves())


class _Account:
    """One task's side."""

    def __init__(self, books, task):
        self._books = books
        self._task = task
        self._root = task.directory
        self._waves = TaskFiles(self._root).waves()
        plan = self._root.read("plan.json")
        self._jobs = books.of[msgspec.json.decode(plan)["first"]["nonce"]] if plan else []
        self._landed = {(wave.number, row.index): row for wave in self._waves for row in _landed(self._root, wave)}

    def problems(self):
        yield from self._bought_once()
        yield from self._asked_only_what_lacked()
        yield from self._waves_in_bounds()
        if not self._task.script.abandoned:
            yield from self._results()
            yield from self._usage()

    def _bought_once(self):
        ran = Counter(_place(row.key) for job in self._jobs for row in job.rows if _ran(job, row))
        for (wave, index), times in ran.items():
            if times > 1:
                yield f"row {index} was bought {times} times in wave {wave}"
        tags = Counter(job.rows[0].key.rpartition("-")[0] for job in self._jobs if not _withdrawn(job))
        yield from (f"{times} batches under the tag {tag}" for tag, times in tags.items() if times > 1)

    def _asked_only_what_lacked(self):
        last = {}
        for job in self._jobs:
            for row in job.rows:
                wave, index = _place(row.key)
                last[index] = max(last.get(index, 0), wave)
        for job in self._jobs:
            for row in job.rows:
                wave, index = _place(row.key)
                landed = self._landed.get((wave, index))
                good = _was_good(self._books.world, job, row) or (landed and landed.status == "succeeded")
                if good and row.key not in self._books.world.spoiled and last[index] > wave:
                    yield f"row {index} had a good answer in wave {wave} and was asked again in wave {last[index]}"

    def _waves_in_bounds(self):
        asked = Counter(wave.attempt for wave in self._waves)
        most = self._task.script.config["retry_rows"] + 1
        yield from (f"try {number} opened {times} waves" for number, times in asked.items() if times > most)

    def _results(self):
        rows = [BatchRow.model_validate_json(line) for line in self._root.lines("results.jsonl")]
        script = self._task.script
        asked = [_custom_id(index, row) for index, row in enumerate(script.rows)]
        if [row.custom_id for row in rows] != asked or [row.index for row in rows] != list(range(len(asked))):
            yield f"the results have the rows {[row.custom_id for row in rows]}, not {asked}"
            return
        for row in rows:
            prompt = script.rows[row.index]
            prompt = prompt["prompt"] if isinstance(prompt, dict) else prompt
            yield from self._answer(row, prompt)

    def _answer(self, row, prompt):
        outcomes = [
            _was_good(self._books.world, job, one)
            for job in self._jobs
            for one in job.rows
            if _place(one.key)[1] == row.index and not _withdrawn(job)
        ]
        if any(outcomes) and row.status != "succeeded":
            yield f"row {row.index} was answered, but it is {row.status} in the results: {row.error}"
        told = row.output.get("label", "") if isinstance(row.output, dict) else row.output
        if (
            row.status == "succeeded"
            and not _is_odd(prompt)
            and prompt[:12] not in told
            and not told.startswith(ASKED_BETTER)
        ):
            yield f"row {row.index} has the answer to another question: {told[:80]!r}"

    def _usage(self):
        landed = Counter()
        for row in self._landed.values():
            landed.update({name: getattr(row.usage, name) for name in USAGE})
        told = Counter()
        for job in self._jobs:
            told.update({name: job.usage[word] for name, word in USAGE.items()})
        written = self._root.read("manifest.json")
        manifest = Manifest.model_validate_json(written) if written else None
        spoiled = any(row.key in self._books.world.spoiled for job in self._jobs for row in job.rows)
        for name in USAGE:
            if landed[name] != told[name] and not (spoiled and landed[name] < told[name]):
                yield f"{name}: {landed[name]} in the rows, {told[name]} in the provider's books"
            if manifest and getattr(manifest.usage, name) != landed[name]:
                yield f"{name}: {getattr(manifest.usage, name)} in the manifest, {landed[name]} in the rows"


def _is_odd(prompt):
    """True when an answer that is not the prompt's echo was ordered."""
    return any(word in prompt for word in ("truncated", "bad_json", "bad_schema", "empty", "tool_use"))


def _place(key):
    _, wave, _, index = KEY.fullmatch(key).groups()
    return int(wave), int(index)


def _ran(job, row):
    """True when the row ran, or runs now."""
    if row.outcome is None:
        return not job.ended
    return row.outcome.kind not in ("cancelled", "expired")


def _withdrawn(job):
    """True when nothing of the batch ran and nothing will."""
    return job.ended and not any(_ran(job, row) for row in job.rows)


def _was_good(world, job, row):
    """True when the provider gave a plain answer that could be had from it."""
    given = job.phase == "completed" or (
        job.phase in ("expired", "cancelled")
        and (
            world.name != "google"
            or (job.phase == "cancelled" and world.emulator.settings.google_cancel_output == "partial")
        )
    )
    return given and row.outcome is not None and row.outcome.kind == "answer" and row.key not in world.spoiled


def _landed(root, wave):
    for batch in TaskFiles(root).batches(wave):
        if batch.has_landed():
            yield from batch.landed_rows()


def _custom_id(index, row):
    return row["custom_id"] if isinstance(row, dict) else f"request-{index}"
