"""Anthropic's Message Batches, over the official async SDK.

Settings of the connection (`Account.options`): `timeout` (seconds without a byte, default 120), `max_requests` and
`max_bytes` of one batch (defaults: what Anthropic allows).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import anthropic  # noqa: TID253  # the one folder that names this SDK is imported when the provider is first used
import httpx2

from airflow_batch_provider.exceptions import BatchError, NotFound
from airflow_batch_provider.models import BatchStatus, RequestCounts
from airflow_batch_provider.providers import faults, http
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.base import Candidate, Limits, Prepared
from airflow_batch_provider.providers.lines import CHUNK, replies
from airflow_batch_provider.providers.stainless import StainlessProvider
from airflow_batch_provider.providers.untrusted import (
    as_count,
    as_object,
    bought_id,
    checked_id,
    found_id,
    moment,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from datetime import datetime
    from types import ModuleType

    from airflow_batch_provider.models import Account, BatchState, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

STATES: Mapping[str, BatchState] = {"in_progress": "processing", "canceling": "processing", "ended": "completed"}
"""`processing_status` → our word; an ended batch is told apart further by what became of its requests."""

# Codes that mean money, not pace; `ramp_limit_exceeded` is pace (anthropic 2.12, types/shared/*_error_details.py).
PAUSING = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)

_OPENING, _CLOSING = b'{"requests":[', b"]}"
_BLOCK = 1 << 20
_MOST_PAGES = 1000
_SKEW = timedelta(minutes=2)


class AnthropicProvider(StainlessProvider):
    """One Anthropic workspace.

    Anthropic keeps no name of ours at a batch, so `find` goes by time and number of requests, and is certain only once
    a batch has ended and its keys can be read (https://platform.claude.com/docs/en/api/messages-batches, 2026-11).
    """

    name: ClassVar[str] = "anthropic"
    keeps_tags: ClassVar[bool] = False
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate"})
    in_realtime: ClassVar[frozenset[Kind]] = kinds
    # https://platform.claude.com/docs/en/build-with-claude/batch-processing (2026-09); 10 is ours: it fits the queue of
    # the second tier, 300,000 requests, with batches of a size that 256 MB allow.
    most: ClassVar[Limits] = Limits(requests=100_000, bytes=256_000_000, in_flight=10)
    codec = AnthropicCodec()
    title: ClassVar[str] = "Anthropic"
    address: ClassVar[str] = "https://api.anthropic.com"
    states: ClassVar[Mapping[str, BatchState]] = STATES
    sdk: ClassVar[ModuleType] = anthropic
    cursor: ClassVar[str] = "after_id"
    stopping: ClassVar[str] = "canceling"
    longest_page: ClassVar[int] = 1000  # anthropic 2.12, `resources/messages/batches.py`

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account, transport)
        self._client = anthropic.AsyncAnthropic(
            api_key=self._key,
            base_url=self._address,
            http_client=self._http,
            # Left out, a time-out of 5 s, httpx2's default, would become the SDK's own of 600 s.
            timeout=http.timeouts(account),
            max_retries=0,
            open_telemetry=False,
        )
        # The SDK offers no other way to keep ANTHROPIC_CUSTOM_HEADERS out (anthropic 2.12, `_client.py`).
        self._client._custom_headers = {}  # noqa: SLF001

        # Of ended batches, whose results never change: a search is repeated, and many batches may be of equal size.
        self._first_keys: dict[str, str] = {}

    @property
    def _batches(self) -> Any:
        return self._client.messages.batches.with_raw_response

    async def prepare(self, payload: Payload) -> Prepared:
        """Do nothing: the create carries the lines."""
        return Prepared(payload)

    async def create(self, prepared: Prepared) -> str:
        """Stream the file as one JSON body of known length: flat memory, no stall of the loop (measured, 2026-11)."""
        payload, what = prepared.payload, f"Creating batch {prepared.payload.tag}"
        length = len(_OPENING) + payload.bytes - 1 + len(_CLOSING)
        with await asyncio.to_thread(payload.path.open, "rb") as file:
            async with self._talking(what):
                reply = await self._client.post(
                    "/v1/messages/batches",
                    cast_to=httpx2.Response,
                    content=_envelope(file),
                    options={
                        "max_retries": 0,
                        "timeout": http.timeouts(self.account, times=5),
                        "headers": {"Content-Type": "application/json", "Content-Length": str(length)},
                    },
                )
        return bought_id(faults.read_reply(reply.content, what).get("id"), payload.tag)

    async def _ask(self, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """Raw: for a long answer the SDK's own method demands a stream (anthropic 2.12, `resources/messages`)."""
        return await self._answer(self._client, "/v1/messages", body)

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Return the batches created since the claim with as many requests; of the ended ones, those that hold our keys."""
        since = claim.claimed_at - _SKEW
        created = [record async for record in self._listed(self._batches, _MOST_PAGES, since)]
        alike = [record for record in created if sum(_counts(record).values()) == claim.requests]
        looked_at = [await self._recognised(record, claim) for record in alike]
        return [found for found in looked_at if found is not None]

    async def _recognised(self, record: dict[str, Any], claim: BatchQuery) -> Candidate | None:
        batch_id = found_id(record.get("id"), claim.tag)
        if not (record.get("processing_status") == "ended" and record.get("results_url")):
            return Candidate(batch_id, certain=False)
        key = self._first_keys.get(batch_id) or await self._first_key(batch_id)
        if key is None:
            return Candidate(batch_id, certain=False)
        self._first_keys[batch_id] = key
        return Candidate(batch_id, certain=True) if key.startswith(claim.key_prefix) else None

    async def _first_key(self, batch_id: str) -> str | None:
        """Return the first key of an ended batch; None if its results were archived or deleted."""
        try:
            async with aclosing(self.results(batch_id, "generate")) as found:
                first = await anext(found, None)
        except NotFound:
            return None
        return None if first is None else first.key

    async def tagged(self, since: datetime) -> AsyncGenerator[BatchStatus, None]:  # noqa: ARG002
        """Yield nothing: Anthropic keeps no tags."""
        return
        yield

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the results from our own address: `results_url` may name any host, and the key would go there."""
        record = await self._retrieve(batch_id)
        if archived := record.get("archived_at"):
            raise NotFound(
                f"The results of {batch_id} were archived at {one_line(str(archived), 40)}; Anthropic keeps them 29 days."
            )
        if record.get("processing_status") == "ended" and not record.get("results_url"):
            return
        async with self._talking(f"Reading the results of {batch_id}"):
            async with aclosing(await self._download(batch_id)) as response:
                async for reply in replies(self, response.aiter_bytes(CHUNK), kind):
                    yield reply

    async def clean_up(self, batch_id: str) -> None:
        """Leave the batch: Anthropic counts no files, drops results after 29 days, and people look for it there."""

    async def _download(self, batch_id: str) -> httpx2.Response:
        """Return the open reply with the results; the SDK's own `results()` is quadratic in the length of a line."""
        reply: object = await self._client.get(
            f"/v1/messages/batches/{batch_id}/results",
            cast_to=httpx2.Response,
            options={"max_retries": 0, "headers": {"Accept": "application/binary"}},
            stream=True,
            stream_cls=anthropic.AsyncStream[Any],
        )
        return cast("httpx2.Response", reply)

    def _status(self, record: dict[str, Any]) -> BatchStatus:
        word, counts = one_line(record.get("processing_status"), 80), _counts(record)
        return BatchStatus(
            batch_id=checked_id(record.get("id")),
            status=_ended(record, counts) if word == "ended" else self._states[word],
            counts=RequestCounts(
                total=sum(counts.values()),
                succeeded=counts["succeeded"],
                failed=counts["errored"] + counts["canceled"] + counts["expired"],
            ),
            created_at=moment(record.get("created_at")),
            ended_at=moment(record.get("ended_at")),
            expires_at=moment(record.get("expires_at")),
            provider_status=word,
        )

    def _refused(self, error: anthropic.APIStatusError) -> BatchError:
        code = error.error_code or error.type
        return faults.refused(
            faults.Fault(
                provider="Anthropic",
                http_status=error.status_code,
                message=str(error.api_message or error.message),
                code=None if code is None else str(code),
                retry_after=http.retry_after(error.response.headers),
                pauses=error.error_code in PAUSING,
                key=self._key,
            )
        )


def _counts(record: dict[str, Any]) -> dict[str, int]:
    told = as_object(record.get("request_counts"))
    return {name: as_count(told.get(name)) for name in ("processing", "succeeded", "errored", "canceled", "expired")}


def _ended(record: dict[str, Any], counts: dict[str, int]) -> BatchState:
    """`ended` says nothing about success; whatever the word, landing takes the lines that are there."""
    if record.get("cancel_initiated_at"):
        return "cancelled"
    total = sum(counts.values())
    return "expired" if total and counts["expired"] == total else STATES["ended"]


async def _envelope(file: BinaryIO) -> AsyncIterator[bytes]:
    """Return the JSON lines of the file as one array: JSON text holds no raw newline, so each newline becomes a comma."""
    yield _OPENING
    held = b""
    while block := await asyncio.to_thread(file.read, _BLOCK):
        whole = held + block
        held = whole[-1:]
        yield whole[:-1].replace(b"\n", b",")
    yield held.rstrip(b"\n") + _CLOSING
