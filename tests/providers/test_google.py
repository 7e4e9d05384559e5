"""Gemini: what only this provider does, over the emulator and over answers by hand."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from google.genai import types
from provider_backends import BACKENDS, KEY, PREFIX, Bench, submitted
from pydantic import SecretStr

from airflow_batch_provider.exceptions import Denied, NotFound, Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.models import Account, Spec
from airflow_batch_provider.providers.base import BatchQuery
from airflow_batch_provider.providers.google import operations
from airflow_batch_provider.providers.google.provider import GoogleProvider
from airflow_batch_provider.providers.untrusted import StatusTable

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def provider(handler, **fields) -> GoogleProvider:
    """The adapter over a function that answers."""
    account = Account(**{"provider": "google", "api_key": SecretStr(KEY), **fields})
    return GoogleProvider(account, httpx2.MockTransport(handler))


def operation(name: str = "batches/b1", **metadata) -> dict:
    return {"name": name, "metadata": {"state": "BATCH_STATE_SUCCEEDED", **metadata}}


def status(one: dict):
    return operations.status(one, StatusTable("Gemini", operations.STATES))


@pytest.fixture
async def bench(server, tmp_path):
    adapter = GoogleProvider(BACKENDS["google"].account(server.url))
    yield Bench(BACKENDS["google"], adapter, server.emulator, tmp_path, server.url)
    await adapter.aclose()


# the client


ENVIRONMENT = {
    "GEMINI_API_KEY": "env",
    "GOOGLE_API_KEY": "env-too",
    "GOOGLE_GEMINI_BASE_URL": "https://evil.example",
    "GOOGLE_VERTEX_BASE_URL": "https://evil.example",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_GENAI_API_VERSION": "beta",
    "GOOGLE_GENAI_CLIENT_MODE": "replay",
    "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/nowhere",
    "GOOGLE_GENAI_REPLAY_ID": "1",
    "GOOGLE_CLOUD_PROJECT": "p",
    "GOOGLE_CLOUD_LOCATION": "l",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json",
}


async def test_the_environment_of_the_sdk_has_no_say(monkeypatch, tmp_path, caplog):
    """Keys, addresses and versions come from the connection alone, and no advice about keys is logged."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    seen = []

    def reply(request):
        seen.append(request)
        if request.url.path.endswith(":batchGenerateContent"):
            return httpx2.Response(200, json=operation())
        if request.url.path.startswith("/upload"):
            return uploaded(request)
        return httpx2.Response(200, json={})

    adapter = provider(reply)
    await adapter.check()
    await submitted(adapter, Bench(BACKENDS["google"], adapter, None, tmp_path, "").payload("one"))
    await adapter.cancel("b1")
    assert {request.url.host for request in seen} == {"generativelanguage.googleapis.com"}
    assert {request.headers.get("x-goog-api-key") for request in seen} == {KEY, None}
    assert seen[0].url.path == "/v1/batches"
    assert "API_KEY" not in caplog.text
    await adapter.aclose()


def uploaded(request) -> httpx2.Response:
    """Both steps of an upload; the blocks are to go to another host."""
    if "upload_id" in str(request.url):
        file = {"name": "files/abp-test-1", "state": "ACTIVE", "sizeBytes": "1"}
        return httpx2.Response(200, json={"file": file}, headers={"x-goog-upload-status": "final"})
    address = "https://elsewhere.example/upload/v1/files?upload_id=u1"
    return httpx2.Response(200, headers={"x-goog-upload-url": address, "x-goog-upload-status": "active"})


async def test_the_key_travels_in_a_header_only(bench, monkeypatch):
    """Never in an address, which proxies log."""
    seen = []
    send = httpx2.AsyncClient.send

    async def spy(client, request, **options):
        seen.append(request)
        return await send(client, request, **options)

    monkeypatch.setattr(httpx2.AsyncClient, "send", spy)
    await bench.ask("one")
    assert len(seen) > 4
    assert not any(KEY in str(request.url) for request in seen)


async def test_the_time_out_of_the_connection_reaches_the_sdk(server, tmp_path):
    """Whose own default is to wait for ever."""
    adapter = GoogleProvider(BACKENDS["google"].account(server.url, timeout=0.1))
    bench = Bench(BACKENDS["google"], adapter, server.emulator, tmp_path, server.url)
    server.emulator.faults.add("google.create", "stall", seconds=2)
    with pytest.raises(Unavailable, match="ReadTimeout") as caught:
        await submitted(adapter, bench.payload("one"))
    assert caught.value.ambiguous
    await adapter.aclose()


@pytest.mark.parametrize("model", ["../files", "gemini x", "gemini?x", "a/b", "models/", "ä", "x" * 200])
async def test_a_model_is_a_name(model):
    """It stands in an address."""
    adapter = provider(lambda _: httpx2.Response(500))
    with pytest.raises(UsageError, match="not a model"):
        adapter.check_spec(Spec(model=model))
    for good in ("gemini-2.5-flash", "models/gemini-2.5-flash", "tunedModels/mine-1"):
        adapter.check_spec(Spec(model=good))
    await adapter.aclose()


# submit


async def test_a_batch_carries_our_tag_and_whose_it_is(bench):
    """The file has the tag as its name, the batch as the first word of its own, both short enough."""
    payload = bench.payload("one", label="dag/run/" + "täsk" * 100)
    batch_id = await bench.submit(payload)
    job = bench.emulator.jobs.all[batch_id]
    assert job.label.startswith(f"{payload.tag} dag/run/täsk")
    assert len(job.label) == 128
    assert f"files/{payload.tag}" in bench.emulator.files
    assert (await bench.provider.status(batch_id)).tag == payload.tag
    assert [found.batch_id for found in await bench.provider.find(bench.claim(payload))] == [batch_id]


async def test_a_tag_that_begins_like_another_is_another(bench):
    """`find` compares whole words."""
    payload = bench.payload("one", label="")
    await bench.submit(payload)
    claim = bench.claim(payload)
    assert await bench.provider.find(BatchQuery(payload.tag[:-1], claim.claimed_at, 1, PREFIX)) == []


async def test_embedding_warns_nobody(bench):
    """The SDK calls its embeddings experimental at each call; the filters of others stay as they are."""
    spec = Spec(kind="embed", model="gemini-embedding-001", request_params={"outputDimensionality": 5})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        replies = await bench.ask("one", spec=spec)
        await bench.submit(bench.payload("two", spec=spec))
        warnings.warn("still heard", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["still heard"]
    assert len(replies["0"].output) == 5


async def test_a_resumed_payload_is_not_uploaded_again(bench):
    """What an earlier attempt sent is still there for two days."""
    bench.fault("create", "status", status=503)
    payload = bench.payload("one")
    with pytest.raises(Unavailable):
        await bench.submit(payload)
    starts = bench.emulator.calls["google.upload.start"]
    again = bench.payload("one", resumed=True)
    await bench.submit(type(again)(**{**vars(again), "tag": payload.tag}))
    assert bench.emulator.calls["google.upload.start"] == starts == 1


async def test_an_upload_that_expired_is_sent_again(bench):
    """A resumed payload may be older than its file."""
    batch_id = await bench.submit(bench.payload("one", resumed=True))
    assert bench.emulator.calls["google.upload.start"] == 1
    assert batch_id in bench.emulator.jobs.all


async def test_a_file_of_our_name_is_used_though_nobody_remembers_it(bench):
    """Uploading under a name that is taken is a 409, and the file is ours."""
    payload = bench.payload("one")
    bench.fault("create", "status", status=429)
    with pytest.raises(Unavailable):
        await bench.submit(payload)
    assert await bench.submit(payload) in bench.emulator.jobs.all
    assert len([name for name in bench.emulator.files if payload.tag in name]) == 1


async def test_a_file_of_another_size_is_replaced(bench):
    """It is not a whole upload of this payload."""
    payload = bench.payload("one")
    bench.fault("create", "status", status=429)
    with pytest.raises(Unavailable):
        await bench.submit(payload)
    payload.path.write_bytes(payload.path.read_bytes() * 2)
    longer = type(payload)(**{**vars(payload), "bytes": payload.path.stat().st_size, "resumed": True})
    await bench.submit(longer)
    assert bench.emulator.files[f"files/{payload.tag}"].size == longer.bytes


@pytest.mark.parametrize(
    ("route", "when"),
    [("google.upload.start", "before"), ("google.upload.start", "after"), ("google.upload.chunk", "before")],
)
async def test_a_failed_upload_bought_nothing(bench, route, when):
    """And the next try sends the file."""
    bench.emulator.faults.add(route, "cut", when=when)
    payload = bench.payload("one")
    with pytest.raises(Unavailable):
        await bench.provider.prepare(payload)
    assert bench.emulator.calls["google.create"] == 0
    assert await bench.submit(payload) in bench.emulator.jobs.all


async def test_an_upload_whose_answer_is_lost_is_used(bench):
    """The file is there, whole, under our name."""
    bench.emulator.faults.add("google.upload.chunk", "cut", when="after")
    assert await bench.submit(bench.payload("one")) in bench.emulator.jobs.all
    assert bench.emulator.calls["google.upload.start"] == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {}),
        ({"x-goog-upload-url": "https://x/upload/v1/files?upload_id=1"}, {"nothing": 1}),
        ({"x-goog-upload-url": "http://["}, {}),
    ],
)
async def test_an_upload_against_the_protocol_is_unavailable(headers, body, tmp_path, monkeypatch):
    """A proxy that drops the headers of the upload, say."""

    async def at_once(_seconds):
        return None

    monkeypatch.setattr("google.genai._api_client.asyncio.sleep", at_once)

    def reply(request):
        if request.url.path.startswith("/upload"):
            return httpx2.Response(200, json=body, headers=headers)
        return httpx2.Response(404, json={"error": {"code": 404, "message": "no", "status": "NOT_FOUND"}})

    adapter = provider(reply)
    with pytest.raises(Unavailable):
        await adapter.prepare(Bench(BACKENDS["google"], adapter, None, tmp_path, "").payload("one"))
    await adapter.aclose()


async def test_a_file_that_is_still_digested_is_waited_for(tmp_path):
    """By the caller; nothing was bought."""

    def reply(request):
        file = {"name": "files/abp-test-1", "state": "PROCESSING", "sizeBytes": "1"}
        if "upload_id" in str(request.url):
            return httpx2.Response(200, json={"file": file}, headers={"x-goog-upload-status": "final"})
        return uploaded(request)

    adapter = provider(reply)
    with pytest.raises(Unavailable) as caught:
        await adapter.prepare(Bench(BACKENDS["google"], adapter, None, tmp_path, "").payload("one"))
    assert caught.value.retry_after == 5.0
    await adapter.aclose()


@pytest.mark.parametrize("body", ["[]", "{", "null", '{"name": 7}', '{"name": "../x"}', '{"metadata": 3}', "<html>"])
async def test_a_create_whose_answer_cannot_be_read_is_ambiguous(tmp_path, body):
    """The batch may run; `find` tells."""

    def reply(request):
        return uploaded(request) if request.url.path.startswith("/upload") else httpx2.Response(200, text=body)

    adapter = provider(reply)
    with pytest.raises(Unavailable) as caught:
        await submitted(adapter, Bench(BACKENDS["google"], adapter, None, tmp_path, "").payload("one"))
    assert caught.value.ambiguous
    await adapter.aclose()


# find


def listing(*pages: list[dict]):
    """A server whose list has these pages."""

    def reply(request):
        number = int(request.url.params.get("pageToken", 0))
        more = {"nextPageToken": str(number + 1)} if number + 1 < len(pages) else {}
        return httpx2.Response(200, json={"operations": pages[number], **more})

    return reply


def aged(name: str, hours: int, tag: str = "other") -> dict:
    return operation(f"batches/{name}", displayName=f"{tag} x", createTime=(NOW - timedelta(hours=hours)).isoformat())


async def found(*pages: list[dict]) -> list[str]:
    adapter = provider(listing(*pages))
    try:
        return [one.batch_id for one in await adapter.find(BatchQuery("abp-1", NOW, 1, PREFIX))]
    finally:
        await adapter.aclose()


async def test_looking_ends_where_older_batches_begin():
    """When the list shows the newest first; six weeks of batches are not read for nothing."""
    recent, old = [aged("a", -1), aged("b", 0)], [aged("c", 5), aged("d", 6)]
    assert await found(recent, old, [aged("e", 7, "abp-1")]) == []


async def test_looking_goes_on_when_the_list_is_in_another_order():
    """Gemini documents none, and a batch that is overlooked is bought twice."""
    assert await found([aged("a", 6), aged("b", 5)], [aged("c", 0, "abp-1")]) == ["batches/c"]
    assert await found([aged("a", 6)], [aged("c", 0, "abp-1")]) == ["batches/c"]


async def test_a_batch_found_under_a_hostile_id_needs_a_person():
    """Neither adopting it nor buying again would be right."""
    with pytest.raises(Unresolved, match="console"):
        await found([aged("../x", 0, "abp-1")])


async def test_a_list_that_never_ends_is_not_a_proof_of_absence(monkeypatch):
    """The claimed batch may be on a page that was not read."""
    monkeypatch.setattr("airflow_batch_provider.providers.google.provider._MOST_PAGES", 3)
    with pytest.raises(Unresolved, match="300"):
        await found(*[[aged("a", 0)]] * 5)


# status


def test_every_state_of_the_sdk_has_a_meaning():
    """Under both of the prefixes that Gemini uses."""
    words = {state.value.removeprefix("JOB_STATE_") for state in types.JobState}
    assert words == operations.STATES.keys()
    for word, ours in operations.STATES.items():
        for prefix in ("BATCH_STATE_", "JOB_STATE_"):
            seen = status(operation(state=prefix + word))
            assert (seen.status, seen.provider_status) == (ours, prefix + word)


def test_a_status_tells_what_the_sdk_drops():
    """Counts, which are texts, and why the batch failed."""
    stats = {"requestCount": "5", "successfulRequestCount": "3", "failedRequestCount": "2"}
    one = operation(
        state="BATCH_STATE_FAILED",
        batchStats=stats,
        displayName="abp-1 dag/run",
        createTime="2026-11-23T10:00:00.123456789Z",
        endTime="2026-11-23T11:00:00Z",
    )
    seen = status({**one, "error": {"code": 8, "message": "Quota"}})
    assert (seen.batch_id, seen.tag, seen.error) == ("batches/b1", "abp-1", "RESOURCE_EXHAUSTED: Quota")
    assert (seen.counts.total, seen.counts.succeeded, seen.counts.failed) == (5, 3, 2)
    assert seen.ended_at - seen.created_at > timedelta(minutes=59)
    assert not seen.retryable


@pytest.mark.parametrize(("code", "retryable"), [(8, True), (14, True), (3, False), (13, False), ("8", False)])
def test_a_batch_that_failed_for_lack_of_room_can_be_sent_again(code, retryable):
    """When nothing of it ran."""
    one = operation(state="BATCH_STATE_FAILED")
    assert status({**one, "error": {"code": code, "message": "m"}}).retryable is retryable
    partly = operation(state="BATCH_STATE_FAILED", output={"responsesFile": "files/x"})
    assert not status({**partly, "error": {"code": 8, "message": "m"}}).retryable


@pytest.mark.parametrize(
    ("end", "word"),
    [({}, "processing"), ({"done": True}, "completed"), ({"done": True, "error": {"code": 3}}, "failed")],
)
def test_an_unknown_state_is_over_when_the_operation_is_done(end, word):
    """A new word for an end must not wait for the deadline."""
    assert status({**operation(state="BATCH_STATE_ARCHIVED"), **end}).status == word


@pytest.mark.parametrize("metadata", [{}, {"state": 7}, {"batchStats": "x", "createTime": 3.5e300, "displayName": []}])
def test_a_strange_operation_is_read_nevertheless(metadata):
    """Nothing that a provider sends breaks the poller."""
    one = {"name": "batches/b1", "metadata": metadata, "error": "no"}
    assert (status(one).status, status(one).counts) == ("pending", None)


async def test_ids_are_taken_with_and_without_their_prefix(bench):
    """As people copy them."""
    batch_id = await bench.submit(bench.payload("one"))
    short = batch_id.removeprefix("batches/")
    assert (await bench.provider.status(short)).batch_id == batch_id
    assert list(await bench.provider.statuses([short])) == [short]


async def test_the_answer_about_another_batch_is_not_an_answer():
    """A proxy that mixes replies up would land foreign rows."""
    adapter = provider(lambda _: httpx2.Response(200, json=operation("batches/other")))
    with pytest.raises(Unavailable, match="not this batch"):
        await adapter.status("b1")
    await adapter.aclose()


# results


def having(output: dict, content: bytes = b""):
    """A server with one batch of that output, and a file."""

    def reply(request):
        if ":download" in str(request.url):
            return httpx2.Response(200, content=content)
        return httpx2.Response(200, json=operation(output=output))

    return reply


async def results(handler, **fields) -> list:
    adapter = provider(handler, **fields)
    try:
        return [reply async for reply in adapter.results("b1", "generate")]
    finally:
        await adapter.aclose()


LINE = b'{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}}\n'


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (operation("batches/b2"), "not this batch"),
        ({"busy": True}, "not this batch"),
    ],
)
async def test_a_reply_about_something_else_is_not_a_batch_without_results(record, message):
    """Its rows would count as missing, and would be bought again."""
    with pytest.raises(Unavailable, match=message):
        await results(lambda _: httpx2.Response(200, json=record))


async def test_an_expired_job_keeps_no_answers():
    """Gemini drops them: nobody waits."""
    stats = {"requestCount": "3", "successfulRequestCount": "2"}
    record = operation(state="BATCH_STATE_EXPIRED", batchStats=stats)
    assert await results(lambda _: httpx2.Response(200, json=record)) == []


@pytest.mark.parametrize("place", ["metadata", "response"])
async def test_the_file_of_results_is_named_in_two_places(place):
    """Either may be the only one."""

    def reply(request):
        if ":download" in str(request.url):
            return httpx2.Response(200, content=LINE)
        output = {"responsesFile": "files/batch-b1"}
        body = operation(output=output) if place == "metadata" else {**operation(), "response": output}
        return httpx2.Response(200, json=body)

    assert [(one.key, one.output) for one in await results(reply)] == [("a", "x")]


async def test_inlined_results_count_only_with_their_key(caplog):
    """Their order was seen to be another than that of the requests."""
    response = json.loads(LINE)["response"]
    inlined = [{"response": response, "metadata": {"key": "a"}}, {"response": response}]
    output = {"inlinedResponses": {"inlinedResponses": inlined}}
    assert [one.key for one in await results(having(output))] == ["a"]
    assert "1 results" in caplog.text


async def test_a_batch_without_output_has_no_results():
    """Expired and cancelled ones have none; neither has one that ended with nothing to show."""
    assert await results(having({})) == []


async def test_a_file_of_a_hostile_name_is_not_asked_for():
    """It would be part of an address."""
    with pytest.raises(Rejected):
        await results(having({"responsesFile": "files/../batches/b2:cancel"}))


async def test_a_line_that_cannot_be_read_is_ignored(caplog):
    """Its row counts as missing; its content is not logged."""
    content = b'{"secret": 1}\n' + LINE + b"\n\n{half"
    assert [one.key for one in await results(having({"responsesFile": "files/f"}, content))] == ["a"]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("code", [403, 404])
async def test_a_file_that_is_gone_is_not_found(code):
    """Gemini says 403 for files that are not there."""

    def reply(request):
        if ":download" in str(request.url):
            return httpx2.Response(code, json={"error": {"code": code, "message": "or it may not exist"}})
        return httpx2.Response(200, json=operation(output={"responsesFile": "files/f"}))

    with pytest.raises(NotFound, match="six weeks"):
        await results(reply)


@pytest.mark.parametrize(
    ("location", "key"),
    [("/download/v1/files/f:download?alt=media", KEY), ("https://storage.example/f?signed=1", None)],
)
async def test_the_key_stays_at_home_when_a_download_is_redirected(location, key):
    """Google's media redirect; the place they redirect to needs no key of ours."""
    seen = []

    def reply(request):
        if request.url.path == "/v1/batches/b1":
            return httpx2.Response(200, json=operation(output={"responsesFile": "files/f"}))
        seen.append(request)
        if len(seen) == 1:
            return httpx2.Response(302, headers={"location": location})
        return httpx2.Response(200, content=LINE)

    assert [one.key for one in await results(reply)] == ["a"]
    assert [request.headers.get("x-goog-api-key") for request in seen] == [KEY, key]


@pytest.mark.parametrize("location", ["http://169.254.169.254/x", "/v1/files/f:download?alt=media"])
async def test_a_download_is_redirected_neither_in_the_clear_nor_for_ever(location):
    """Both end with the address that was refused, without its query, which may be signed."""

    def reply(request):
        if ":download" in str(request.url):
            return httpx2.Response(302, headers={"location": location})
        return httpx2.Response(200, json=operation(output={"responsesFile": "files/f"}))

    with pytest.raises(Rejected, match="not followed") as caught:
        await results(reply)
    assert "alt=media" not in str(caught.value)


# the end


async def test_files_are_removed_and_the_record_stays(bench):
    """Files fill the project's 20 GB; people look for the record."""
    batch_id = await bench.submit(bench.payload("one"))
    bench.finish()
    await bench.provider.status(batch_id)
    assert len(bench.emulator.files) == 2
    await bench.provider.clean_up(batch_id)
    assert bench.emulator.files == {}
    assert (await bench.provider.status(batch_id)).status == "completed"


async def test_a_file_that_gemini_keeps_is_not_an_error(bench):
    """Names of output files are longer than Gemini's own delete takes; the input goes nevertheless."""
    batch_id = await bench.submit(bench.payload("one"))
    bench.finish()
    await bench.provider.status(batch_id)
    message = "* DeleteFileRequest.name: File ID cannot be more than 40 characters."
    bench.emulator.faults.add("google.files.delete", "status", status=400, message=message, path="*files/batch-*")
    await bench.provider.clean_up(batch_id)
    assert [name for name in bench.emulator.files if "batch-" not in name] == []


async def test_clean_up_deletes_only_what_is_a_file():
    """A hostile record names batches, addresses and other people's paths."""
    seen = []

    def reply(request):
        seen.append(request.method)
        source = {"fileName": "files/../batches/b2"}
        return httpx2.Response(200, json=operation(inputConfig=source, output={"responsesFile": "https://x/files/y"}))

    adapter = provider(reply)
    await adapter.clean_up("b1")
    assert seen == ["GET"]
    await adapter.aclose()


# refusals


def refusal(http_status: int, message="m", status="", *details, headers=None):
    body = {"error": {"code": http_status, "message": message, "status": status, "details": list(details)}}
    return operations.refused(http_status, body, headers or {}, KEY)


INVALID_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
NO_BILLING = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal(400, "bad", "INVALID_ARGUMENT"), Rejected),
        (refusal(400, "API key not valid.", "INVALID_ARGUMENT", INVALID_KEY), Denied),
        (refusal(400, "region", "FAILED_PRECONDITION"), Paused),
        (refusal(403, "no", "PERMISSION_DENIED"), Denied),
        (refusal(403, "off", "PERMISSION_DENIED", NO_BILLING), Paused),
        (refusal(404, "gone", "NOT_FOUND"), NotFound),
        (refusal(409, "twice", "ALREADY_EXISTS"), Unavailable),
        (refusal(429, "slow", "RESOURCE_EXHAUSTED"), Unavailable),
        (refusal(429, "Your prepayment credits are depleted.", "RESOURCE_EXHAUSTED"), Paused),
        (refusal(499, "stopped", "CANCELLED"), Unavailable),
        (refusal(500, "oops", "INTERNAL"), Unavailable),
        (refusal(504, "late", "DEADLINE_EXCEEDED"), Unavailable),
        (operations.refused(503, "<html>", {}, KEY), Unavailable),
        (operations.refused(400, [{"error": {"details": [INVALID_KEY]}}], {}, KEY), Denied),
        (operations.refused(302, {"message": "moved"}, {}, KEY), Rejected),
    ],
)
def test_a_refusal_is_named_by_what_the_reader_can_do(error, kind):
    """By Google's own words where HTTP's do not tell."""
    assert type(error) is kind


@pytest.mark.parametrize(("delay", "seconds"), [("30s", 30.0), ("1.5s", 1.5), ("99999s", 3600.0), ("x", 7.0), (3, 7.0)])
def test_google_says_how_long_to_wait_in_the_body(delay, seconds):
    """RetryInfo comes before the header."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    error = refusal(429, "slow", "RESOURCE_EXHAUSTED", info, headers={"retry-after": "7"})
    assert (error.retry_after, error.ambiguous) == (seconds, False)


def test_a_refusal_is_short_and_holds_no_key():
    """Whatever the provider quotes back."""
    error = refusal(400, f"bad key {KEY} " + "x" * 9000, "S" * 500)
    assert KEY not in str(error)
    assert len(str(error)) < 700
    assert (error.code, error.http_status) == ("S" * 79 + "…", 400)


async def test_cancelling_is_done_when_the_batch_is_over_or_stopping(bench):
    """A refusal that leaves the batch running is an error."""
    batch_id = await bench.submit(bench.payload("one"))
    bench.fault("cancel", "status", status=400, code="FAILED_PRECONDITION")
    with pytest.raises(Paused):
        await bench.provider.cancel(batch_id)
    bench.finish()
    bench.fault("cancel", "status", status=500)
    await bench.provider.cancel(batch_id)


async def test_the_sdk_tells_its_debug_log_no_key(bench, caplog):
    """Neither do we, when a file cannot be deleted."""
    with caplog.at_level(logging.DEBUG):
        batch_id = await bench.submit(bench.payload("one"))
        bench.emulator.faults.add("google.files.delete", "status", status=403, message=f"key {KEY}", times=None)
        await bench.provider.clean_up(batch_id)
    assert "was not deleted" in caplog.text
    assert KEY not in caplog.text
