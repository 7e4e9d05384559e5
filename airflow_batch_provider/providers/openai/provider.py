"""OpenAI's Batch API and what speaks it too (Azure's /openai/v1, Groq, a LiteLLM proxy), over the official async SDK.

Settings of the connection (`Account.options`): `api` (`chat`, the default, or `responses`), `organization`, `project`,
`timeout` (seconds without a byte, default 120), `max_requests` and `max_bytes` of one batch (defaults: what OpenAI
allows). The base URL includes `/v1`.
"""

from __future__ import annotations

import io
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import openai  # noqa: TID253  # the one folder that names this SDK is imported when the provider is first used

from airflow_batch_provider.exceptions import BatchError, NotFound, Rejected, UsageError
from airflow_batch_provider.models import BatchStatus, RequestCounts
from airflow_batch_provider.providers import faults, http
from airflow_batch_provider.providers.base import Candidate, Limits, Prepared
from airflow_batch_provider.providers.lines import CHUNK, replies
from airflow_batch_provider.providers.openai.codec import Api, OpenAICodec
from airflow_batch_provider.providers.stainless import StainlessProvider
from airflow_batch_provider.providers.untrusted import (
    as_count,
    as_object,
    as_objects,
    as_text,
    bought_id,
    checked_id,
    found_id,
    moment,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from datetime import datetime
    from types import ModuleType

    import httpx2

    from airflow_batch_provider.models import Account, BatchState, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

log = logging.getLogger(__name__)

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

_FILES_PAGE = 1000
_BLOCK = 1 << 20
_MOST_PAGES, _MOST_FILE_PAGES = 1000, 50
_SKEW = timedelta(minutes=10)

_Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]


class OpenAIProvider(StainlessProvider):
    """One OpenAI project, or another service that has OpenAI's files and batches."""

    name: ClassVar[str] = "openai"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "embed"})
    in_realtime: ClassVar[frozenset[Kind]] = kinds
    # https://platform.openai.com/docs/guides/batch (2026-08); 10 is ours: enqueued tokens, not batches, are scarce.
    most: ClassVar[Limits] = Limits(requests=50_000, bytes=200_000_000, in_flight=10)
    codec: OpenAICodec
    title: ClassVar[str] = "OpenAI"
    address: ClassVar[str] = "https://api.openai.com/v1"
    states: ClassVar[Mapping[str, BatchState]] = STATES
    sdk: ClassVar[ModuleType] = openai
    cursor: ClassVar[str] = "after"
    stopping: ClassVar[str] = "cancelling"

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account, transport)
        self.codec = OpenAICodec(_api(account))
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._address,
            http_client=self._http,
            # Left out, a time-out of 5 s, httpx2's default, would become the SDK's own of 600 s.
            timeout=http.timeouts(account),
            max_retries=0,
        )
        # None asks the SDK to read OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_ADMIN_KEY, so it is said afterwards.
        self._client.organization = account.options.get("organization")
        self._client.project = account.options.get("project")
        self._client.admin_api_key = None
        # The SDK offers no other way to keep OPENAI_CUSTOM_HEADERS out (openai 3.54, `lib/_client_auth.py`).
        self._client._custom_headers = {}  # noqa: SLF001

    @property
    def _batches(self) -> Any:
        return self._client.batches.with_raw_response

    async def prepare(self, payload: Payload) -> Prepared:
        """Upload the file, unless an earlier attempt has."""
        file_id = (payload.resumed and await self._uploaded(payload)) or await self._upload(payload)
        return Prepared(payload, file_id)

    async def create(self, prepared: Prepared) -> str:
        """Create a batch of the uploaded file."""
        payload, what = prepared.payload, f"Creating batch {prepared.payload.tag}"
        call = self._batches.create(
            input_file_id=prepared.file,
            endpoint=cast("_Endpoint", self.codec.endpoint(payload.spec)),
            # The only window there is, and at most 512 characters a value (openai 3.54, `types/batch_create_params.py`).
            completion_window="24h",
            metadata={"tag": payload.tag} | ({"label": payload.label[:512]} if payload.label else {}),
            timeout=http.timeouts(self.account, times=5),
        )
        return bought_id((await self._reply(call, what)).get("id"), payload.tag)

    async def _ask(self, body: bytes, spec: Spec) -> bytes:
        """POST to the endpoint that a batch names; the base URL includes its `/v1`."""
        return await self._answer(self._client, self.codec.endpoint(spec).removeprefix("/v1"), body)

    async def _upload(self, payload: Payload) -> str:
        # An open file is streamed in blocks, where a path would be read whole (openai 3.54, `_files.py`).
        with io.FileIO(payload.path) as raw, _InLargeBlocks(raw, _BLOCK) as file:
            call = self._client.files.with_raw_response.create(
                file=(_file_name(payload), file, "application/jsonl"),
                purpose="batch",
                timeout=http.timeouts(self.account, times=5),
            )
            reply = await self._reply(call, f"Uploading {payload.tag}")
        return checked_id(reply.get("id"), "file")

    async def _uploaded(self, payload: Payload) -> str | None:
        """Return the file of an earlier attempt at the same payload, known by its name and size."""
        files = self._client.files.with_raw_response
        try:
            async for file in self._listed(files, _MOST_FILE_PAGES, purpose="batch", limit=_FILES_PAGE, order="desc"):
                same = (file.get("filename"), file.get("bytes")) == (_file_name(payload), payload.bytes)
                if same and file.get("status") in ("processed", "uploaded"):
                    return checked_id(file.get("id"), "file")
        except (NotFound, Rejected) as error:
            # Some servers that speak this API list no files; the upload is then only sent again.
            log.debug("Files are not listed: %s", error)
        return None

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Return the batches whose metadata carry the tag, among those created since ten minutes before the claim."""
        since = claim.claimed_at - _SKEW
        listed = self._listed(self._batches, _MOST_PAGES, since)
        ours = [record async for record in listed if _tag(record) == claim.tag]
        return [Candidate(found_id(record.get("id"), claim.tag), certain=True) for record in ours]

    async def tagged(self, since: datetime) -> AsyncGenerator[BatchStatus, None]:
        """Yield the batches with a tag in their metadata, newest first."""
        async for record in self._listed(self._batches, _MOST_PAGES, since):
            if _tag(record) is None:
                continue
            try:
                status = self._status(record)
            except Rejected as error:
                log.warning("The list of batches has one that is ignored: %s", error)
                continue
            yield status

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the output file and the error file; either may be missing."""
        record = await self._retrieve(batch_id)
        for file_id in _file_ids(record, "output_file_id", "error_file_id"):
            async with self._talking(f"Reading {file_id} of {batch_id}"):
                async with self._client.files.with_streaming_response.content(file_id) as response:
                    async for reply in replies(self, response.iter_bytes(CHUNK), kind):
                        yield reply

    async def clean_up(self, batch_id: str) -> None:
        """Delete the input, output and error file; the batch itself, which OpenAI never deletes, stays in its list."""
        try:
            record = await self._retrieve(batch_id)
        except NotFound:
            return
        for file_id in _file_ids(record, "input_file_id", "output_file_id", "error_file_id"):
            try:
                async with self._talking(f"Deleting {file_id} of {batch_id}"):
                    await self._client.files.with_raw_response.delete(file_id)
            except NotFound:
                continue

    def _status(self, record: dict[str, Any]) -> BatchStatus:
        word, faults = one_line(record.get("status"), 80), _faults(record)
        codes = {str(fault.get("code")) for fault in faults}
        counts = as_object(record.get("request_counts"))
        ended = next((record[name] for name in _ENDINGS if record.get(name) is not None), None)
        return BatchStatus(
            batch_id=checked_id(record.get("id")),
            status=self._states[word],
            counts=RequestCounts(
                total=as_count(counts.get("total")),
                succeeded=as_count(counts.get("completed")),
                failed=as_count(counts.get("failed")),
            ),
            tag=_tag(record),
            created_at=moment(record.get("created_at")),
            ended_at=moment(ended),
            expires_at=moment(record.get("expires_at")),
            error=_told(faults),
            retryable=word == "failed" and bool(codes) and codes <= _PASSING | PAUSING,
            unpaid=word == "failed" and bool(codes & PAUSING) and codes <= _PASSING | PAUSING,
            provider_status=word,
        )

    def _refused(self, error: openai.APIStatusError) -> BatchError:
        told = as_object(error.body)
        code, kind = as_text(told.get("code")), as_text(told.get("type"))
        return faults.refused(
            faults.Fault(
                provider="OpenAI",
                http_status=error.status_code,
                message=as_text(told.get("message")) or error.message,
                code=code or kind or None,
                retry_after=http.retry_after(error.response.headers),
                pauses=bool({code, kind} & PAUSING),
                key=self._key,
            )
        )


class _InLargeBlocks(io.BufferedReader):
    """A file to upload in fewer steps: httpx2 sends blocks of 64 KB, each through all of its layers (2.16, `_multipart.py`)."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else max(size, _BLOCK))


_ENDINGS = ("completed_at", "failed_at", "expired_at", "cancelled_at")


def _api(account: Account) -> Api:
    api = account.options.get("api", "chat")
    if api not in {"chat", "responses"}:
        raise UsageError(f"The connection's api is {api!r}. Choose 'chat' or 'responses'.")
    return cast("Api", api)


def _file_name(payload: Payload) -> str:
    return f"{payload.tag}.jsonl"


def _file_ids(record: dict[str, Any], *names: str) -> list[str]:
    """Return the ids under these names; null and an empty text both mean that there is none."""
    return [checked_id(record[name], "file") for name in names if record.get(name)]


def _tag(record: dict[str, Any]) -> str | None:
    return one_line(as_object(record.get("metadata")).get("tag"), 64) or None


def _faults(record: dict[str, Any]) -> list[dict[str, Any]]:
    return as_objects(as_object(record.get("errors")).get("data"))


def _told(faults: list[dict[str, Any]]) -> str | None:
    """Return the first faults of a batch in one text; a file of 50,000 bad lines has 50,000 of them."""
    shown = [
        f"{fault.get('code')}: {fault.get('message')}" + (f" (line {fault['line']})" if fault.get("line") else "")
        for fault in faults[:3]
    ]
    more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    return one_line("; ".join([*shown, *more]), 600) or None
