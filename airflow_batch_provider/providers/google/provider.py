"""Gemini's batches on the Developer API, over the official async SDK.

Settings of the connection (`Account.options`): `timeout` (seconds without a byte, default 120), `max_requests` and
`max_bytes` of one batch. The base URL has no version in it. Always by file, because only a file keeps our keys
(https://github.com/googleapis/python-genai/issues/1909). The SDK moves files and creates; polls and downloads go beside
it over the same connections, because it drops why a batch failed and cannot stream lines.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from google.genai import types  # noqa: TID253  # the one folder that names this SDK is imported when it is first used

from airflow_batch_provider.exceptions import BatchError, NotFound, Paused, Rejected, Unavailable, Unresolved
from airflow_batch_provider.providers import faults, http, lines
from airflow_batch_provider.providers.base import BatchProvider, Candidate, Limits, Prepared
from airflow_batch_provider.providers.google import operations, replies
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.google.rest import Rest
from airflow_batch_provider.providers.google.sdk import VERSION, Sdk
from airflow_batch_provider.providers.google.uploads import Uploads
from airflow_batch_provider.providers.listing import PAGE, ListPage, one_by_one, read_statuses, sendable
from airflow_batch_provider.providers.untrusted import StatusTable, as_text, bought_id, found_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Container, Iterator
    from datetime import datetime

    import httpx2

    from airflow_batch_provider.models import Account, BatchStatus, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

log = logging.getLogger(__name__)

ADDRESS = "https://generativelanguage.googleapis.com"

# Ours, to be on the safe side: the reference names no limit for a batch's name (https://ai.google.dev/api/batch-api, read
# 2026-11). 128 characters of any script is the one of the other display names there (https://ai.google.dev/api/models).
_NAME_LENGTH = 128
_MOST_PAGES = 500
_SKEW = timedelta(minutes=10)


class GoogleProvider(BatchProvider):
    """One Google Cloud project with a Gemini API key."""

    name: ClassVar[str] = "google"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "embed"})
    # Nothing documents that a single embedding tells its tokens, by which alone its cost is known (google-genai 3.4,
    # `types.py`, 2026-11).
    in_realtime: ClassVar[frozenset[Kind]] = frozenset({"generate"})
    # https://ai.google.dev/gemini-api/docs/batch-api (2026-11) allows 2 GB a file, 20 GB a project and 100 batches at
    # once, and documents no number of requests. Ours are smaller, so that ten batches with results fit into the 20 GB.
    most: ClassVar[Limits] = Limits(requests=100_000, bytes=1_000_000_000, in_flight=10)
    codec = GoogleCodec()

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account)
        self._address = http.base_url(account, ADDRESS)
        self._http = http.http_client(account, transport)
        self._sdk = Sdk(account, self._address, self._http)
        self._uploads = Uploads(self._sdk)
        self._rest = Rest(f"{self._address}/{VERSION}", http.api_key(account), self._http)
        self._states = StatusTable("Gemini", operations.STATES)

    def now(self) -> datetime | None:
        """Return the time of the `date` header of the last reply, as it has gone on since."""
        return self._http.now()

    async def check(self) -> str:
        """List one batch, which costs nothing and needs the same right as creating one."""
        async for _ in self._rest.batches(pages=1, size=1):
            pass
        return f"Gemini at {self._address} accepts the key."

    async def prepare(self, payload: Payload) -> Prepared:
        """Upload the file under our tag, unless an earlier attempt has."""
        return Prepared(payload, await self._uploads.send(payload))

    async def create(self, prepared: Prepared) -> str:
        """Create a batch of the uploaded file."""
        tag = prepared.payload.tag
        async with self._sdk.asking(f"Creating batch {tag}"):
            job = await self._create(prepared.payload, str(prepared.file))
        return f"batches/{bought_id(operations.bare(job.name), tag)}"

    async def _create(self, payload: Payload, file: str) -> types.BatchJob:
        name = f"{payload.tag} {payload.label}"[:_NAME_LENGTH].rstrip()
        batches, options = self._sdk.batches, self._sdk.options(times=5)
        if payload.spec.kind == "generate":
            return await batches.create(
                model=payload.spec.model,
                src=file,
                config=types.CreateBatchJobConfig(display_name=name, http_options=options),
            )
        # The SDK warns each time that this call may change, which nobody who runs a DAG can act on.
        warnings.filterwarnings("ignore", message=r"batches\.create_embeddings\(\) is experimental")
        return await batches.create_embeddings(
            model=payload.spec.model,
            src=types.EmbeddingsBatchJobSource(file_name=file),
            config=types.CreateEmbeddingsBatchJobConfig(display_name=name, http_options=options),
        )

    async def _ask(self, body: bytes, spec: Spec) -> bytes:
        """POST to the model's generateContent."""
        model = spec.model if "/" in spec.model else f"models/{spec.model}"
        return await self._rest.post(f"{model}:generateContent", body, http.timeouts(self.account, times=5))

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Return batches whose display name begins with the tag, of those created since ten minutes before the claim."""
        found: list[Candidate] = []
        pages = 0
        async for page in self._rest.batches(_MOST_PAGES):
            ours = [operation for operation in page if operations.tag(operation) == claim.tag]
            found += [Candidate(_found_name(operation, claim), certain=True) for operation in ours]
            pages += 1
            if operations.past(page, claim.claimed_at - _SKEW):
                return found
        if not found and pages == _MOST_PAGES:
            raise Unresolved(
                f"Batch {claim.tag!r} is not among the first {pages * PAGE} that Gemini lists, which are not all. "
                "Look for it at the provider, delete old batches there, then clear the task."
            )
        return found

    async def tagged(self, since: datetime) -> AsyncGenerator[BatchStatus, None]:
        """Yield the batches with a display name, in the order that Gemini lists them."""
        pages = 0
        async for page in self._rest.batches(_MOST_PAGES):
            for operation in page:
                created = operations.created(operation)
                if not operations.tag(operation) or (created is not None and created < since):
                    continue
                try:
                    status = operations.status(operation, self._states)
                except Rejected as error:
                    log.warning("The list of batches has one that is ignored: %s", error)
                    continue
                yield status
            pages += 1
            if operations.past(page, since):
                return
        if pages == _MOST_PAGES:
            raise Unresolved(
                f"The first {pages * PAGE} batches that Gemini lists do not reach back to {since:%Y-%m-%d %H:%M}, so "
                "some may be missing here. Delete old batches there, then try again."
            )

    async def status(self, batch_id: str) -> BatchStatus:
        """GET the batch."""
        return operations.status(await self._operation(batch_id), self._states)

    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus | BatchError]:
        """Read pages of the list for more than two ids, then poll those that they lack, each by itself."""
        good, seen = sendable([str(operations.bare(batch_id)) for batch_id in batch_ids])
        found: dict[str, BatchStatus] = {}
        if len(good) > 2:
            try:
                found = await self._picked({f"batches/{bare}" for bare in good})
            except faults.Unreadable as error:
                log.info("%s Polling each batch by itself.", error)
        alone = await one_by_one(self, {f"batches/{bare}" for bare in good} - found.keys())
        answers = {f"batches/{bare}": error for bare, error in seen.items()} | found | alone
        names = {batch_id: f"batches/{operations.bare(batch_id)}" for batch_id in batch_ids}
        return {batch_id: answers[name] for batch_id, name in names.items() if name in answers}

    async def _picked(self, wanted: Collection[str]) -> dict[str, BatchStatus]:
        """Return those of the wanted batches that the first pages show; read no further than needed."""
        found: dict[str, BatchStatus] = {}
        async for page in self._rest.batches(2 + len(wanted) // PAGE):
            shown = [operation for operation in page if as_text(operation.get("name")) in wanted]
            found |= {one["name"]: operations.status(one, self._states) for one in shown}
            if len(found) == len(wanted):
                break
        return found

    def listed_id(self, batch_id: str) -> str:
        """Return the id as `batches/…`."""
        return operations.batch_name(batch_id)

    async def pages(self, wanted: Container[str]) -> AsyncGenerator[ListPage, None]:
        """Yield pages of the project's batches, in the order that Gemini lists them."""
        async with aclosing(self._rest.batches(_MOST_PAGES)) as listed:
            async for page in listed:
                created = [time for operation in page if (time := operations.created(operation)) is not None]
                yield ListPage(read_statuses(page, "name", wanted, self._read), created)

    def _read(self, operation: dict[str, Any]) -> BatchStatus:
        return operations.status(operation, self._states)

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the file of results; a batch of another's making may have them inlined."""
        operation = await self._operation(batch_id)
        for reply in _inlined(operation, kind):
            yield reply
        if (file := operations.results_file(operation)) is None:
            return
        chunks = self._rest.chunks(file, f"Reading the results of {batch_id}")
        async with aclosing(chunks), aclosing(lines.replies(self, chunks, kind)) as found:
            async for reply in found:
                yield reply

    async def cancel(self, batch_id: str) -> None:
        """POST cancel; a refusal is ignored if the batch is already cancelling or has ended."""
        name = operations.batch_name(batch_id)
        try:
            async with self._sdk.asking(f"Cancelling {name}"):
                await self._sdk.batches.cancel(name=name)
        except (Rejected, Paused, Unavailable):
            status = await self.status(name)
            if not status.ended and not status.provider_status.endswith("_CANCELLING"):
                raise

    async def clean_up(self, batch_id: str) -> None:
        """Delete the input and the output file, which count against the project's 20 GB; the record stays, for people.

        Gemini names output files longer than it lets delete, and drops them after six weeks
        (https://github.com/googleapis/python-genai/issues/1759, 2026-09), so a refusal is ignored.
        """
        try:
            operation = await self._operation(batch_id)
        except NotFound:
            return
        for name in operations.files(operation):
            await self._uploads.delete(name)

    async def aclose(self) -> None:
        """Close the connections."""
        self._sdk.close()
        await self._http.aclose()

    async def _operation(self, batch_id: str) -> dict[str, Any]:
        return await self._rest.batch(operations.batch_name(batch_id))


def _found_name(operation: dict[str, Any], claim: BatchQuery) -> str:
    return f"batches/{found_id(operations.bare(operation.get('name')), claim.tag)}"


def _inlined(operation: dict[str, Any], kind: Kind) -> Iterator[Reply]:
    """Return the results that have a key; the order of the others proves nothing (python-genai#1909)."""
    strange = 0
    for record in operations.inlined(operation):
        try:
            yield replies.inlined(record, kind)
        except Rejected:
            strange += 1
    if strange:
        log.warning("%d results of %r have no key; they are ignored.", strange, operation.get("name"))
