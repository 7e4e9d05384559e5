"""The batches of one deployment at its providers: a small file for every claimed batch that has not landed.

Tasks keep their own ledgers; this is the one place where they meet. It lets a worker tell a neighbour's batch from its
own where the provider keeps no tags, serialises submits there, and tells the reconciler which batches to look after.
"""

from __future__ import annotations

import hashlib
import logging
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from airflow_batch_provider import __version__
from airflow_batch_provider.budgets import NO_LIMITS, BudgetBook, BudgetLimits
from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import LAYOUT
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.records import create, load, save
from airflow_batch_provider.spending import SpendingBook
from airflow_batch_provider.timing import LOCK_COME_BACK, LOCK_LEASE, LOCK_PAUSE, WORST_SKEW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime, timedelta

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Account, TaskKey
    from airflow_batch_provider.spending import Spent
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

_OPEN, _OVER, _SPENT, _BUDGETS, _PLACES = "open", "over", "spent", "budgets", "places"
_TAG = re.compile(r"[a-z0-9-]{1,40}")


class Entry(FrozenModel):
    """One claimed batch.

    Attributes:
        layout: version of the file layout.
        package: version of this package that wrote it.
        account: tells accounts apart without showing a key.
        connection: how a person's commands find that account again; no key.
        label: whose it is: `dag/run/task[/map_index]`.
        claimed_at: by the clock of the worker.
        as_of: the same moment by the provider's clock; None where the provider did not tell its time.
        claim: URI of the claim, beside which the receipt lies.
        batch_id: None until the provider has answered.
        tentative: as in the receipt: the batch may be somebody else's.
        leave_running: its task was told to leave it running when the deadline passes.
        reserved: files of budgets that count the most it may cost until it has landed.
        reserved_at: when these let it in, by the clock of the worker; None where no budget is set.
    """

    layout: Literal[1] = LAYOUT
    package: str = __version__
    tag: str
    provider: str
    account: str
    connection: ConnectionRef | None = None
    label: str
    claim: str
    requests: int
    claimed_at: AwareDatetime
    as_of: AwareDatetime | None = None
    batch_id: str | None = None
    tentative: bool = False
    leave_running: bool = False
    reserved: tuple[str, ...] = ()
    reserved_at: AwareDatetime | None = None

    @property
    def earliest(self) -> datetime:
        """Return the time, by the provider's clock, before which its batch cannot have been created."""
        return earliest(self.claimed_at, self.as_of)


class SubmitLock(FrozenModel):
    """The one worker that may submit at an account whose provider keeps no tags.

    Attributes:
        tag: of the claim that it submits.
    """

    owner: str
    tag: str = ""
    taken_at: AwareDatetime


class Over(FrozenModel):
    """The task of an open batch was seen to be over."""

    seen_at: AwareDatetime


class Registry:
    """The entries of one deployment, one file each, by tag.

    Args:
        directory: shared by all workers, beside the stage storages.
        limits: the deployment's budgets.
        task: whose batches are bought or landed here; None where none are.
    """

    def __init__(self, directory: Directory, limits: BudgetLimits = NO_LIMITS, task: TaskKey | None = None) -> None:
        self._directory = directory
        self.budgets = BudgetBook(directory.sub(_BUDGETS), limits, task)

    @property
    def spending(self) -> SpendingBook:
        """Return what the landed batches of the deployment have cost."""
        return SpendingBook(self._directory.sub(_SPENT))

    def places(self, scope: str) -> Directory:
        """Return where the queue for the places of one connection and model is kept; see `places.py`."""
        return self._directory.sub(f"{_PLACES}/{scope}")

    def enter(self, entry: Entry) -> None:
        """Note a claimed batch, or more about one that is noted."""
        save(self._directory, _entry_name(entry.tag), entry)

    def settle(self, spent: Spent) -> None:
        """Note what a batch cost that is about to land: from now on budgets count that, and not the most that it might have.

        Also what it reserved in an earlier month, when it was bought later after all. The same again changes nothing. While nobody
        knows what it cost, budgets go on with what it reserved.
        """
        self.spending.note(spent)
        if spent.cost.usd is None:
            return
        self.budgets.settle(spent.tag, spent.connection, spent.submitted_at, Decimal(str(spent.cost.usd)))
        if entry := self.get(spent.tag):
            self.budgets.free(entry.reserved)

    def leave(self, tag: str) -> None:
        """Forget a batch that has landed, or that nobody will land; budgets go on counting it."""
        self._directory.delete(_entry_name(tag))

    def withdraw(self, tag: str) -> None:
        """Forget a batch that was not bought, or of which nothing ran: budgets do not count it any more."""
        if entry := self.get(tag):
            self.budgets.free(entry.reserved)
        self.leave(tag)

    def get(self, tag: str) -> Entry | None:
        """Return the entry of this tag, None when there is none; a tag that a provider shows may be anything."""
        return load(self._directory, _entry_name(tag), Entry) if _TAG.fullmatch(tag) else None

    def entries(self) -> Iterator[Entry]:
        """Return every entry, by tag."""
        for tag in self.tags():
            entry = load(self._directory, _entry_name(tag), Entry)
            if entry is not None:  # it may have landed meanwhile
                yield entry

    def tags(self) -> list[str]:
        """Return the tags of all entries."""
        return [name.removesuffix(".json") for name in self._directory.names(_OPEN) if name.endswith(".json")]

    def held_by_others(self, batch_ids: Collection[str], tag: str) -> dict[str, list[Entry]]:
        """Return the entries of other claims that have one of these batches, be it by a guess.

        All entries are read once, and none where there is no batch to ask about.
        """
        held: dict[str, list[Entry]] = {}
        for entry in self.entries() if batch_ids else ():
            if entry.tag != tag and entry.batch_id is not None and entry.batch_id in batch_ids:
                held.setdefault(entry.batch_id, []).append(entry)
        return held

    def is_certain(self, holders: Iterable[Entry], account: Account, owner: str) -> bool:
        """Tell whether another claim certainly owns a batch.

        Either it was confirmed, or it was noted before `owner` acquired the submit lock; a later guess may be wrong.
        """
        return any(not entry.tentative or self._is_older_than_lock(entry, account, owner) for entry in holders)

    def _is_older_than_lock(self, entry: Entry, account: Account, owner: str) -> bool:
        holder = self._lock(account)
        if holder is None or holder.owner != owner:
            return False
        # By the clock of the filesystem, because those of two workers may differ.
        try:
            return self._directory.modified(_entry_name(entry.tag)) < self._directory.modified(_lock_name(account))
        except FileNotFoundError:  # the batch has landed meanwhile, or another worker has ended the lock
            return False

    # since when nobody waits for a batch; kept by the reconciler from one run to the next

    def over_since(self, tag: str) -> datetime | None:
        """Return when the task of this batch was first seen to be over, None when it was not."""
        seen = load(self._directory, _over_name(tag), Over)
        return None if seen is None else seen.seen_at

    def mark_over(self, tag: str, now: datetime) -> None:
        """Note that the task of this batch is over; the first note stands."""
        create(self._directory, _over_name(tag), Over(seen_at=now))

    def unmark_over(self, tag: str) -> None:
        """Drop the note: the task waits again, or its batch is no longer open."""
        self._directory.delete(_over_name(tag))

    def marked_over(self) -> list[str]:
        """Return the tags of all such notes."""
        return [name.removesuffix(".json") for name in self._directory.names(_OVER) if name.endswith(".json")]

    # one worker at a time

    async def acquire_submit_lock(
        self, account: Account, owner: str, clock: Clock, max_wait: timedelta, tag: str = ""
    ) -> None:
        """Wait until this worker is the only one of the deployment that submits at the account.

        Args:
            clock: tells the same time to all workers at the account, so that a lease is as long for each.
            tag: of the claim that is submitted.

        Raises:
            Unavailable: others submitted all that time.
        """
        for tries_left in range(max_wait // LOCK_PAUSE, -1, -1):
            if self._took_lock(account, SubmitLock(owner=owner, tag=tag, taken_at=clock.now())):
                return
            if tries_left:
                await clock.sleep(LOCK_PAUSE.total_seconds())
        raise Unavailable(
            "Other tasks are submitting at this account.",
            retry_after=LOCK_COME_BACK.total_seconds(),
            ambiguous=False,
        )

    def _took_lock(self, account: Account, lock: SubmitLock) -> bool:
        """Take the lock if it is free or its holder has died; False when another worker submits."""
        while not create(self._directory, _lock_name(account), lock):
            holder = self._lock(account)
            if holder is None:
                continue
            if holder.owner == lock.owner:
                return True
            if not self._is_over(holder, lock.taken_at):
                return False
            self._directory.delete(_lock_name(account))
        return True

    def _is_over(self, lock: SubmitLock, now: datetime) -> bool:
        """Tell whether the holder of a lock has died: its lease has passed, or its claim needs no lock any more."""
        if now - lock.taken_at > LOCK_LEASE:
            log.warning("A worker kept the submit lock since %s: it is taken from it.", lock.taken_at)
            return True
        # A claim is entered before its lock is acquired, leaves when nothing was bought, and names what was.
        return bool(lock.tag) and ((entry := self.get(lock.tag)) is None or entry.batch_id is not None)

    def end_submit(self, account: Account, tags: Collection[str]) -> None:
        """Let the next worker submit when one of these claims, which are settled, still has the submit lock."""
        holder = self._lock(account)
        if holder is not None and holder.tag in tags:
            self._directory.delete(_lock_name(account))

    def release_submit_lock(self, account: Account, owner: str) -> None:
        """Let the next worker submit."""
        holder = self._lock(account)
        if holder is not None and holder.owner == owner:
            self._directory.delete(_lock_name(account))

    def _lock(self, account: Account) -> SubmitLock | None:
        return load(self._directory, _lock_name(account), SubmitLock)


def earliest(claimed_at: datetime, as_of: datetime | None) -> datetime:
    """Return the time, by the provider's clock, before which the batch of a claim cannot have been created."""
    return claimed_at - WORST_SKEW if as_of is None else as_of


def _entry_name(tag: str) -> str:
    return f"{_OPEN}/{tag}.json"


def _over_name(tag: str) -> str:
    return f"{_OVER}/{tag}.json"


def _lock_name(account: Account) -> str:
    return f"locks/{account_digest(account)}.json"


def distinct(accounts: Iterable[Account]) -> list[Account]:
    """Return each account once, though several connections may reach it."""
    return list({account_digest(account): account for account in accounts}.values())


def account_digest(account: Account) -> str:
    """Return 16 hex digits that tell accounts apart without showing a key."""
    secret = account.api_key.get_secret_value()
    text = f"{account.provider}\n{account.base_url}\n{secret}"
    return hashlib.blake2b(text.encode(), digest_size=8, person=b"batchregistry").hexdigest()
