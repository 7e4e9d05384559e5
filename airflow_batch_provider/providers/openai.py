"""OpenAI's Batch API and what speaks it too (Azure's /openai/v1, Groq, a LiteLLM proxy), over the official async SDK.

Settings of the connection (`Account.options`): `api` (`chat`, the default, or `responses`), `organization`, `project`,
`timeout` (seconds without a byte, default 120), `max_requests` and `max_bytes` of one batch (defaults: what OpenAI
allows). The base URL includes `/v1`.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import httpx2
import openai  # noqa: TID253  # the one file that names this SDK is imported when the provider is first used

from airflow_batch_provider.exceptions import BatchError, NotFound, Rejected, Unavailable, UsageError
from airflow_batch_provider.models import BatchRequest, BatchStatus, RequestCounts
from airflow_batch_provider.providers import openai_bodies as bodies
from airflow_batch_provider.providers import pages as listing
from airflow_batch_provider.providers import reading, wire
from airflow_batch_provider.providers.base import BatchProvider, Candidate, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
    from datetime import datetime

    from airflow_batch_provider.models import Account, BatchState, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

ADDRESS = "https://api.openai.com/v1"

STATES: Mapping[str, BatchState] = {
    "validating": "pending",
    "in_progress": "processing",
    "finalizing": "processing",
    "cancelling": "processing",
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}

# https://platform.openai.com/docs/guides/error-codes (2026-08): the account has run out of money, not of pace.
PAUSING = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

# A batch that failed for nothing but this can be sent again when others have ended, as its message says.
_PASSING = frozenset({"token_limit_exceeded"})

# https://platform.openai.com/docs/guides/batch (2026-08); 10 is ours: enqueued tokens, not batches, are what is scarce.
_LIMITS = Limits(requests=50_000, bytes=200_000_000, in_flight=10)
_PAGE, _FILES_PAGE = 100, 1000
_MOST_PAGES, _MOST_FILE_PAGES = 1000, 50
_SKEW = timedelta(minutes=10)

_Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]


class OpenAIProvider(BatchProvider):
    """One OpenAI project, or another service that has OpenAI's files and batches."""

    name: ClassVar[str] = "openai"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "embed"})

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account)
        self._address, self._key = wire.base_url(account, ADDRESS), wire.api_key(account)
        self._api = _api(account)
        self._http = wire.http_client(account, transport)
        self._client = openai.AsyncOpenAI(
            api_key=self._key, base_url=self._address, http_client=self._http, max_retries=0
        )
        # None asks the SDK to read OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_ADMIN_KEY, so it is said afterwards.
        self._client.organization = account.options.get("organization")
        self._client.project = account.options.get("project")
        self._client.admin_api_key = None
        # The SDK offers no other way to keep OPENAI_CUSTOM_HEADERS out (openai 3.54, `lib/_client_auth.py`).
        self._client._custom_headers = {}  # noqa: SLF001
        self._words = reading.Words("OpenAI", STATES)

    def limits(self, spec: Spec) -> Limits:  # noqa: ARG002
        """50,000 requests and 200 MB, unless the connection says otherwise."""
        return reading.limits(self.account, _LIMITS)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` for parameters or schemas that a batch cannot take."""
        self.encode(BatchRequest(prompt="?"), spec)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """A body of the endpoint that the connection's `api` and the kind choose."""
        return bodies.encode(request, spec, self._api)

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:
        """One line of the input file."""
        return bodies.line(key, body, self._endpoint(spec))

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The same conversation, with the answer and the problem."""
        return bodies.reask(body, answer, problem)

    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The same question with more room for the answer."""
        return bodies.lengthen(body, factor)

    def decode(self, line: bytes, kind: Kind) -> Reply:
        """One line of an output or error file."""
        return bodies.decode(line, kind)

    async def check(self) -> str:
        """List one batch, which costs nothing and needs the same right as creating one."""
        what = "Listing one batch"
        async with self._talking(what):
            await reading.page(self._client.batches.list(limit=1), what)
        return f"OpenAI at {self._address} accepts the key."

    async def submit(self, payload: Payload) -> str:
        """Upload the file, which buys nothing, then create the batch, which does."""
        try:
            file_id = (payload.resumed and await self._uploaded(payload)) or await self._upload(payload)
        except Unavailable as error:
            raise Unavailable(str(error), retry_after=error.retry_after, ambiguous=False) from error
        payload.fence()
        what = f"Creating batch {payload.tag}"
        async with self._talking(what):
            batch = await self._client.batches.create(
                input_file_id=file_id,
                endpoint=cast("_Endpoint", self._endpoint(payload.spec)),
                completion_window="24h",
                metadata={"tag": payload.tag} | ({"label": payload.label[:512]} if payload.label else {}),
                timeout=wire.patience(self.account, times=5),
            )
        return reading.bought_id(reading.record(batch, what).get("id"), payload.tag)

    async def _upload(self, payload: Payload) -> str:
        what = f"Uploading {payload.tag}"
        # An open file is streamed in small blocks, where a path would be read whole (openai 3.54, `_files.py`).
        with payload.path.open("rb") as file:
            async with self._talking(what):
                reply = await self._client.files.create(
                    file=(_file_name(payload), file, "application/jsonl"),
                    purpose="batch",
                    timeout=wire.patience(self.account, times=5),
                )
        return wire.checked_id(reading.record(reply, what).get("id"), "file")

    async def _uploaded(self, payload: Payload) -> str | None:
        """The file of an earlier attempt at the same payload, known by its name and size."""
        async with self._talking(f"Looking for the upload of {payload.tag}"):
            files = self._client.files.list(purpose="batch", limit=_FILES_PAGE, order="desc")
            async for file in reading.pages(files, _MOST_FILE_PAGES):
                same = (file.get("filename"), file.get("bytes")) == (_file_name(payload), payload.bytes)
                if same and file.get("status") in {"processed", "uploaded"}:
                    return wire.checked_id(file.get("id"), "file")
        return None

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Batches whose metadata carry the tag, among those created since ten minutes before the claim."""
        since = claim.claimed_at - _SKEW
        async with self._talking(f"Looking for batch {claim.tag}"):
            ours = [record async for record in self._listed(_MOST_PAGES, since) if _tag(record) == claim.tag]
        return [Candidate(reading.found_id(record.get("id"), claim.tag), certain=True) for record in ours]

    async def tagged(self, since: datetime) -> AsyncGenerator[BatchStatus, None]:
        """Batches with a tag in their metadata, newest first."""
        async with self._talking("Listing batches"):
            async for record in self._listed(_MOST_PAGES, since):
                if _tag(record) is not None:
                    yield self._status(record)

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
        """Pages of a hundred batches of the project, newest first; compatible services may leave out `has_more`."""
        after: dict[str, str] = {}
        while True:
            page = await self._page(after)
            found = listing.records(page.data)
            yield listing.statuses(found, self._status)
            last = listing.last_id(found)
            if page.has_more is False or last is None or {"after": last} == after:
                return
            after = {"after": last}

    async def _page(self, after: dict[str, str]) -> listing.Page:
        what = "Listing batches"
        async with self._talking(what):
            response = await self._client.get(
                "/batches",
                cast_to=httpx2.Response,
                options={"max_retries": 0, "params": {"limit": _PAGE, **after}},
            )
            return listing.read_page(response.content, what)

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the output file and the error file; either may be missing."""
        record = await self._retrieve(batch_id)
        for file_id in _file_ids(record, "output_file_id", "error_file_id"):
            async with self._talking(f"Reading {file_id} of {batch_id}"):
                async with self._client.files.with_streaming_response.content(file_id) as response:
                    async for line in wire.jsonl(response.iter_bytes(wire.CHUNK)):
                        if (reply := reading.read_reply(self, line, kind)) is not None:
                            yield reply

    async def cancel(self, batch_id: str) -> None:
        """POST cancel; a refusal is passed over when the batch is stopping or over."""
        wire.checked_id(batch_id)
        try:
            async with self._talking(f"Cancelling {batch_id}"):
                await self._client.batches.cancel(batch_id)
        except (Rejected, Unavailable):
            status = await self.status(batch_id)
            if not status.ended and status.provider_status != "cancelling":
                raise

    async def clean_up(self, batch_id: str) -> None:
        """Delete the input, output and error file; the batch itself, which OpenAI never deletes, stays in its list."""
        try:
            record = await self._retrieve(batch_id)
        except NotFound:
            return
        for file_id in _file_ids(record, "input_file_id", "output_file_id", "error_file_id"):
            try:
                async with self._talking(f"Deleting {file_id} of {batch_id}"):
                    await self._client.files.delete(file_id)
            except NotFound:
                continue

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _endpoint(self, spec: Spec) -> str:
        return bodies.ENDPOINTS["embed" if spec.kind == "embed" else self._api]

    async def _retrieve(self, batch_id: str) -> dict[str, Any]:
        what = f"Looking at {wire.checked_id(batch_id)}"
        async with self._talking(what):
            record = reading.record(await self._client.batches.retrieve(batch_id), what)
        reading.check_same(record.get("id"), batch_id, what)
        return record

    async def _listed(self, pages: int, since: datetime | None = None) -> AsyncIterator[dict[str, Any]]:
        """Batches of the project, newest first."""
        async for record in reading.pages(self._client.batches.list(limit=_PAGE), pages, since):
            yield record

    def _status(self, record: dict[str, Any]) -> BatchStatus:
        word, faults = str(record.get("status"))[:80], _faults(record)
        codes = {str(fault.get("code")) for fault in faults}
        counts = wire.as_object(record.get("request_counts"))
        ended = next((record[name] for name in _ENDINGS if record.get(name) is not None), None)
        return BatchStatus(
            batch_id=wire.checked_id(record.get("id")),
            status=self._words[word],
            counts=RequestCounts(
                total=wire.as_count(counts.get("total")),
                succeeded=wire.as_count(counts.get("completed")),
                failed=wire.as_count(counts.get("failed")),
            ),
            tag=_tag(record),
            created_at=reading.moment(record.get("created_at")),
            ended_at=reading.moment(ended),
            expires_at=reading.moment(record.get("expires_at")),
            error=_told(faults),
            retryable=word == "failed" and bool(codes) and codes <= _PASSING | PAUSING,
            unpaid=word == "failed" and bool(codes & PAUSING) and codes <= _PASSING | PAUSING,
            provider_status=word,
        )

    @asynccontextmanager
    async def _talking(self, what: str) -> AsyncIterator[None]:
        """Turn whatever the SDK raises in the middle of `what` into our errors."""
        try:
            yield
        except openai.APIStatusError as error:
            # The SDK's error quotes the whole reply, which may quote a prompt.
            raise self._refused(error) from None
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise wire.unreachable(error, what) from error
        except (json.JSONDecodeError, UnicodeDecodeError, openai.APIResponseValidationError) as error:
            raise Unavailable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None

    def _refused(self, error: openai.APIStatusError) -> BatchError:
        told = wire.as_object(error.body)
        code = error.code or error.type
        return wire.refused(
            wire.Fault(
                provider="OpenAI",
                http_status=error.status_code,
                message=(wire.as_text(told.get("message")) or error.message).replace(self._key, "***"),
                code=None if code is None else wire.clip(str(code), 80),
                retry_after=wire.retry_after(error.response.headers),
                pauses=bool({error.code, error.type} & PAUSING),
            )
        )


_ENDINGS = ("completed_at", "failed_at", "expired_at", "cancelled_at")


def _api(account: Account) -> bodies.Api:
    api = account.options.get("api", "chat")
    if api not in {"chat", "responses"}:
        raise UsageError(f"The connection's api is {api!r}. Choose 'chat' or 'responses'.")
    return cast("bodies.Api", api)


def _file_name(payload: Payload) -> str:
    return f"{payload.tag}.jsonl"


def _file_ids(record: dict[str, Any], *names: str) -> list[str]:
    """The ids under these names; null and an empty text both mean that there is none."""
    return [wire.checked_id(record[name], "file") for name in names if record.get(name)]


def _tag(record: dict[str, Any]) -> str | None:
    return wire.as_text(wire.as_object(record.get("metadata")).get("tag"))[:64] or None


def _faults(record: dict[str, Any]) -> list[dict[str, Any]]:
    return wire.as_objects(wire.as_object(record.get("errors")).get("data"))


def _told(faults: list[dict[str, Any]]) -> str | None:
    """The first faults of a batch in one text; a file of 50,000 bad lines has 50,000 of them."""
    shown = [
        f"{fault.get('code')}: {fault.get('message')}" + (f" (line {fault['line']})" if fault.get("line") else "")
        for fault in faults[:3]
    ]
    more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    return wire.clip("; ".join([*shown, *more]), 600) or None
