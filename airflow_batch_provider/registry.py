"""What one deployment has at its providers: a small file for every claimed batch that has not landed.

Tasks keep their own ledgers; this is the one place where they meet. It lets a worker tell a neighbour's batch from its
own where the provider keeps no tags, serialises submits there, and tells the reconciler what nobody waits for any more.
"""

from __future__ import annotations

import hashlib
import logging
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.models import FrozenModel
from airflow_batch_provider.records import load, save

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Account
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# A turn that was not given back after this time belongs to a worker that died; longer than any submit's time-out.
LEASE = timedelta(minutes=15)

_TAG = re.compile(r"[a-z0-9-]{1,40}")


class Entry(FrozenModel):
    """One claimed batch.

    Attributes:
        account: tells accounts apart without showing a key.
        label: whose it is: `dag/run/task[/map_index]`.
        claim: URI of the claim, beside which the receipt lies.
        batch_id: None until the provider has answered.
        tentative: as in the receipt: the batch may be somebody else's.
    """

    tag: str
    provider: str
    account: str
    label: str
    claim: str
    requests: int
    claimed_at: AwareDatetime
    batch_id: str | None = None
    tentative: bool = False


class Turn(FrozenModel):
    """Who may submit at an account that keeps no tags."""

    owner: str
    taken_at: AwareDatetime


class Over(FrozenModel):
    """The task of an open batch was seen to be over."""

    seen_at: AwareDatetime


class Registry:
    """The entries of one deployment, one file each, by tag.

    Args:
        directory: shared by all workers, beside the stage storages.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def enter(self, entry: Entry) -> None:
        """Note a claimed batch, or more about one that is noted."""
        save(self._directory, f"open/{entry.tag}.json", entry)

    def leave(self, tag: str) -> None:
        """Forget a batch that has landed or was never bought."""
        self._directory.delete(f"open/{tag}.json")

    def get(self, tag: str) -> Entry | None:
        """The entry of this tag, None when there is none; a tag that a provider shows may be anything."""
        return load(self._directory, f"open/{tag}.json", Entry) if _TAG.fullmatch(tag) else None

    def entries(self) -> Iterator[Entry]:
        """Every entry, by tag."""
        for tag in self.tags():
            entry = load(self._directory, f"open/{tag}.json", Entry)
            if entry is not None:  # it may have landed meanwhile
                yield entry

    def tags(self) -> list[str]:
        """The tags of all entries."""
        return [name.removesuffix(".json") for name in self._directory.names("open") if name.endswith(".json")]

    def is_of_another(self, batch_id: str, tag: str) -> bool:
        """True when another claim has this batch, be it by a guess."""
        return any(self._holders(batch_id, tag))

    def is_surely_of_another(self, batch_id: str, tag: str, account: Account, owner: str) -> bool:
        """True when another claim has this batch and it cannot be what `owner` sent in its turn, if it has one.

        A guess by time and size may be wrong, unless it was noted before the turn began.
        """
        return any(
            not entry.tentative or self._is_older_than_turn(entry, account, owner)
            for entry in self._holders(batch_id, tag)
        )

    def _holders(self, batch_id: str, tag: str) -> Iterator[Entry]:
        return (entry for entry in self.entries() if entry.batch_id == batch_id and entry.tag != tag)

    def _is_older_than_turn(self, entry: Entry, account: Account, owner: str) -> bool:
        name = f"turns/{account_digest(account)}.json"
        holder = load(self._directory, name, Turn)
        if holder is None or holder.owner != owner:
            return False
        # By the clock of the filesystem, because those of two workers may differ.
        return self._directory.modified(f"open/{entry.tag}.json") < self._directory.modified(name)

    # since when nobody waits for a batch; kept by the reconciler, whose looks are apart

    def over_since(self, tag: str) -> datetime | None:
        """When the task of this batch was first seen to be over, None when it was not."""
        seen = load(self._directory, f"over/{tag}.json", Over)
        return None if seen is None else seen.seen_at

    def mark_over(self, tag: str, now: datetime) -> None:
        """Note that the task of this batch is over; the first note stands."""
        self._directory.create(f"over/{tag}.json", Over(seen_at=now).model_dump_json().encode())

    def unmark_over(self, tag: str) -> None:
        """The task waits again, or its batch is no longer open."""
        self._directory.delete(f"over/{tag}.json")

    def marked_over(self) -> list[str]:
        """Tags of all such notes."""
        return [name.removesuffix(".json") for name in self._directory.names("over") if name.endswith(".json")]

    async def take_turn(self, account: Account, owner: str, clock: Clock, patience: timedelta) -> None:
        """Wait until this worker is the only one of the deployment that submits at the account.

        Raises:
            Unavailable: others submitted all the time of the patience.
        """
        name = f"turns/{account_digest(account)}.json"
        give_up = clock.now() + patience
        while True:
            turn = Turn(owner=owner, taken_at=clock.now())
            if self._directory.create(name, turn.model_dump_json().encode()):
                return
            holder = load(self._directory, name, Turn)
            if holder is not None and holder.owner == owner:
                return
            if holder is not None and clock.now() - holder.taken_at > LEASE:
                log.warning("A worker kept its turn to submit since %s: it is taken from it.", holder.taken_at)
                self._directory.delete(name)
                continue
            if clock.now() >= give_up:
                raise Unavailable("Other tasks are submitting at this account.", retry_after=30.0, ambiguous=False)
            await clock.sleep(1.0)

    def end_turn(self, account: Account, owner: str) -> None:
        """Let the next one submit."""
        name = f"turns/{account_digest(account)}.json"
        holder = load(self._directory, name, Turn)
        if holder is not None and holder.owner == owner:
            self._directory.delete(name)


def distinct(accounts: Iterable[Account]) -> list[Account]:
    """One for each account, of those that several connections may reach."""
    return list({account_digest(account): account for account in accounts}.values())


def account_digest(account: Account) -> str:
    """Tells accounts apart without showing a key: 16 hex digits."""
    secret = account.api_key.get_secret_value()
    text = f"{account.provider}\n{account.base_url}\n{secret}"
    return hashlib.blake2b(text.encode(), digest_size=8, person=b"batchregistry").hexdigest()
