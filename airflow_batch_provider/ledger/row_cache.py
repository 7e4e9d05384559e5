"""Good answers of all tasks, kept by what was asked, so that no later task buys them again.

```
{row_cache}/SCOPE/SHARD.TIME-TAG.jsonl.zst     the answers of one landed batch, or a part of them, one a line
```

SCOPE tells provider, address, kind, model and schema; SHARD is how the digests begin that are in it. A batch makes one object,
or, when it is large, up to 16 or 256. Names hold digests, times and our tags, and nothing of what was asked. What cannot be
read or written is as if it were not there: the cache never ends a task.
"""

from __future__ import annotations

import logging
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from airflow_batch_provider.compression import reading, writing
from airflow_batch_provider.ledger.requests import asked_digest
from airflow_batch_provider.scratch import scratch_folder, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.models import Account, Spec
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(all|[0-9a-f]{1,2})\.(\d{8}T\d{6}Z)-[a-z0-9-]+\.jsonl\.zst")
_EVERY = "all"
# Requests of a batch from which on its objects are told apart by so many digits of the digests: then each holds dozens of
# answers, and a task of few rows reads few of them.
_DIGITS = ((16_384, 2), (1_024, 1), (0, 0))
_AT_ONCE = 8


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer as the cache has it.

    Attributes:
        key: digest of what was asked, in hex.
        output: as in the row that landed.
    """

    key: str
    output: msgspec.Raw
    model: str | None = None
    finish_reason: str | None = None


_JSON = msgspec.json.Encoder()


@dataclass
class RowCache:
    """The answers to what is asked in one scope.

    Attributes:
        directory: of the scope.
        ttl: how old an answer may be.
    """

    directory: Directory
    ttl: timedelta
    clock: Clock
    _warned: bool = field(default=False, init=False)

    @classmethod
    def of(cls, root: Directory, ttl: timedelta, clock: Clock, account: Account, spec: Spec) -> RowCache:
        """Return the cache of what is asked of an account's provider with this model and schema."""
        asked = [account.provider, account.base_url or "", spec.kind, spec.model, spec.output_schema]
        scope = blake2b(msgspec.json.encode(asked), digest_size=8, person=b"rowcache").hexdigest()
        return cls(root.sub(scope), ttl, clock)

    # from the cache

    def objects(self) -> dict[str, list[str]]:
        """Return the names of the objects that are not too old by their shard, newest first."""
        oldest = self.clock.now() - self.ttl
        found: dict[str, list[str]] = {}
        try:
            dated = [(at, name) for name in self.directory.names() if (at := written_at(name)) and at >= oldest]
        except Exception as error:  # noqa: BLE001 — the errors of object stores have no common class
            self._warn(error)
            return found
        for _, name in sorted(dated, reverse=True):
            found.setdefault(name.partition(".")[0], []).append(name)
        return found

    def lines(self, name: str) -> Iterator[bytes]:
        """Return the answers of an object, a line each, as far as they can be read."""
        try:
            with self.directory.reader(name) as raw, reading(raw, name) as file:
                yield from file
        except FileNotFoundError:
            return  # it was pruned meanwhile
        except Exception as error:  # noqa: BLE001 — as above, and whatever a damaged file makes a reader raise
            self._warn(error)

    # into the cache

    def keep(self, batch: BatchFiles, requests: int, tag: str) -> None:
        """Keep the good answers of a landed batch.

        Args:
            requests: of the batch.
        """
        digits = next(digits for least, digits in _DIGITS if requests >= least)
        try:
            self._keep(_good_answers(batch), digits, f"{self.clock.now().astimezone(UTC):{_TIME}}-{tag}")
        except Exception as error:  # noqa: BLE001 — the answers are safe where they landed
            self._warn(error)

    def _keep(self, answers: Iterable[KeptAnswer], digits: int, suffix: str) -> None:
        with scratch_folder() as scratch:
            parts: dict[str, BinaryIO] = {}
            with ExitStack() as stack:
                for one in answers:
                    shard = one.key[:digits] or _EVERY
                    if shard not in parts:
                        parts[shard] = stack.enter_context(written(scratch / shard))
                    parts[shard].write(_JSON.encode(one) + b"\n")
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batch") as pool:
                for done in [pool.submit(self._publish, scratch / shard, f"{shard}.{suffix}") for shard in parts]:
                    done.result()

    def _publish(self, part: Path, stem: str) -> None:
        name = f"{stem}.jsonl.zst"
        with part.open("rb") as source, self.directory.writer(name) as raw, writing(raw, name) as file:
            shutil.copyfileobj(source, file)

    def _warn(self, error: Exception) -> None:
        """Say once that the cache does not work."""
        if not self._warned:
            log.warning("The row cache %s does not work, so what it may have is bought: %r", self.directory, error)
        self._warned = True


def _good_answers(batch: BatchFiles) -> Iterator[KeptAnswer]:
    """Return the good answers of a landed batch by what was asked first; one that was cut off may be none to others."""
    for asked, row in zip(batch.planned_rows(), batch.landed_rows(), strict=True):
        if row.status == "succeeded" and row.finish_reason != "max_tokens":
            key = asked.first_asked or asked_digest(asked).hex()
            yield KeptAnswer(key=key, output=row.output, model=row.model, finish_reason=row.finish_reason)


def written_at(name: str) -> datetime | None:
    """Return when an object of the cache was written, None of any other file, whoever put it there."""
    if (found := _NAME.fullmatch(name)) is None:
        return None
    try:
        return datetime.strptime(found[2], _TIME).replace(tzinfo=UTC)
    except ValueError:  # no such day or hour
        return None
