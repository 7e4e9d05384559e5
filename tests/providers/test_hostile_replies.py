"""A reply that is broken, huge or hostile is a fault of that reply alone."""

from __future__ import annotations

import asyncio
import json
import logging
import tracemalloc
import zlib
from datetime import UTC, datetime
from functools import cache

import httpx2
import msgspec
import pytest
from provider_backends import BACKENDS, KEY, Bench, submitted

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound, Rejected, Unavailable
from airflow_batch_provider.providers import http, provider_class
from airflow_batch_provider.providers.listing import whole
from airflow_batch_provider.providers.untrusted import moment, one_line

IDS = ("batch_1", "batch_2", "batch_3", "batch_4")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DEEP = b"[" * 100_000 + b"]" * 100_000
HUGE = b"9" * 50_000
NAMES = [name for name in BACKENDS if name != "openai-responses"]
everywhere = pytest.mark.parametrize("name", NAMES)


class Pieces(httpx2.AsyncByteStream):
    """A body as a network brings it."""

    def __init__(self, body: bytes):
        self._body = body

    async def __aiter__(self):
        for start in range(0, len(self._body), 65536):
            yield self._body[start : start + 65536]


def pieces(body: bytes, status=200, **headers) -> httpx2.Response:
    return httpx2.Response(
        status, headers={name.replace("_", "-"): value for name, value in headers.items()}, stream=Pieces(body)
    )


def record(name, ident="batch_1", odd=b'"odd"') -> bytes:
    """A batch as each provider tells of it, with something odd in a field that is read and in one that is not."""
    if name == "google":
        fields = {"name": f"batches/{ident}", "metadata": {"state": "BATCH_STATE_RUNNING", "displayName": "ODD"}}
    else:
        fields = {"id": ident, "processing_status": "in_progress", "status": "in_progress", "metadata": {"tag": "ODD"}}
    fields |= {"request_counts": {"total": "ODD", "processing": "ODD"}, "strange": "ODD", "created_at": "ODD"}
    return json.dumps(fields).encode().replace(b'"ODD"', odd)


def listed(name, *records: bytes) -> bytes:
    field = b"operations" if name == "google" else b"data"
    return b'{"%b":[%b],"has_more":false}' % (field, b",".join(records))


def provider(name, answer):
    """The adapter over a function that answers."""
    backend = BACKENDS[name]
    return provider_class(backend.provider)(backend.account("http://provider.test"), httpx2.MockTransport(answer))


def always(body: bytes, status=200, **headers):
    return lambda _: pieces(body, status, **headers)


# what cannot be read


@everywhere
@pytest.mark.parametrize(
    "odd", [DEEP, HUGE, b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b'"\x00\t"', b"-1e400", b"[{}]"]
)
async def test_an_odd_field_does_not_cost_the_look(name, odd):
    """Nested 100,000 levels, a number of 50,000 digits, NaN: the rest of the record is read."""
    adapter = provider(name, always(record(name, odd=odd)))
    told = await adapter.status("batch_1")
    assert (told.status, told.counts and told.counts.total) in {("processing", 0), ("processing", None)}
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("odd", [DEEP, HUGE, b"NaN"])
async def test_a_bad_record_in_a_page_touches_its_own_batch_only(name, odd):
    """The others are seen in the same page."""
    page = listed(name, *(record(name, ident, odd if ident == "batch_2" else b'"fine"') for ident in IDS))
    adapter = provider(name, always(page))
    answers = whole(await adapter.statuses(IDS))
    assert sorted(answers) == sorted(IDS)
    async for _ in adapter.tagged(LONG_AGO):
        pass
    await adapter.aclose()


@everywhere
async def test_a_record_with_an_unusable_id_does_not_end_a_list(name, caplog):
    """It is told, once, and the others are seen."""
    page = listed(name, record(name, "../../etc\x1b[2J"), record(name, "batch_2"), record(name, "batch_3"))
    adapter = provider(name, always(page))
    with caplog.at_level(logging.WARNING):
        seen = [status.batch_id async for status in adapter.tagged(LONG_AGO)]
    assert [ident.removeprefix("batches/") for ident in seen] == (["batch_2", "batch_3"] if adapter.keeps_tags else [])
    assert "\x1b" not in caplog.text
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"<html>", b"\xff\xfe", DEEP, b'{"a":' + DEEP])
async def test_a_reply_that_is_not_json_is_a_passing_fault(name, body):
    """Of a poll, a list and a cancellation alike."""
    adapter = provider(name, always(body))
    for poll in (adapter.status("batch_1"), adapter.check()):
        with pytest.raises(Unavailable) as caught:
            await poll
        assert len(str(caught.value)) < 600
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
@pytest.mark.parametrize(
    "body", [DEEP, b'{"error":' + DEEP + b"}", b'{"error":{"message":' + HUGE + b"}}", b"\xff" * 999]
)
async def test_a_refusal_that_cannot_be_read_is_still_that_refusal(name, status, body):
    """By its HTTP status."""
    adapter = provider(name, always(body, status))
    with pytest.raises(BatchError) as caught:
        await adapter.status("batch_1")
    expected = {400: Rejected, 404: NotFound}.get(status, Unavailable)
    assert isinstance(caught.value, expected)
    assert len(str(caught.value)) < 600
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("status", [408, 425, 499, 520, 529])
async def test_a_reply_that_is_not_the_providers_last_word_may_pass(name, status):
    """Too early, or hung up by a gateway; the call may have taken effect."""
    adapter = provider(name, always(b"{}", status))
    with pytest.raises(Unavailable) as caught:
        await adapter.status("batch_1")
    assert caught.value.ambiguous
    await adapter.aclose()


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", -1e11])
def test_a_time_to_which_nothing_can_be_added_is_not_told(when):
    """Another time zone alone would overflow."""
    assert moment(when) is None


# size


@cache
def bomb(megabytes: int) -> bytes:
    """Spaces, then a status; a megabyte takes a kilobyte."""
    packer = zlib.compressobj(9, wbits=31)
    return (
        b"".join([packer.compress(b" " * (1 << 20)) for _ in range(megabytes)])
        + packer.compress(b"{}")
        + packer.flush()
    )


@everywhere
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_reply_is_read_up_to_a_bound_after_decompression(name, status):
    """A few hundred kilobytes of gzip made 900 MB in the triggerer."""
    adapter = provider(name, always(bomb(100), status, content_encoding="gzip"))
    tracemalloc.start()
    with pytest.raises(Unavailable, match="larger than"):
        await adapter.status("batch_1")
    with pytest.raises(Unavailable, match="larger than"):
        await adapter.check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * http.MOST_BYTES
    await adapter.aclose()


@everywhere
async def test_an_endless_reply_ends_at_the_bound(name):
    """Without any compression."""
    adapter = provider(name, always(b" " * (http.MOST_BYTES + 1)))
    with pytest.raises(Unavailable, match="larger than"):
        await adapter.status("batch_1")
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("encoding", ["br", "gzip", "gzip, gzip", "zstd", "nonsense"])
async def test_a_reply_that_cannot_be_unpacked_is_a_passing_fault(name, encoding):
    """Only gzip is asked for, and this is none."""
    adapter = provider(name, always(b"not compressed at all", content_encoding=encoding))
    with pytest.raises(Unavailable, match="cannot be read"):
        await adapter.status("batch_1")
    await adapter.aclose()


@everywhere
async def test_a_small_compressed_reply_is_read(name):
    """As proxies send them."""
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(record(name)) + packer.flush()
    adapter = provider(name, always(body, content_encoding="gzip"))
    assert (await adapter.status("batch_1")).status == "processing"
    await adapter.aclose()


class Drip(httpx2.AsyncByteStream):
    """A byte now and then, for ever."""

    async def __aiter__(self):
        while True:
            await asyncio.sleep(0.001)
            yield b" "


@everywhere
async def test_a_reply_that_drips_ends_after_five_times_the_time_out(name):
    """No single wait is too long, and all together are."""
    backend = BACKENDS[name]
    drip = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drip()))
    adapter = provider_class(backend.provider)(backend.account("http://provider.test", timeout=0.01), drip)
    with pytest.raises(Unavailable, match=r"took more than 0\.05 s"):
        await adapter.status("batch_1")
    await adapter.aclose()


# words


FORGED = f"bad {KEY}\x1b[2J\r\nERROR forged\u2028\u202e" + "x" * 5000


@everywhere
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_a_providers_words_reach_nobody_raw(name, status):
    """Neither the key that it quotes, nor an escape, nor a second line."""
    error = {"message": FORGED, "type": FORGED, "code": FORGED, "status": FORGED, "details": FORGED}
    adapter = provider(name, always(json.dumps({"error": error}).encode(), status))
    with pytest.raises(BatchError) as caught:
        await adapter.status("batch_1")
    told = str(caught.value)
    assert KEY not in told
    assert told.isprintable()
    assert len(told) < 800
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("odd", [[], {}, [{}], 7, None, True, {"a": []}])
async def test_a_refusal_of_any_shape_is_still_that_refusal(name, odd):
    """A field that is a list where a word belongs must not end the task."""
    error = dict.fromkeys(["message", "type", "code", "status", "details", "reason", "error_code"], odd)
    for body in ({"error": error}, {"error": [error]}, {"error": odd}, [{"error": error}], error):
        adapter = provider(name, always(json.dumps(body).encode(), 400))
        with pytest.raises(Rejected):
            await adapter.status("batch_1")
        await adapter.aclose()


@everywhere
@pytest.mark.parametrize("odd", [[], {}, [{}], 7, None, True, {"a": []}, [[], "x"]])
async def test_a_record_of_any_shape_is_read(name, odd):
    """Every field but the id may be anything."""
    fields = [
        "processing_status",
        "status",
        "error",
        "errors",
        "metadata",
        "request_counts",
        "created_at",
        "expires_at",
        "ended_at",
        "completed_at",
        "cancel_initiated_at",
        "archived_at",
        "results_url",
        "output_file_id",
        "error_file_id",
        "input_file_id",
        "response",
        "done",
    ]
    metadata = dict.fromkeys(["state", "displayName", "createTime", "endTime", "batchStats", "output", "error"], odd)
    ident = {"name": "batches/batch_1", "metadata": metadata} if name == "google" else {"id": "batch_1"}
    one = {**dict.fromkeys(fields, odd), **ident}
    strange = json.dumps({**one, "id": odd, "name": odd}).encode()
    page = listed(name, json.dumps(one).encode(), strange)
    adapter = provider(
        name, lambda request: pieces(page if request.url.path.endswith("batches") else json.dumps(one).encode())
    )
    assert (await adapter.status("batch_1")).status in {"processing", "pending", "completed", "failed", "cancelled"}
    assert "batch_1" in await adapter.statuses(IDS)
    assert [status async for status in adapter.tagged(LONG_AGO)] == []
    await adapter.aclose()


@everywhere
async def test_an_unknown_status_word_is_told_once_on_one_line(name, caplog):
    """And kept so, too."""
    adapter = provider(
        name,
        always(record(name).replace(b"in_progress", b"x\\u001b[2J\\nERROR").replace(b"STATE_RUNNING", b"x\\u001b\\n")),
    )
    with caplog.at_level(logging.WARNING):
        told = [await adapter.status("batch_1") for _ in range(2)]
    assert told[0].provider_status.isprintable()
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().isprintable()
    await adapter.aclose()


@everywhere
async def test_a_key_in_a_record_or_a_row_is_masked(name):
    """Where a proxy quotes it in the words of a failed batch or row, which are stored."""
    told = {"code": 3, "message": f"bad key {KEY}", "type": "x"}
    metadata = {"state": "BATCH_STATE_FAILED", "displayName": "t", "output": {"responsesFile": "files/f1"}}
    failed = {
        "anthropic": {"id": "batch_1", "processing_status": f"odd {KEY}", "results_url": "x"},
        "google": {"name": "batches/batch_1", "metadata": metadata, "error": told},
    }.get(name, {"id": "batch_1", "status": "failed", "errors": {"data": [told]}, "output_file_id": "f1"})
    row = json.dumps({"custom_id": "k", "key": "k", "error": told, "result": {"type": "errored", "error": told}})

    def answer(request):
        is_results = request.url.path.endswith(("results", "content", "download"))
        return pieces(row.encode() + b"\n" if is_results else json.dumps(failed).encode())

    adapter = provider(name, answer)
    status = await adapter.status("batch_1")
    (reply,) = [reply async for reply in adapter.results("batch_1", "generate")]
    assert "***" in status.model_dump_json()
    assert "***" in reply.error.message
    assert KEY not in status.model_dump_json() + msgspec.json.encode(reply).decode()
    await adapter.aclose()


def test_a_line_for_the_log_is_one_line():
    """Whatever stands in it."""
    for number in [*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066]:
        assert one_line(f"a{chr(number)}b") == "a b"
    assert one_line("x" * 400) == "x" * 299 + "…"
    assert one_line(None) == ""


# one batch among many


@everywhere
@pytest.mark.parametrize(
    ("status", "kind"), [(400, Rejected), (401, Denied), (403, Denied), (429, Unavailable), (500, Unavailable)]
)
async def test_a_fault_of_one_batch_stays_with_it(name, status, kind):
    """Its neighbours on the same connection are told what they are."""

    def answer(request):
        if request.url.path.endswith("batches"):
            return pieces(listed(name))
        ident = request.url.path.rpartition("/")[2]
        return pieces(b"{}", status) if ident == "batch_2" else pieces(record(name, ident))

    adapter = provider(name, answer)
    answers = await adapter.statuses(IDS)
    assert isinstance(answers.pop("batch_2"), kind)
    assert sorted(whole(answers)) == ["batch_1", "batch_3", "batch_4"]
    await adapter.aclose()


@everywhere
@pytest.mark.parametrize("bad", ["a b", "a/b", "", "../x"])
async def test_an_id_that_cannot_be_sent_stays_with_itself(name, bad):
    """A sensor's template made it; the others are polled."""
    adapter = provider(name, always(listed(name, *(record(name, ident) for ident in IDS))))
    answers = await adapter.statuses([*IDS, bad])
    assert isinstance(answers.pop(bad), Rejected)
    assert sorted(whole(answers)) == sorted(IDS)
    await adapter.aclose()


@everywhere
async def test_single_polls_run_side_by_side(name):
    """Ten at a time, so that many batches behind the listed pages are seen soon."""
    under_way, most = 0, 0

    async def answer(request):
        nonlocal under_way, most
        if request.url.path.endswith("batches"):
            return pieces(listed(name))
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        return pieces(record(name, request.url.path.rpartition("/")[2]))

    adapter = provider(name, answer)
    ids = [f"batch_{number}" for number in range(40)]
    assert sorted(whole(await adapter.statuses(ids))) == sorted(ids)
    assert most == 10
    await adapter.aclose()


# settings


@pytest.mark.parametrize("name", ["anthropic", "openai-chat"])
async def test_a_time_out_of_five_seconds_stays_five(name):
    """Five is httpx2's own default, which the SDKs take for none and make 600."""
    seen = []

    def answer(request):
        seen.append(request.extensions["timeout"])
        return pieces(record(name))

    backend = BACKENDS[name]
    account = backend.account("http://provider.test", timeout=5)
    adapter = provider_class(backend.provider)(account, httpx2.MockTransport(answer))
    await adapter.status("batch_1")
    assert {seconds for wait in seen for seconds in wait.values()} == {5}
    await adapter.aclose()


@pytest.mark.parametrize("status", [404, 405, 501, 400])
async def test_a_server_that_lists_no_files_still_gets_a_batch_again(tmp_path, status):
    """The upload of the attempt before is not found, so it is sent again."""
    calls = []

    def answer(request):
        calls.append((request.method, request.url.path))
        if request.method == "GET":
            return pieces(b'{"error":{"message":"no such route"}}', status)
        return pieces(b'{"id":"file_1"}' if request.url.path.endswith("files") else b'{"id":"batch_1"}')

    adapter = provider("openai-chat", answer)
    bench = Bench(BACKENDS["openai-chat"], adapter, None, tmp_path, "")
    assert await submitted(adapter, bench.payload("one", resumed=True)) == "batch_1"
    assert calls.count(("POST", "/v1/files")) == 1
    await adapter.aclose()
