"""Gemini's batches on the Developer API, over the official async SDK.

Settings of the connection (`Account.options`): `timeout` (seconds without a byte, default 120), `max_requests` and
`max_bytes` of one batch. The base URL has no version in it. Always by file, because only a file keeps our keys
(https://github.com/googleapis/python-genai/issues/1909). The SDK moves files and creates; looks and downloads go beside
it over the same connections, because it drops why a batch failed and cannot stream lines.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from google import genai  # noqa: TID253  # the one file that names this SDK is imported when the provider is first used
from google.genai import client as genai_client  # noqa: TID253
from google.genai import errors, types  # noqa: TID253

from airflow_batch_provider.exceptions import Denied, NotFound, Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.providers import google_bodies as bodies
from airflow_batch_provider.providers import google_operations as operations
from airflow_batch_provider.providers import google_replies as replies
from airflow_batch_provider.providers import pages as listing
from airflow_batch_provider.providers import reading, wire
from airflow_batch_provider.providers.base import BatchProvider, Candidate, Limits
from airflow_batch_provider.providers.google_rest import PAGE, Rest, talking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
    from datetime import datetime

    import httpx2

    from airflow_batch_provider.models import Account, BatchStatus, Kind, Reply, Spec
    from airflow_batch_provider.providers.base import BatchQuery, Payload

log = logging.getLogger(__name__)

ADDRESS = "https://generativelanguage.googleapis.com"
VERSION = "v1"

# https://ai.google.dev/gemini-api/docs/batch-api (2026-11) allows 2 GB a file, 20 GB a project and 100 batches at once,
# and no documented number of requests. Ours are smaller, so that ten batches with their results fit into the 20 GB.
_LIMITS = Limits(requests=100_000, bytes=1_000_000_000, in_flight=10)
_MODEL = re.compile(r"((models|tunedModels)/)?[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_NAME_LENGTH = 128
_MOST_PAGES = 500
_SKEW = timedelta(minutes=10)


class GoogleProvider(BatchProvider):
    """One Google Cloud project with a Gemini API key."""

    name: ClassVar[str] = "google"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "embed"})

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account)
        self._address, self._key = wire.base_url(account, ADDRESS), wire.api_key(account)
        self._http = wire.http_client(account, transport)
        self._client = _sdk(self._key, self._http, self._options())
        self._rest = Rest(f"{self._address}/{VERSION}", self._key, self._http)
        self._words = reading.Words("Gemini", operations.STATES)

    def limits(self, spec: Spec) -> Limits:  # noqa: ARG002
        """100,000 requests and 1 GB, unless the connection says otherwise."""
        return reading.limits(self.account, _LIMITS)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` for a model name, parameters or schemas that a batch cannot take."""
        if not _MODEL.fullmatch(spec.model):
            raise UsageError(f"{spec.model!r} is no model of Gemini. Give a name like 'gemini-2.5-flash'.")
        self.encode(BatchRequest(prompt="?"), spec)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """A body of models.generateContent or models.embedContent."""
        return bodies.encode(request, spec)

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """One line of the input file."""
        return bodies.line(key, body)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The same conversation, with the answer and the problem."""
        return bodies.reask(body, answer, problem)

    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The same question with more room for the answer."""
        return bodies.lengthen(body, factor)

    def decode(self, line: bytes, kind: Kind) -> Reply:
        """One line of the results."""
        return replies.decode(line, kind)

    async def check(self) -> str:
        """List one batch, which costs nothing and needs the same right as creating one."""
        async for _ in self._rest.batches(pages=1, size=1):
            pass
        return f"Gemini at {self._address} accepts the key."

    async def submit(self, payload: Payload) -> str:
        """Upload the file under our tag, which buys nothing, then create the batch, which does."""
        try:
            file = (payload.resumed and await self._uploaded(payload)) or await self._upload(payload)
        except Unavailable as error:
            raise Unavailable(str(error), retry_after=error.retry_after, ambiguous=False) from error
        payload.fence()
        async with self._asking(f"Creating batch {payload.tag}"):
            job = await self._create(payload, file)
        return f"batches/{reading.bought_id(operations.bare(job.name), payload.tag)}"

    async def _create(self, payload: Payload, file: str) -> types.BatchJob:
        name = f"{payload.tag} {payload.label}"[:_NAME_LENGTH].rstrip()
        batches, options = self._client.aio.batches, self._options(times=5)
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

    async def _upload(self, payload: Payload) -> str:
        """Send the file in blocks of 8 MiB; when that fails, an earlier try may have sent it already (409).

        The SDK sends a block again when no answer came; an upload that is complete by then is gone for it (404).
        """
        try:
            async with self._asking(f"Uploading {payload.tag}"):
                file = await self._client.aio.files.upload(
                    file=str(payload.path),
                    config=types.UploadFileConfig(
                        name=_file_name(payload),
                        display_name=payload.tag,
                        mime_type="application/jsonl",
                        # Named again, the base URL also holds for the address that the provider tells for the blocks.
                        http_options=self._options(times=5),
                    ),
                )
        except (Unavailable, NotFound) as error:
            if name := await self._uploaded(payload):
                return name
            if isinstance(error, NotFound):
                raise Unavailable(str(error)) from error
            raise
        return _ready(file, payload)

    async def _uploaded(self, payload: Payload) -> str | None:
        """The file of an earlier try at the same payload, by its name and size; another one of that name is deleted."""
        name = _file_name(payload)
        try:
            async with self._asking(f"Looking for the upload of {payload.tag}"):
                file = await self._client.aio.files.get(name=name)
        except (NotFound, Denied):
            # A file that is not there is a 403 (https://github.com/googleapis/python-genai/issues/1218).
            return None
        if file.size_bytes == payload.bytes and file.state != types.FileState.FAILED:
            return _ready(file, payload)
        await self._delete(name)
        return None

    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Batches whose display name begins with the tag, among those created since ten minutes before the claim."""
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
        """Batches with a display name, in the order that Gemini lists them."""
        pages = 0
        async for page in self._rest.batches(_MOST_PAGES):
            for operation in page:
                created = operations.created(operation)
                if operations.tag(operation) and (created is None or created >= since):
                    yield operations.status(operation, self._words)
            pages += 1
            if operations.past(page, since):
                return
        if pages == _MOST_PAGES:
            raise Unresolved(
                f"The first {pages * PAGE} batches that Gemini lists do not reach back to {since:%Y-%m-%d %H:%M}, so "
                "some may be missing here. Delete old batches there, then look again."
            )

    async def status(self, batch_id: str) -> BatchStatus:
        """GET the batch."""
        return operations.status(await self._operation(batch_id), self._words)

    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus]:
        """Pages of the list for more than two ids, then what they lack one by one."""
        wanted = {operations.batch_name(batch_id): batch_id for batch_id in batch_ids}
        seen: dict[str, BatchStatus] = {}
        if len(wanted) > 2:
            async for page in self._rest.batches(2 + len(wanted) // PAGE):
                shown = [operation for operation in page if operation.get("name") in wanted]
                seen |= {wanted[one["name"]]: operations.status(one, self._words) for one in shown}
                if len(seen) == len(wanted):
                    break
        return seen | await reading.one_by_one(self.status, set(wanted.values()) - seen.keys())

    def listed_id(self, batch_id: str) -> str:
        """The id as `batches/…`."""
        return operations.batch_name(batch_id)

    async def pages(self) -> AsyncGenerator[list[BatchStatus], None]:
        """Pages of a hundred batches of the project, in the order that Gemini lists them."""
        async with aclosing(self._rest.batches(_MOST_PAGES)) as listed:
            async for page in listed:
                yield listing.statuses(page, self._read)

    def _read(self, operation: dict[str, Any]) -> BatchStatus:
        return operations.status(operation, self._words)

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """Stream the file of results; a batch of another's making may have them inlined."""
        operation = await self._operation(batch_id)
        for reply in _inlined(operation, kind):
            yield reply
        if (file := operations.results_file(operation)) is None:
            return
        async with aclosing(self._rest.lines(file, f"Reading the results of {batch_id}")) as lines:
            async for line in lines:
                if (answer := reading.read_reply(self, line, kind)) is not None:
                    yield answer

    async def cancel(self, batch_id: str) -> None:
        """POST cancel; a refusal is passed over when the batch is stopping or over."""
        name = operations.batch_name(batch_id)
        try:
            async with self._asking(f"Cancelling {name}"):
                await self._client.aio.batches.cancel(name=name)
        except (Rejected, Paused, Unavailable):
            status = await self.status(name)
            if not status.ended and not status.provider_status.endswith("_CANCELLING"):
                raise

    async def clean_up(self, batch_id: str) -> None:
        """Delete the input and the output file, which count against the project's 20 GB; the record stays, for people.

        Gemini names output files longer than it lets delete, and drops them after six weeks
        (https://github.com/googleapis/python-genai/issues/1759, 2026-09), so a refusal is passed over.
        """
        try:
            operation = await self._operation(batch_id)
        except NotFound:
            return
        for name in operations.files(operation):
            await self._delete(name)

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.close()
        await self._http.aclose()

    def _options(self, times: int = 1) -> types.HttpOptions:
        """Time-outs in milliseconds; None would mean for ever."""
        seconds = wire.patience(self.account, times).read or 0
        return types.HttpOptions(base_url=self._address, api_version=VERSION, timeout=max(1, int(seconds * 1000)))

    async def _operation(self, batch_id: str) -> dict[str, Any]:
        return await self._rest.batch(operations.batch_name(batch_id))

    async def _delete(self, name: str) -> None:
        try:
            async with self._asking(f"Deleting {name}"):
                await self._client.aio.files.delete(name=name)
        except (NotFound, Rejected) as error:
            log.debug("%s was not deleted: %s", name, error)

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        """Turn whatever the SDK raises in the middle of `what` into our errors."""
        try:
            async with talking(what):
                yield
        except errors.APIError as error:
            # The SDK's error quotes the whole reply, which may quote a prompt.
            headers = getattr(error.response, "headers", {})
            raise operations.refused(error.code, error.details, headers, self._key) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # What the SDK raises over replies that lack what it looks for, an upload without its status among them.
            raise Unavailable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None


def _sdk(key: str, http: httpx2.AsyncClient, options: types.HttpOptions) -> genai.Client:
    """The SDK's client, on our connections, and deaf to the environment (google-genai 3.4, `_api_client.py`)."""
    options.httpx_async_client = http
    recording = genai_client.DebugConfig(client_mode=None, replays_directory=None, replay_id=None)
    with _without_advice_on_keys():
        return genai.Client(api_key=key, vertexai=False, debug_config=recording, http_options=options)


@contextmanager
def _without_advice_on_keys() -> Iterator[None]:
    """The SDK logs which key of the environment it takes, while it takes ours."""
    logger = logging.getLogger("google_genai._api_client")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Both GOOGLE_API_KEY")

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _found_name(operation: dict[str, Any], claim: BatchQuery) -> str:
    return f"batches/{reading.found_id(operations.bare(operation.get('name')), claim.tag)}"


def _file_name(payload: Payload) -> str:
    return f"files/{payload.tag}"


def _ready(file: types.File, payload: Payload) -> str:
    """The name of a file that a batch can read."""
    if file.state == types.FileState.PROCESSING:
        raise Unavailable(f"Gemini still digests the upload of {payload.tag}.", retry_after=5.0, ambiguous=False)
    bare = wire.as_text(file.name).removeprefix("files/")
    return f"files/{wire.checked_id(bare, 'file')}"


def _inlined(operation: dict[str, Any], kind: Kind) -> Iterator[Reply]:
    """The results that have a key; the order of the others proves nothing (python-genai#1909)."""
    strange = 0
    for record in operations.inlined(operation):
        try:
            yield replies.read(record, kind)
        except Rejected:
            strange += 1
    if strange:
        log.warning("%d results of %r have no key and are passed over.", strange, operation.get("name"))
