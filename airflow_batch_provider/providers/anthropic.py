"""Anthropic's Message Batches, over the official async SDK.

Settings of the connection (`Account.options`): `timeout` (seconds without a byte, default 120), `max_requests` and
`max_bytes` of one batch (defaults: what Anthropic allows).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import anthropic  # noqa: TID253  # the one file that names this SDK is imported when the provider is first used
import httpx2
from anthropic.types.messages import MessageBatch  # noqa: TID253

from airflow_batch_provider.exceptions import BatchError, NotFound, Rejected, Unavailable, UsageError
from airflow_batch_provider.models import BatchRequest, BatchStatus, RequestCounts
from airflow_batch_provider.providers import anthropic_messages as messages
from airflow_batch_provider.providers import pages as listing
from airflow_batch_provider.providers import reading, wire
from airflow_batch_provider.providers.base import BatchProvider, Candidate, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
    from datetime import datetime

    from airflow_batch_provider.models import Account, BatchState, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

ADDRESS = "https://api.anthropic.com"

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

# https://platform.claude.com/docs/en/build-with-claude/batch-processing (2026-09); 10 is ours: it fits the queue of
# the second tier, 300,000 requests, with batches of a size that 256 MB allow.
_LIMITS = Limits(requests=100_000, bytes=256_000_000, in_flight=10)
_OPENING, _CLOSING = b'{"requests":[', b"]}"
_BLOCK = 1 << 20
_PAGE = 100
# The most that a page may hold (anthropic 2.12, `resources/messages/batches.py`).
_SWEPT = 1000
_MOST_PAGES = 1000
_SKEW = timedelta(minutes=2)


class AnthropicProvider(BatchProvider):
    """One Anthropic workspace.

    Anthropic keeps no name of ours at a batch, so `find` goes by time and number of requests, and is certain only once
    a batch has ended and its keys can be read (https://platform.claude.com/docs/en/api/messages-batches, 2026-11).
    """

    name: ClassVar[str] = "anthropic"
    keeps_tags: ClassVar[bool] = False
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate"})

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account)
        self._address, self._key = wire.base_url(account, ADDRESS), wire.api_key(account)
        self._http = wire.http_client(account, transport)
        self._client = anthropic.AsyncAnthropic(
            api_key=self._key, base_url=self._address, http_client=self._http, max_retries=0, open_telemetry=False
        )
        # The SDK offers no other way to keep ANTHROPIC_CUSTOM_HEADERS out (anthropic 2.12, `_client.py`).
        self._client._custom_headers = {}  # noqa: SLF001
        self._words = reading.Words("Anthropic", STATES)

    def limits(self, spec: Spec) -> Limits:  # noqa: ARG002
        """100,000 requests and 256 MB, unless the connection says otherwise."""
        return reading.limits(self.account, _LIMITS)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` for embeddings, which Anthropic has none of, and for parameters or schemas it refuses."""
        if spec.kind not in self.kinds:
            raise UsageError(
                f"Anthropic has no embeddings, so {spec.model!r} cannot embed. Use a connection of OpenAI or Gemini."
            )
        messages.encode(BatchRequest(prompt="?"), spec)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """A body of POST /v1/messages."""
        return messages.encode(request, spec)

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """One element of `requests`."""
        return messages.line(key, body)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The same conversation, with the answer and the problem."""
        return messages.reask(body, answer, problem)

    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The same question with more room for the answer."""
        return messages.lengthen(body, factor)

    def decode(self, line: bytes, kind: Kind) -> Reply:  # noqa: ARG002
        """One line of the results."""
        return messages.decode(line)

    async def check(self) -> str:
        """List one batch, which costs nothing and needs the same right as creating one."""
        what = "Listing one batch"
        async with self._talking(what):
            await reading.page(self._client.messages.batches.list(limit=1), what)
        return f"Anthropic at {self._address} accepts the key."

    async def submit(self, payload: Payload) -> str:
        """Stream the file as one JSON body of known length: flat memory, no stall of the loop (measured, 2026-11)."""
        what = f"Creating batch {payload.tag}"
        length = len(_OPENING) + payload.bytes - 1 + len(_CLOSING)
        with await asyncio.to_thread(payload.path.open, "rb") as file:
            payload.fence()
            async with self._talking(what):
                batch = await self._client.post(
                    "/v1/messages/batches",
                    cast_to=MessageBatch,
                    content=_envelope(file),
                    options={
                        "max_retries": 0,
                        "timeout": wire.patience(self.account, times=5),
                        "headers": {"Content-Type": "application/json", "Content-Length": str(length)},
                    },
                )
        return reading.bought_id(reading.record(batch, what).get("id"), payload.tag)

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Batches created since the claim with as many requests; of the ended ones, those that hold our keys."""
        since = claim.claimed_at - _SKEW
        async with self._talking(f"Looking for batch {claim.tag}"):
            created = [record async for record in self._listed(_MOST_PAGES, since)]
        alike = [record for record in created if sum(_counts(record).values()) == claim.requests]
        looked_at = [await self._recognised(record, claim) for record in alike]
        return [found for found in looked_at if found is not None]

    async def _recognised(self, record: dict[str, Any], claim: BatchQuery) -> Candidate | None:
        batch_id = reading.found_id(record.get("id"), claim.tag)
        if not (record.get("processing_status") == "ended" and record.get("results_url")):
            return Candidate(batch_id, certain=False)
        try:
            async with aclosing(self.results(batch_id, "generate")) as replies:
                first = await anext(replies, None)
        except NotFound:
            first = None  # archived or deleted: whose it was can no longer be read
        if first is None:
            return Candidate(batch_id, certain=False)
        return Candidate(batch_id, certain=True) if first.key.startswith(claim.key_prefix) else None

    async def tagged(self, since: datetime) -> AsyncGenerator[BatchStatus, None]:  # noqa: ARG002
        """Nothing: Anthropic keeps no tags."""
        nothing: tuple[BatchStatus, ...] = ()
        for status in nothing:
            yield status

    async def status(self, batch_id: str) -> BatchStatus:
        """GET the batch."""
        return self._status(await self._retrieve(batch_id))

    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus]:
        """Pages of the list for more than two ids, then what they lack one by one."""
        wanted = {wire.checked_id(batch_id) for batch_id in batch_ids}
        seen: dict[str, BatchStatus] = {}
        if len(wanted) > 2:
            async with self._talking("Listing batches"):
                seen = await reading.picked(self._listed(2 + len(wanted) // _PAGE), wanted, self._status)
        return seen | await reading.one_by_one(self.status, wanted - seen.keys())

    def listed_id(self, batch_id: str) -> str:
        """The id itself."""
        return wire.checked_id(batch_id)

    async def pages(self) -> AsyncGenerator[list[BatchStatus], None]:
        """Pages of a thousand batches of the workspace, newest first."""
        after: dict[str, str] = {}
        while True:
            page = await self._page(after)
            found = listing.records(page.data)
            yield listing.statuses(found, self._status)
            last = listing.last_id(found)
            if page.has_more is not True or last is None or {"after_id": last} == after:
                return
            after = {"after_id": last}

    async def _page(self, after: dict[str, str]) -> listing.Page:
        what = "Listing batches"
        async with self._talking(what):
            response = await self._client.get(
                "/v1/messages/batches",
                cast_to=httpx2.Response,
                options={"max_retries": 0, "params": {"limit": _SWEPT, **after}},
            )
            return listing.read_page(response.content, what)

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the results from our own address: `results_url` may name any host, and the key would go there."""
        record = await self._retrieve(batch_id)
        if archived := record.get("archived_at"):
            raise NotFound(f"The results of {batch_id} were archived at {archived!r}; Anthropic keeps them 29 days.")
        if record.get("processing_status") == "ended" and not record.get("results_url"):
            return
        async with self._talking(f"Reading the results of {batch_id}"):
            async with aclosing(await self._download(batch_id)) as response:
                async for line in wire.jsonl(response.aiter_bytes(wire.CHUNK)):
                    if (reply := reading.read_reply(self, line, kind)) is not None:
                        yield reply

    async def cancel(self, batch_id: str) -> None:
        """POST cancel; a refusal is passed over when the batch is stopping or over."""
        wire.checked_id(batch_id)
        try:
            async with self._talking(f"Cancelling {batch_id}"):
                await self._client.messages.batches.cancel(batch_id)
        except (Rejected, Unavailable):
            status = await self.status(batch_id)
            if not status.ended and status.provider_status != "canceling":
                raise

    async def clean_up(self, batch_id: str) -> None:
        """Leave the batch: Anthropic counts no files, drops results after 29 days, and people look for it there."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _retrieve(self, batch_id: str) -> dict[str, Any]:
        what = f"Looking at {wire.checked_id(batch_id)}"
        async with self._talking(what):
            record = reading.record(await self._client.messages.batches.retrieve(batch_id), what)
        reading.check_same(record.get("id"), batch_id, what)
        return record

    async def _download(self, batch_id: str) -> httpx2.Response:
        """The open reply with the results; the SDK's own `results()` is quadratic in the length of a line."""
        reply: object = await self._client.get(
            f"/v1/messages/batches/{batch_id}/results",
            cast_to=httpx2.Response,
            options={"max_retries": 0, "headers": {"Accept": "application/binary"}},
            stream=True,
            stream_cls=anthropic.AsyncStream[Any],
        )
        return cast("httpx2.Response", reply)

    async def _listed(self, pages: int, since: datetime | None = None) -> AsyncIterator[dict[str, Any]]:
        """Batches of the workspace, newest first."""
        async for record in reading.pages(self._client.messages.batches.list(limit=_PAGE), pages, since):
            yield record

    def _status(self, record: dict[str, Any]) -> BatchStatus:
        word, counts = str(record.get("processing_status"))[:80], _counts(record)
        return BatchStatus(
            batch_id=wire.checked_id(record.get("id")),
            status=_ended(record, counts) if word == "ended" else self._words[word],
            counts=RequestCounts(
                total=sum(counts.values()),
                succeeded=counts["succeeded"],
                failed=counts["errored"] + counts["canceled"] + counts["expired"],
            ),
            created_at=reading.moment(record.get("created_at")),
            ended_at=reading.moment(record.get("ended_at")),
            expires_at=reading.moment(record.get("expires_at")),
            provider_status=word,
        )

    @asynccontextmanager
    async def _talking(self, what: str) -> AsyncIterator[None]:
        """Turn whatever the SDK raises in the middle of `what` into our errors."""
        try:
            yield
        except anthropic.APIStatusError as error:
            # The SDK's error quotes the whole reply, which may quote a prompt.
            raise self._refused(error) from None
        except (anthropic.APIConnectionError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise wire.unreachable(error, what) from error
        except (json.JSONDecodeError, UnicodeDecodeError, anthropic.APIResponseValidationError) as error:
            raise Unavailable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None

    def _refused(self, error: anthropic.APIStatusError) -> BatchError:
        code = error.error_code or error.type
        return wire.refused(
            wire.Fault(
                provider="Anthropic",
                http_status=error.status_code,
                message=str(error.api_message or error.message).replace(self._key, "***"),
                code=None if code is None else wire.clip(str(code), 80),
                retry_after=wire.retry_after(error.response.headers),
                pauses=error.error_code in PAUSING,
            )
        )


def _counts(record: dict[str, Any]) -> dict[str, int]:
    told = wire.as_object(record.get("request_counts"))
    return {
        name: wire.as_count(told.get(name)) for name in ("processing", "succeeded", "errored", "canceled", "expired")
    }


def _ended(record: dict[str, Any], counts: dict[str, int]) -> BatchState:
    """`ended` says nothing about success; whatever the word, landing takes the lines that are there."""
    if record.get("cancel_initiated_at"):
        return "cancelled"
    total = sum(counts.values())
    return "expired" if total and counts["expired"] == total else STATES["ended"]


async def _envelope(file: BinaryIO) -> AsyncIterator[bytes]:
    """The JSON lines of the file as one array: JSON text holds no raw newline, so each newline becomes a comma."""
    yield _OPENING
    held = b""
    while block := await asyncio.to_thread(file.read, _BLOCK):
        whole = held + block
        held = whole[-1:]
        yield whole[:-1].replace(b"\n", b",")
    yield held.rstrip(b"\n") + _CLOSING
