"""A provider in memory that may do whatever a real one was seen to do; its books tell what was billed, and for what."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from fakes import FakeBatch, FakeProvider, failing
from killable_task import LIFE, Life
from msgspec import structs

from airflow_batch_provider.exceptions import NotFound
from airflow_batch_provider.models import BatchStatus, Reply, RequestCounts, RowError, Usage
from airflow_batch_provider.providers.base import Candidate

# Real providers drop what did not run after a day.
LIFETIME = timedelta(hours=24)
_SKEW = timedelta(minutes=2)
_WORDS = {"cancelling": "processing"}

RowFate = Literal["good", "passing", "refused", "unfit", "missing"]
GOOD = '{"label": "fine"}'
STRANGER = "stranger"


class Moments:
    """Where the provider is called, the worker that calls may be stopped; tests themselves are not."""

    def tick(self, where):
        if life := LIFE.get(None):
            life.tick(where)


@dataclass
class UnrulyBatch(FakeBatch):
    """One batch in the books.

    Attributes:
        batch_id: its name here.
        buyer: the worker that created it, None for a stranger's.
        overtaken: another worker had the claim in the moment of the create; between the last check of a claim and the
            create nothing can be excluded, and whoever finds out cancels.
        visible_at: polls and lists show it from then on.
        settles_at: when a cancellation takes effect.
        fates: what became, or is going to become, of the rows; all good unless told otherwise.
        replies: the result lines, once it has ended.
    """

    batch_id: str = ""
    buyer: Life | None = None
    overtaken: bool = False
    visible_at: object = None
    settles_at: object = None
    fates: list[RowFate] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    @property
    def prompts(self):
        return [body["prompt"] for body in self.bodies]

    @property
    def wave(self):
        return int(self.tag.split("-")[1])

    @property
    def is_live(self):
        return self.status in ("processing", "cancelling")

    @property
    def billed(self):
        """What each row that ran has cost, by its prompt."""
        prompts = dict(zip(self.keys, self.prompts, strict=True))
        return {
            prompts[reply.key]: reply.usage
            for reply in self.replies
            if reply.usage.input_tokens and reply.key in prompts
        }

    @property
    def good(self):
        """The prompts that have a good answer."""
        prompts = dict(zip(self.keys, self.prompts, strict=True))
        return {prompts[reply.key] for reply in self.replies if reply.output == GOOD and reply.key in prompts}


@dataclass
class Unruly(FakeProvider):
    """A provider that loses replies, shows batches late, lets rows fail, drops some and sends others twice.

    Attributes:
        lag: how long the next batch stays invisible.
        settling: how long a cancellation takes.
        find_faults, cancel_faults: what the next calls raise; None lets one pass.
    """

    bomb: Moments = field(default_factory=Moments)
    lag: timedelta = timedelta(0)
    settling: timedelta = timedelta(minutes=1)
    find_faults: list = field(default_factory=list)
    cancel_faults: list = field(default_factory=list)

    def forget_faults(self):
        self.lag, self.settling = timedelta(0), timedelta(0)
        for faults in (
            self.submit_faults,
            self.find_faults,
            self.status_faults,
            self.result_faults,
            self.cancel_faults,
        ):
            faults.clear()

    @property
    def ours(self):
        """What was created by workers, oldest first."""
        return [batch for batch in self.batches.values() if batch.buyer is not None]

    # the wire, as workers see it

    async def create(self, prepared):
        self.while_creating = [self._on_its_way]
        return await super().create(prepared)

    async def _on_its_way(self):
        self.bomb.tick("submit: on its way")

    def _commit(self, payload):
        batch_id = super()._commit(payload)
        made = self.batches[batch_id]
        self.batches[batch_id] = UnrulyBatch(
            made.tag,
            made.keys,
            made.bodies,
            made.created_at,
            batch_id=batch_id,
            buyer=LIFE.get(),
            overtaken=not LIFE.get().handle.is_ours(),
            visible_at=self.clock.now() + self.lag,
            fates=["good"] * len(made.keys),
        )
        self.lag = timedelta(0)
        return batch_id

    async def find(self, claim):
        self.bomb.tick("find")
        if self.find_faults and (fault := self.find_faults.pop(0)):
            raise fault
        return [found for batch in self._visible() if (found := self._recognised(batch, claim))]

    def _recognised(self, batch, claim):
        return Candidate(batch.batch_id, certain=True) if batch.tag == claim.tag else None

    async def tagged(self, since):
        for batch in self._visible():
            if batch.created_at >= since:
                yield self._status(batch)

    async def status(self, batch_id):
        self.bomb.tick("status")
        if self.status_faults and (fault := self.status_faults.pop(0)):
            raise fault
        batch = next((batch for batch in self._visible() if batch.batch_id == batch_id), None)
        if batch is None:
            raise NotFound(batch_id)
        return self._status(batch)

    def _status(self, batch):
        return BatchStatus(
            batch_id=batch.batch_id,
            status=_WORDS.get(batch.status, batch.status),
            counts=RequestCounts(total=len(batch.keys)),
            tag=batch.tag if self.keeps_tags else None,
            created_at=batch.created_at,
            error=batch.error,
            retryable=batch.retryable,
        )

    async def results(self, batch_id, kind):
        self.bomb.tick("results")
        for reply in reversed(self.batches[batch_id].replies):
            if self.result_faults and (fault := self.result_faults.pop(0)):
                raise fault
            yield reply

    async def cancel(self, batch_id):
        self.bomb.tick("cancel")
        if self.cancel_faults and (fault := self.cancel_faults.pop(0)):
            raise fault
        self.pass_time()
        batch = self.batches[batch_id]
        if batch.status == "processing":
            batch.status, batch.settles_at = "cancelling", self.clock.now() + self.settling
        self.bomb.tick("cancel: done")

    def _visible(self):
        self.pass_time()
        return [batch for batch in self.batches.values() if batch.visible_at <= self.clock.now()]

    # what becomes of batches

    def pass_time(self):
        """Settle what is cancelled, and expire what is a day old; every second row of it has run."""
        now = self.clock.now()
        for batch in self.batches.values():
            if batch.status == "cancelling" and batch.settles_at <= now:
                self.end(batch, "cancelled")
            elif batch.is_live and now - batch.created_at >= LIFETIME:
                self.end(batch, "expired")

    def end(self, batch, word, *, extra=0):
        """The batch is over; of one that was cut short, every second row has run.

        Args:
            extra: good answers that come a second time as failures, before or after, and lines that nobody asked for.
        """
        batch.status = word
        for number, (key, fate) in enumerate(zip(batch.keys, batch.fates, strict=True)):
            ran = word == "completed" or number % 2 == 0
            batch.replies += self._fated(key, fate) if ran else self._unrun(key, word)
        again = [reply(one.key, "passing") for one in batch.replies if one.output == GOOD][:extra]
        strange = [reply(STRANGER, "good") for _ in range(extra)]
        batch.replies = [*strange, *again[:1], *batch.replies, *again[1:]]

    def fail(self, batch):
        """The queue was full: nothing has run, nothing is billed."""
        batch.status, batch.error, batch.retryable = "failed", "token_limit_exceeded", True

    def _fated(self, key, fate):
        return [] if fate == "missing" else [reply(key, fate)]

    def _unrun(self, key, word):
        """Where a provider leaves such rows out."""
        return []

    def a_stranger_buys(self, requests):
        """Another program with the same account creates a batch."""
        batch_id = f"{STRANGER}-{len(self.batches)}"
        keys = [f"{STRANGER}-{number}" for number in range(requests)]
        self.batches[batch_id] = UnrulyBatch(
            "", keys, [{"prompt": key} for key in keys], self.clock.now(), batch_id=batch_id
        )
        self.batches[batch_id].visible_at = self.clock.now()
        self.batches[batch_id].fates = ["good"] * requests


@dataclass
class Untagged(Unruly):
    """The same as Anthropic does it: no tags, so batches are found by time and size, and known by their answers."""

    name = "anthropic"
    keeps_tags = False

    def _recognised(self, batch, claim):
        if batch.created_at < claim.claimed_at - _SKEW or len(batch.keys) != claim.requests:
            return None
        if batch.is_live or not batch.replies:
            return Candidate(batch.batch_id, certain=False)
        first = batch.replies[-1].key
        return Candidate(batch.batch_id, certain=True) if first.startswith(claim.key_prefix) else None

    async def tagged(self, since):
        for nothing in ():
            yield nothing

    def fail(self, batch):
        """Anthropic's batches do not fail as a whole."""
        self.end(batch, "completed")

    def _unrun(self, key, word):
        return [Reply(key=key, status=word, error=RowError(code=word, message=f"it is {word}", retryable=True))]


def reply(key, fate):
    """One result line."""
    if fate in ("good", "unfit"):
        output = GOOD if fate == "good" else "no JSON"
        made = Reply(key=key, status="succeeded", output=output)
    else:
        made = failing(fate, retryable=fate == "passing")
    usage = Usage() if fate == "refused" else Usage(input_tokens=10, output_tokens=5)
    return structs.replace(made, key=key, usage=usage)
