"""Everything that goes wrong at a provider can be asked for, and appears to its SDK as it does there."""

from __future__ import annotations

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest
from google.genai import errors as google_errors

CREATES = ("anthropic.create", "openai.batches.create", "google.create")


async def _create(ask, route):
    match route.partition(".")[0]:
        case "anthropic":
            return (await ask.anthropic_batch({"a": "x"})).id
        case "openai":
            return (await ask.openai_chat({"a": "x"})).id
        case _:
            return (await ask.google_batch({"a": "x"})).name


CUTS = (anthropic_sdk.APIConnectionError, openai_sdk.APIConnectionError, httpx2.RemoteProtocolError, httpx2.ReadError)


@pytest.mark.parametrize("route", CREATES)
@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
async def test_a_cut_connection_before_and_after_commit(batch_emulator, ask, route, when, jobs):
    """The caller sees the same; only the books tell whether a batch was bought."""
    batch_emulator.faults.add(route, "cut", when=when)
    with pytest.raises(CUTS):
        await _create(ask, route)
    assert len(batch_emulator.books()["jobs"]) == jobs
    assert await _create(ask, route)


@pytest.mark.parametrize("route", CREATES)
async def test_an_error_after_commit(batch_emulator, ask, route):
    """A 500 although the batch was created."""
    batch_emulator.faults.add(route, "status", status=500, when="after")
    with pytest.raises((anthropic_sdk.InternalServerError, openai_sdk.InternalServerError, google_errors.ServerError)):
        await _create(ask, route)
    assert len(batch_emulator.books()["jobs"]) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"), (401, "AuthenticationError"), (402, "PaymentRequiredError"), (403, "PermissionDeniedError"),
        (404, "NotFoundError"), (409, "ConflictError"), (413, "ContentTooLargeError"), (429, "RateLimitError"),
        (500, "InternalServerError"), (503, "ServiceUnavailableError"), (529, "OverloadedError"),
    ],
)  # fmt: skip
async def test_every_status_of_anthropic(batch_emulator, anthropic, status, error):
    """Each has the class, the type and the request id it has there."""
    batch_emulator.faults.add("anthropic.list", "status", status=status)
    with pytest.raises(getattr(anthropic_sdk, error)) as caught:
        await anthropic.messages.batches.list()
    assert caught.value.request_id.startswith("req_")
    assert caught.value.type


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"), (401, "AuthenticationError"), (403, "PermissionDeniedError"), (404, "NotFoundError"),
        (409, "ConflictError"), (413, "APIStatusError"), (429, "RateLimitError"), (500, "InternalServerError"),
    ],
)  # fmt: skip
async def test_every_status_of_openai(batch_emulator, openai, status, error):
    """Each has the class and the request id it has there."""
    batch_emulator.faults.add("openai.batches.list", "status", status=status)
    with pytest.raises(getattr(openai_sdk, error)) as caught:
        await openai.batches.list()
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"), (409, "ALREADY_EXISTS"),
        (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE"),
    ],
)  # fmt: skip
async def test_every_status_of_google(batch_emulator, google, status, word):
    """Each has the google.rpc status it has there."""
    batch_emulator.faults.add("google.list", "status", status=status, details=[{"@type": "x"}])
    with pytest.raises(google_errors.APIError) as caught:
        await google.batches.list()
    assert (caught.value.code, caught.value.status) == (status, word)


async def test_money_has_run_out(batch_emulator, anthropic, openai):
    """A spend limit and an exhausted quota are 429 with a code of their own."""
    batch_emulator.faults.add("anthropic.list", "status", status=429, code="enforced_spend_limit_reached")
    with pytest.raises(anthropic_sdk.EnforcedSpendLimitReachedError) as caught:
        await anthropic.messages.batches.list()
    assert caught.value.error_code == "enforced_spend_limit_reached"
    batch_emulator.faults.add("openai.batches.list", "status", status=429, code="insufficient_quota")
    with pytest.raises(openai_sdk.RateLimitError) as caught:
        await openai.batches.list()
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")


@pytest.mark.parametrize(
    ("given", "header"), [(0, "0"), (3600.0, "3600"), ("date:60", "Mon, 21 Sep 2026 14:14:20 GMT"), ("soon", "soon")]
)
async def test_retry_after_in_all_its_forms(batch_emulator, anthropic, given, header):
    """Nought, long, a date, or nonsense."""
    batch_emulator.faults.add("anthropic.retrieve", "status", status=429, retry_after=given)
    with pytest.raises(anthropic_sdk.RateLimitError) as caught:
        await anthropic.messages.batches.retrieve("x")
    assert caught.value.response.headers["retry-after"] == header


@pytest.mark.parametrize("route", CREATES)
async def test_a_stall(batch_emulator, ask, anthropic, openai, google, route):
    """An answer that does not come in time is a timeout, after the batch was bought."""
    batch_emulator.faults.add(route, "stall", seconds=0.6, when="after")
    anthropic.timeout = openai.timeout = 0.3
    google._api_client._async_httpx_client.timeout = 0.3
    if route == "google.create":
        google._api_client._http_options.timeout = 300
    with pytest.raises((anthropic_sdk.APITimeoutError, openai_sdk.APITimeoutError, httpx2.TimeoutException)):
        await _create(ask, route)
    assert len(batch_emulator.books()["jobs"]) == 1


@pytest.mark.parametrize("cut", [{"bytes": 700}, {"lines": 2}, {"bytes": 0}])
async def test_a_result_stream_is_cut(batch_emulator, ask, anthropic, openai, google, cut, tmp_path):
    """In the middle of a line or at its end: the transport notices either way."""
    prompts = {f"r{number}": f"x{number}" for number in range(9)}
    batch = await ask.anthropic_batch(prompts)
    await ask.anthropic_results(batch.id)
    for route in ("anthropic.results", "openai.files.content", "google.download"):
        batch_emulator.faults.add(route, "cut_body", **cut)
    got = []
    with pytest.raises(CUTS):
        got.extend([row async for row in await anthropic.messages.batches.results(batch.id)])
    ended = await ask.openai_end((await ask.openai_chat(prompts)).id)
    with pytest.raises(CUTS):
        await openai.files.content(ended.output_file_id)
    assert len(await ask.openai_lines(ended.output_file_id)) == 9
    file = await ask.google_file(
        b'{"key": "k", "request": {"contents": [{"parts": [{"text": "%s"}]}]}}\n' % (b"x" * 900) * 3
    )
    done = await ask.google_end((await google.batches.create(model="gemini-2.5-flash", src=file.name)).name)
    with pytest.raises(CUTS):
        await google.files.download(file=done.dest.file_name, destination=tmp_path / "part")


@pytest.mark.parametrize("route", CREATES)
async def test_a_new_batch_is_not_visible_yet(batch_emulator, ask, anthropic, openai, google, route):
    """404 for two polls, then it is there; another is absent from one list."""
    batch_emulator.faults.add(route, "hide", polls=2)
    batch_emulator.faults.add(route, "unlist", polls=1)
    made = await _create(ask, route)
    get = {"a": lambda: anthropic.messages.batches.retrieve(made), "o": lambda: openai.batches.retrieve(made)}
    get["g"] = lambda: google.batches.get(name=made)
    for _ in range(2):
        with pytest.raises((anthropic_sdk.NotFoundError, openai_sdk.NotFoundError, google_errors.ClientError)):
            await get[route[0]]()
    assert await get[route[0]]()
    listed = {"a": anthropic.messages.batches.list, "o": openai.batches.list, "g": google.batches.list}[route[0]]
    assert [len([batch async for batch in await listed()]) for _ in range(2)] == [0, 1]


async def test_a_list_may_lag_by_time(batch_emulator, ask, openai):
    """Absent for so many seconds of the emulator's clock."""
    batch_emulator.faults.add("openai.batches.create", "unlist", seconds=30)
    await ask.openai_chat({"a": "x"})
    assert (await openai.batches.list()).data == []
    batch_emulator.clock.advance(30)
    assert len((await openai.batches.list()).data) == 1


@pytest.mark.filterwarnings("ignore:WARMING_UP is not a valid JobState")
async def test_words_nobody_knows(batch_emulator, ask, google, http):
    """A status of tomorrow, on each provider's wire; Google's SDK takes it and warns."""
    made = [await _create(ask, route) for route in CREATES]
    batch_emulator.faults.add("*", "unknown_status", word="WARMING_UP", times=None)
    assert (await google.batches.get(name=made[2])).state.name == "WARMING_UP"
    raw = await http.get(f"/anthropic/v1/messages/batches/{made[0]}", headers={"x-api-key": "k"})
    assert raw.json()["processing_status"] == "WARMING_UP"
    raw = await http.get("/openai/v1/batches", headers={"authorization": "Bearer k"})
    assert raw.json()["data"][0]["status"] == "WARMING_UP"


async def test_fields_nobody_knows(batch_emulator, ask, anthropic, openai, google):
    """The strict SDKs take them."""
    batch_emulator.faults.add("*", "extra_fields", times=None)
    assert await ask.anthropic_results((await ask.anthropic_batch({"a": "x"})).id)
    assert (await ask.openai_end((await ask.openai_chat({"a": "x"})).id)).emulator_extra
    assert (await ask.google_end((await ask.google_batch({"a": "x"})).name)).dest
    assert [batch.emulator_extra async for batch in anthropic.messages.batches.list()]


async def test_empty_strings_for_absent_files(batch_emulator, ask):
    """Some services write "" where OpenAI writes null."""
    batch_emulator.faults.add("openai.batches.retrieve", "empty_file_ids", times=None)
    assert (await ask.openai_end((await ask.openai_chat({"a": "x"})).id)).error_file_id == ""


async def test_results_are_gone(batch_emulator, ask, openai):
    """Beyond retention the file is 404 although the batch is known."""
    ended = await ask.openai_end((await ask.openai_chat({"a": "x"})).id)
    batch_emulator.faults.add("openai.files.content", "gone", times=None)
    with pytest.raises(openai_sdk.NotFoundError):
        await openai.files.content(ended.output_file_id)


@pytest.mark.parametrize("route", CREATES)
async def test_every_row_fails(batch_emulator, ask, route):
    """The batch ends well and nothing in it is good."""
    batch_emulator.faults.add(route, "fail_rows", code="server")
    made = await _create(ask, route)
    for _ in range(4):
        await _poll(ask, route, made)
    (job,) = batch_emulator.books()["jobs"]
    assert (job["phase"], job["counts"], job["billed"]) == ("completed", {"failed": 1}, 0)


@pytest.mark.parametrize("route", CREATES)
async def test_a_whole_batch_fails(batch_emulator, ask, route):
    """OpenAI and Google fail the job; at Anthropic, which has no such state, every row errors."""
    batch_emulator.faults.add(route, "fail", code="token_limit_exceeded", message="later")
    made = await _create(ask, route)
    for _ in range(4):
        last = await _poll(ask, route, made)
    (job,) = batch_emulator.books()["jobs"]
    assert job["phase"] == ("completed" if route[0] == "a" else "failed")
    assert job["billed"] == 0
    if route[0] == "o":
        assert last.errors.data[0].code == "token_limit_exceeded"


@pytest.mark.parametrize("route", CREATES)
async def test_a_batch_is_stuck_until_it_expires(batch_emulator, ask, route):
    """It looks alive for ever, and expires at the end of its window."""
    batch_emulator.faults.add(route, "stuck")
    made = await _create(ask, route)
    for _ in range(9):
        await _poll(ask, route, made)
    assert batch_emulator.books()["jobs"][0]["phase"] == "pending"
    batch_emulator.clock.advance(2 * 86_400)
    await _poll(ask, route, made)
    assert batch_emulator.books()["jobs"][0]["phase"] == "expired"


async def _poll(ask, route, made):
    match route[0]:
        case "a":
            return await ask.anthropic.messages.batches.retrieve(made)
        case "o":
            return await ask.openai.batches.retrieve(made)
        case _:
            return await ask.google.batches.get(name=made)


async def test_a_fault_waits_for_its_turn(batch_emulator, ask, openai):
    """`after` lets calls pass, `times` limits it, `path` picks one job."""
    ids = [(await ask.openai_chat({"a": f"{n}"})).id for n in range(2)]
    batch_emulator.faults.add("openai.batches.retrieve", "status", status=500, path=f"*{ids[1]}", after=1, times=2)
    seen = []
    for _ in range(4):
        await openai.batches.retrieve(ids[0])
        try:
            await openai.batches.retrieve(ids[1])
            seen.append("ok")
        except openai_sdk.InternalServerError:
            seen.append("500")
    assert seen == ["ok", "500", "500", "ok"]


def test_a_wrong_instruction_says_what_is_right(batch_emulator):
    """Unknown kinds and fields are refused with the known ones."""
    with pytest.raises(ValueError, match=r"No fault 'cutt'\. Choose among: status, cut"):
        batch_emulator.faults.add("*", "cutt")
    with pytest.raises(ValueError, match="No field 'second'"):
        batch_emulator.faults.add("*", "stall", second=1)


async def test_in_one_process_a_cut_is_an_exception(batch_emulator_settings):
    """Without a socket the SDK still sees a connection error, before and after commit."""
    from airflow_batch_provider.emulator import Emulator
    from airflow_batch_provider.emulator.app import create_app

    emulator = Emulator(batch_emulator_settings)
    emulator.faults.add("anthropic.create", "cut", when="after")
    transport = httpx2.ASGITransport(app=create_app(emulator))
    async with anthropic_sdk.AsyncAnthropic(
        base_url="http://emulator", api_key="any", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
    ) as client:
        params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        with pytest.raises(anthropic_sdk.APIConnectionError):
            await client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        assert len((await client.messages.batches.list()).data) == 1
    emulator.close()


async def test_in_one_process_a_cut_sends_nothing(batch_emulator_settings):
    """Not even the 500 that a web framework makes of an exception."""
    from airflow_batch_provider.emulator import Emulator
    from airflow_batch_provider.emulator.app import create_app
    from airflow_batch_provider.emulator.endpoint import CutInProcess

    emulator, sent = Emulator(batch_emulator_settings), []
    emulator.faults.add("openai.models", "cut")
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "headers": []}

    async def send(message):
        sent.append(message)

    with pytest.raises(CutInProcess):
        await create_app(emulator)(scope, None, send)
    assert sent == []
    emulator.close()


async def test_in_one_process_a_file_reaches_a_caller_that_has_sent_everything(batch_emulator_settings):
    """Such a caller reports itself as disconnected, on which some responses stop."""
    from airflow_batch_provider.emulator import Emulator
    from airflow_batch_provider.emulator.app import create_app
    from airflow_batch_provider.emulator.core import File

    emulator, body = Emulator(batch_emulator_settings), b"line\n" * 200_000
    path = emulator.blobs.new()
    path.write_bytes(body)
    emulator.store(File("file-1", "openai", "x", path, len(body), 0.0))
    sent = []
    scope = {
        "type": "http", "method": "GET", "path": "/v1/files/file-1/content", "query_string": b"",
        "headers": [(b"authorization", b"Bearer k")],
    }  # fmt: skip

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await create_app(emulator)(scope, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == body
    emulator.close()
