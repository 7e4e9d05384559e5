"""A deployment whose workers run one at a time, each in a thread of its own that stops at every dangerous moment.

So a worker can be stopped between any two of its steps while another one runs, and be woken or killed later.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import UUID

from fakes import FakeClock, Job, Killed
from killable_task import LIFE, Life, SkewedClock
from upath import UPath

from airflow_batch_provider.exceptions import BatchError, Unavailable, UsageError
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.fleet.resolve import Resolver
from airflow_batch_provider.models import Manifest, TaskKey
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory

FAR = 1_000_000
# A worker of Airflow that stands still this long is taken for dead: nothing of it runs on for days.
MAX_WAIT = 60.0


class Worker(Life):
    """A thread with one run of a task, which goes on only when told to.

    Attributes:
        end: what it returned or raised, once it is done.
    """

    def __init__(self, name, work):
        super().__init__()
        self.name = name
        self.end = None
        self.done = self.killed = False
        self._work = work
        self._moments = 0
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def __repr__(self):
        return f"<{self.name} {'done' if self.done else self.where}>"

    def tick(self, where):
        if self.dead:
            raise Killed(f"after death: {where}")
        self.where = where
        self.moment += 1
        if self._moments == 0:
            self._stopped.release()
            self._go.acquire()
        self._moments -= 1
        if self.killed:
            self.dead = True
            raise Killed(where)

    def step(self, moments=FAR):
        """Let it pass so many dangerous moments, or run to its end."""
        if self.done:
            return
        self._moments = moments
        self._go.release()
        assert self._stopped.acquire(timeout=MAX_WAIT), f"{self} hangs"
        if self.done:
            self._thread.join()

    def kill(self):
        """It dies where it stands."""
        self.killed = True
        self.step()

    def _live(self):
        self._go.acquire()
        LIFE.set(self)
        try:
            self.end = Killed("before its first step") if self.killed else asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 — whatever it died of is looked at by the test
            self.end = error
        self.done = True
        self._stopped.release()


class SharedClock(FakeClock):
    """The time of all; a worker that waits may be overtaken."""

    async def sleep(self, seconds):
        if life := LIFE.get(None):
            life.tick("sleep")
        self.advance(seconds)


@dataclass
class Task:
    """One task instance as Airflow sees it.

    Attributes:
        version: of its requests; each has prompts of its own.
        state: none, running, deferred, success or failed.
        worker: the one whose end Airflow waits for.
        alive: every worker of it that has not ended, zombies included.
        ends: what the workers whose word counts ended with.
    """

    name: str
    rows: int
    config: dict
    version: int = 0
    attempt: int = 0
    state: str = "none"
    suspended: Suspended | None = None
    worker: Worker | None = None
    alive: list[Worker] = field(default_factory=list)
    manifest: Manifest | None = None
    ends: list = field(default_factory=list)

    @property
    def prompts(self):
        return [f"{self.name} v{self.version} row {row}" for row in range(self.rows)]

    @property
    def ids(self):
        return TaskKey("dag", "run", self.name)


class Names:
    """Instead of random names: the same ones in every run."""

    def __init__(self):
        self._random = Random(0)

    def __call__(self):
        return UUID(int=self._random.getrandbits(128), version=4).hex


class Airflow:
    """Tasks, their workers, one storage and one account at a provider.

    Attributes:
        ahead: seconds by which the clock of a worker that begins is ahead of the others' and the provider's.
    """

    def __init__(self, root, provider):
        self.root = Path(root)
        self.provider = provider
        self.clock = provider.clock
        self.deployment = Deployment(Directory(UPath(root)))
        self.tasks = {}
        self.receipted = set()
        self.loop = asyncio.Runner()
        self.new_id = Names()
        self.ahead = 0

    def close(self):
        for task in self.tasks.values():
            for worker in list(task.alive):
                worker.kill()
        self.loop.close()

    @property
    def workers_alive(self):
        return [worker for task in self.tasks.values() for worker in task.alive]

    # a task's way

    def begin(self, task):
        """A first try, a retry, a clear: from the top, a little later; what ran before is no longer waited for."""
        self.clock.advance(1)
        task.attempt += 1
        task.suspended = None
        self._employ(task, "start", lambda job: job.start())

    def poll(self, task):
        """The triggerer polls, and wakes a worker when there is something to do."""
        suspended, job = task.suspended, self._job(task)
        overdue = self.clock.now() >= suspended.state.submitted_at + suspended.poll.max_wait
        try:
            ready = self.loop.run(job.check(suspended)).is_ready
        except BatchError:
            ready = False
        if ready:
            self._employ(task, "resume", lambda job: job.resume(suspended))
        elif overdue:
            self._employ(task, "overdue", lambda job: job.overdue(suspended))
        return ready or overdue

    def mark_failed(self, task):
        """A person marks a deferred task failed; the trigger cancels its batches."""
        suspended, job = task.suspended, self._job(task)
        task.state, task.suspended = "failed", None
        try:
            self.loop.run(job.cancel(suspended))
        except BatchError as error:
            task.ends.append(error)

    def step(self, worker, moments=FAR):
        worker.step(moments)
        self._see(worker)

    def kill(self, worker):
        if not worker.done:
            worker.kill()
            self._see(worker)

    def _employ(self, task, name, work):
        job = self._job(task)
        task.worker = Worker(f"{task.name} try {task.attempt} {name}", lambda: work(job))
        task.alive.append(task.worker)
        task.state = "running"

    def _job(self, task):
        root = self.root / "dag" / "run" / task.name
        clock = SkewedClock(self.clock, self.ahead)
        job = Job(root, self.provider, clock, task.prompts, registry=self.deployment.registry, **task.config)
        job.new_id = self.new_id
        job.task_id, job.attempt = task.name, task.attempt
        return job

    def _see(self, worker):
        if not worker.done:
            return
        task = next(task for task in self.tasks.values() if worker in task.alive)
        task.alive.remove(worker)
        if worker is not task.worker:
            return
        task.worker, end = None, worker.end
        task.ends.append(end)
        task.state = {Suspended: "deferred", Manifest: "success"}.get(type(end), "failed")
        task.suspended = end if isinstance(end, Suspended) else None
        task.manifest = end if isinstance(end, Manifest) else task.manifest

    # people and their tools

    def ask(self, ids):
        task = self.tasks.get(ids.task_id)
        if task is None:
            return "gone"
        return "over" if task.state in ("failed", "success") else "waiting"

    def reconcile(self, *, cancel_orphans):
        reconciler = Reconciler(self.deployment, self.ask, self.clock, Rules(cancel_orphans=cancel_orphans))

        async def run():
            return await reconciler.act(await reconciler.examine([self.provider]), [self.provider])

        return self.loop.run(run())

    def decide(self, task):
        """A person who knows the provider's console settles what no worker could; the tags of what was settled."""
        resolver = Resolver(self.deployment, self.ask, self.clock)
        return [entry.tag for entry in self._doubtful(task) if self._decided(resolver, entry)]

    def _doubtful(self, task):
        of_task = f"dag/run/{task.name}"
        entries = [entry for entry in self.deployment.registry.entries() if entry.label == of_task]
        files = [(entry, self.deployment.files(entry)) for entry in entries]
        return [entry for entry, of in files if of.claim_under(entry.tag) and not of.receipt_under(entry.tag)]

    def _decided(self, resolver, entry):
        self.provider.pass_time()
        theirs = [batch for batch in self.provider.ours if batch.tag == entry.tag and batch.status != "failed"]
        kept = sorted(theirs, key=lambda batch: batch.overtaken)[:1]
        try:
            if kept:
                self.loop.run(resolver.adopt(entry.tag, kept[0].batch_id, self.provider))
            else:
                self.loop.run(resolver.absent(entry.tag, self.provider))
        except (UsageError, Unavailable):
            return False
        return True

    # what is on disk

    def note_receipts(self):
        """Remember every batch that has a receipt."""
        paths = self.root.glob("dag/run/*/waves/*/*.receipt.json")
        self.receipted |= {json.loads(path.read_bytes())["batch_id"] for path in paths}

    def rows(self, manifest):
        return [json.loads(line) for line in Path(manifest.results).read_bytes().splitlines()]


def check_finished(airflow, task):
    """One row per request in the order asked, the answers are those in the books, and so is the money."""
    manifest, rows = task.manifest, airflow.rows(task.manifest)
    assert [row["custom_id"] for row in rows] == [f"request-{number}" for number in range(task.rows)]
    assert [row["index"] for row in rows] == list(range(task.rows))
    assert manifest.requests == task.rows
    assert {word: number for word, number in manifest.counts.items() if number} == Counter(
        row["status"] for row in rows
    )
    mine = [batch for batch in airflow.provider.ours if set(batch.prompts) <= set(task.prompts)]
    good = set().union(*(batch.good for batch in mine if batch.batch_id in manifest.batches))
    answered = {prompt for prompt, row in zip(task.prompts, rows, strict=True) if row["status"] == "succeeded"}
    assert answered == good, "a good answer was lost, or one was invented"
    billed = [batch for batch in mine if batch.billed and not is_waste(airflow, batch)]
    assert manifest.usage.input_tokens == sum(usage.input_tokens for b in billed for usage in b.billed.values())
    assert manifest.usage.output_tokens == sum(usage.output_tokens for b in billed for usage in b.billed.values())


def is_waste(airflow, batch):
    """A create that was on its way when another worker took its claim over, and that nobody adopted."""
    return batch.overtaken and batch.batch_id not in airflow.receipted
