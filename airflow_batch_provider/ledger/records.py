"""The files of the ledger, as values; which of them exist is the state of the task.

```
plan.json                     what is asked and how, and the parts of wave 0; made last, by one worker only
clock.json                    when the deadline began to count; absent while nothing is waited for
waves/1/wave.json             the parts of a later wave; made after its request files, by one worker only
waves/0/00000-DRAFT.requests.jsonl  one planned row a line
waves/0/00000.claim.json      about to submit under this tag; a later claim is a file of its own: 00000.claim-1.json
waves/0/00000.receipt.json     the provider has it
waves/0/00000.void-1.json     a batch of this part failed as a whole, before anything ran
waves/0/00000-DRAFT.rows.jsonl  landed: one row per request
results.jsonl | .parquet      one row per request, in the order asked
manifest.json                 done
manifest.unmet.json           what an attempt came to that fell short
```
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import AwareDatetime

from airflow_batch_provider.models import FrozenModel, Spec

REQUESTS, ROWS = ".requests.jsonl", ".rows.jsonl"
"""What the names of request files, and of the files of landed rows, end with."""


class Part(FrozenModel):
    """One request file, which becomes one batch.

    Attributes:
        bytes: size of the wire lines.
        tokens: estimate of the input.
        draft: tells its files from those that another worker writes at the same time, or under other requests.
    """

    number: int
    requests: int
    bytes: int
    tokens: int
    draft: str = ""

    @property
    def name(self) -> str:
        """What the names of this part's files begin with."""
        return f"{self.number:05d}"

    @property
    def requests_name(self) -> str:
        """The request file."""
        return f"{self._drafted}{REQUESTS}"

    @property
    def rows_name(self) -> str:
        """The file of its rows, once they have landed; what was landed first stands, because later waves ask by it."""
        return f"{self._drafted}{ROWS}"

    @property
    def _drafted(self) -> str:
        return f"{self.name}{self.draft and '-'}{self.draft}"


class Wave(FrozenModel):
    """One round of batches.

    Attributes:
        nonce: 12 hex digits that begin every tag of its plan.
        attempt: try of the task that opened it, from 1.
    """

    nonce: str
    number: int
    attempt: int
    opened_at: AwareDatetime
    parts: tuple[Part, ...]

    @property
    def requests(self) -> int:
        """Rows asked in this wave."""
        return sum(part.requests for part in self.parts)

    def owns(self, tag: str) -> bool:
        """True for a tag of this plan; False for one of other requests, which a zombie may leave in the same files."""
        return tag.startswith(f"{self.nonce}-")


class Plan(FrozenModel):
    """What is asked and how.

    Attributes:
        fingerprint: of the spec and of every row; another one means other requests.
        requests: number of rows.
        first: wave 0, which is sealed with the plan.
    """

    fingerprint: str
    provider: str
    spec: Spec
    requests: int
    created_at: AwareDatetime
    first: Wave

    @property
    def nonce(self) -> str:
        """What every tag of this plan begins with."""
        return self.first.nonce

    def tag(self, wave: int, part: int, voids: int) -> str:
        """Our name for one batch at the provider, unique for ever; at most 40 characters of `[a-z0-9-]`.

        Args:
            voids: batches of this part that failed as a whole before.
        """
        return f"{self.nonce}-{wave}-{part:05d}" + (f"-{voids}" if voids else "")

    def tags(self, wave: int, part: int, voids: int) -> list[str]:
        """The tags of all batches of a part, of which `voids` failed as a whole; the last is the one that counts."""
        return [self.tag(wave, part, number) for number in range(voids + 1)]


class Claim(FrozenModel):
    """About to submit under this tag.

    Attributes:
        number: of the claim among those on the same batch, from 0.
        owner: the worker that may submit; another one takes the claim over with a claim in its own name.
        waits_for_turn: True until the worker has its turn at the account, so nothing was sent yet.
        withdrawn: True when nothing was bought, so that this is no claim any more.
    """

    number: int = 0
    tag: str
    requests: int
    claimed_at: AwareDatetime
    attempt: int
    owner: str
    waits_for_turn: bool = False
    withdrawn: bool = False


class Receipt(FrozenModel):
    """The provider has the batch.

    Attributes:
        tentative: True when the batch was found by time and size only; the keys of its results must confirm it.
    """

    batch_id: str
    tag: str
    requests: int
    submitted_at: AwareDatetime
    tentative: bool = False


class Void(FrozenModel):
    """A batch that failed as a whole for a passing reason before any of it ran, so its part is submitted again.

    Attributes:
        again_at: when.
    """

    batch_id: str
    reason: str
    again_at: AwareDatetime


UNMET = "manifest.unmet.json"
"""The manifest of an attempt that fell short of what the task asks for; people read it, nothing else does."""

CLOCK = "clock.json"
"""File of the clock."""


class ClockRecord(FrozenModel):
    """The deadline counts from here."""

    started_at: AwareDatetime


# msgspec reads no `Raw | None` (0.20), so a row without a schema of its own holds empty bytes, which are not written.
NO_SCHEMA = msgspec.Raw()


def encoded(schema: dict[str, Any] | None) -> msgspec.Raw:
    """A schema as the files keep it."""
    return msgspec.Raw(msgspec.json.encode(schema)) if schema else NO_SCHEMA


class PlannedRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a request file: the row's place, the user's key and the provider's request body.

    Attributes:
        schema: the row's own JSON schema; empty takes the plan's.
    """

    index: int
    custom_id: str
    body: msgspec.Raw
    schema: msgspec.Raw = NO_SCHEMA
