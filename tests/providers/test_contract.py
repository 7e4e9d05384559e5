"""What every provider does, whatever its wire looks like."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from provider_backends import KEY, PREFIX, Bench
from pydantic import BaseModel

from airflow_batch_provider.exceptions import (
    BatchError,
    Denied,
    NotFound,
    Paused,
    Rejected,
    Unavailable,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.providers import connect, faults, provider_class
from airflow_batch_provider.providers.base import BatchQuery


class Judgement(BaseModel):
    label: str
    score: int = 0


async def submitted(bench, *prompts: str) -> str:
    return await bench.submit(bench.payload(*prompts or ("one", "two")))


# the good way


async def test_a_batch_is_answered_row_by_row(bench):
    """Every key that was sent comes back once, with a text, tokens and the model."""
    replies = await bench.ask("one", "two", "three")
    assert sorted(replies) == ["0", "1", "2"]
    for reply in replies.values():
        assert reply.status == "succeeded"
        assert isinstance(reply.output, str)
        assert reply.output
        assert reply.finish_reason == "stop"
        assert reply.usage.input_tokens > 0
        assert reply.usage.output_tokens > 0
        assert reply.model == bench.backend.model


async def test_an_answer_fits_the_schema_that_was_asked(bench):
    """The schema reaches the model natively, so its answer is JSON of that shape."""
    spec = bench.spec(output_schema=Judgement.model_json_schema())
    replies = await bench.ask("judge", spec=spec)
    assert Judgement.model_validate_json(replies["0"].output)


async def test_a_schema_beyond_strict_mode_is_still_asked(bench):
    """An open dictionary is not a reason to refuse the task."""
    if bench.backend.provider == "google":
        pytest.skip("Gemini is told such a schema in words, which no emulator reads")
    schema = {
        "type": "object",
        "properties": {"by_name": {"type": "object", "additionalProperties": {"type": "integer"}}},
    }
    replies = await bench.ask("count", spec=bench.spec(output_schema={**schema, "required": ["by_name"]}))
    assert replies["0"].status == "succeeded"
    assert isinstance(json.loads(replies["0"].output), dict)


async def test_an_embedding_is_a_list_of_numbers(bench):
    """Where the provider has embeddings, a row's output is its vector."""
    if bench.backend.embedder is None:
        pytest.skip("no embeddings here")
    spec = bench.spec(kind="embed").model_copy(update={"model": bench.backend.embedder})
    replies = await bench.ask("one", "two", spec=spec)
    assert sorted(replies) == ["0", "1"]
    assert all(isinstance(number, float) for number in replies["0"].output)
    assert replies["0"].output != replies["1"].output
    assert replies["0"].usage.input_tokens > 0


async def test_what_cannot_be_embedded_is_refused_before_it_is_paid(bench):
    """A provider without embeddings says so when the task is checked."""
    if "embed" in bench.provider.kinds:
        pytest.skip("embeds")
    with pytest.raises(UsageError, match="OpenAI or Gemini"):
        bench.provider.check_spec(bench.spec(kind="embed"))


async def test_the_model_is_told_what_was_wrong_with_its_answer(bench):
    """A second asking carries the answer and the problem, and gets another answer."""
    spec = bench.spec()
    body = bench.provider.codec.encode(BatchRequest(prompt="one"), spec)
    again = bench.provider.codec.reask(body, "the first answer", "say it shorter")
    text = json.dumps(again)
    assert text.index("the first answer") < text.index("say it shorter")
    assert "the first answer" not in json.dumps(body)


# rows that go wrong


@pytest.mark.parametrize(
    ("marker", "status", "retryable"),
    [
        ("error=overloaded", "failed", True),
        ("error=rate_limit", "failed", True),
        ("error=server", "failed", True),
        ("error=invalid_request", "failed", False),
        ("refusal", "failed", False),
        ("expired", "expired", True),
        ("cancelled", "cancelled", True),
    ],
)
async def test_a_row_that_failed_says_whether_asking_again_helps(bench, marker, status, retryable):
    """Passing faults are retryable, refusals for good are not, and the others of the batch are untouched."""
    replies = await bench.ask(f"[[emulate:{marker}]]", "good")
    if bench.backend.provider == "google" and marker in {"expired", "cancelled"}:
        pytest.skip("Gemini knows no such rows")
    assert (replies["0"].status, replies["0"].error.retryable) == (status, retryable)
    assert replies["0"].error.code
    assert replies["1"].status == "succeeded"


async def test_a_truncated_answer_is_told_by_its_finish_reason(bench):
    """It succeeded, was paid, and ended at max_tokens; what to do about it is not the provider's matter."""
    replies = await bench.ask("[[emulate:truncated]]")
    assert (replies["0"].status, replies["0"].finish_reason) == ("succeeded", "max_tokens")
    assert replies["0"].usage.output_tokens > 0


async def test_a_call_of_a_tool_is_an_answer(bench):
    """Its name and its arguments, as an object, stand in the output."""
    replies = await bench.ask("[[emulate:tool_use]]")
    (call,) = replies["0"].output["tool_calls"]
    assert replies["0"].finish_reason == "tool_use"
    assert call.keys() == {"id", "name", "arguments"}
    assert isinstance(call["arguments"], dict)


async def test_cached_and_reasoning_tokens_are_part_of_the_sums(bench):
    """Input counts cached tokens in, output counts reasoning in, alike for all."""
    usage = (await bench.ask("[[emulate:cached=3,reasoning=5]] " + "word " * 50))["0"].usage
    assert usage.cached_tokens == 3
    assert usage.reasoning_tokens == 5
    assert usage.input_tokens > 3
    assert usage.output_tokens > 5


async def test_strange_line_separators_stay_in_their_line(bench):
    """U+2028, U+2029 and U+0085 stand raw in JSON and end no line."""
    replies = await bench.ask("[[emulate:separators]]", "two")
    assert sorted(replies) == ["0", "1"]
    assert "\u2028" in replies["0"].output


async def test_missing_double_and_strange_lines_are_handed_on_as_they_are(bench):
    """The ledger, not the provider, says what they mean."""
    batch_id = await bench.submit(bench.payload("[[emulate:missing]]", "[[emulate:duplicate]]", "[[emulate:stranger]]"))
    bench.finish()
    keys = [reply.key async for reply in bench.provider.results(batch_id, "generate")]
    assert f"{PREFIX}0" not in keys
    assert keys.count(f"{PREFIX}1") == 2
    assert len(keys) == 4


# the life of a batch


async def test_a_batch_begins_open_and_ends_completed(bench):
    """While it runs it is pending or processing; then completed, with its counts and its time."""
    payload = bench.payload("one", "two")
    batch_id = await bench.submit(payload)
    first = await bench.provider.status(batch_id)
    assert first.status in {"pending", "processing"}
    assert not first.ended
    bench.finish()
    last = await bench.provider.status(batch_id)
    assert (last.batch_id, last.status, last.ended) == (batch_id, "completed", True)
    assert last.tag == (payload.tag if bench.backend.keeps_tag else None)
    assert (last.counts.total, last.counts.succeeded, last.counts.failed) == (2, 2, 0)
    assert last.created_at <= last.ended_at


async def test_a_cancelled_batch_ends_cancelled(bench):
    """It may take a while; then no row is left running."""
    batch_id = await submitted(bench)
    await bench.provider.cancel(batch_id)
    assert not (await bench.provider.status(batch_id)).ended
    bench.finish()
    assert (await bench.provider.status(batch_id)).status == "cancelled"


async def test_cancelling_twice_or_too_late_is_not_an_error(bench):
    """Whoever cancels wants it to be over, and it is."""
    batch_id = await submitted(bench)
    await bench.provider.cancel(batch_id)
    await bench.provider.cancel(batch_id)
    done = await submitted(bench)
    bench.finish()
    await bench.provider.cancel(done)
    assert (await bench.provider.status(done)).status == "completed"


async def test_a_batch_may_expire(bench):
    """What the window did not suffice for is expired, whatever was done before."""
    bench.fault("create", "stuck")
    batch_id = await submitted(bench)
    bench.emulator.clock.advance(3 * 86400)
    assert (await bench.provider.status(batch_id)).status == "expired"


async def test_many_batches_are_looked_at_together(bench):
    """Known ones are told, strangers are absent, and the list is asked instead of each."""
    ids = [await submitted(bench, f"{number}") for number in range(5)]
    before = bench.emulator.calls[bench.backend.routes["retrieve"]]
    seen = await bench.provider.statuses(ids)
    assert sorted(seen) == sorted(ids)
    assert bench.emulator.calls[bench.backend.routes["retrieve"]] == before
    assert await bench.provider.statuses([]) == {}


async def test_a_batch_that_no_list_shows_is_looked_at_alone(bench):
    """Lists lag behind; the batch itself does not."""
    bench.fault("create", "unlist", seconds=900)
    hidden = await submitted(bench)
    others = [await submitted(bench, f"{number}") for number in range(3)]
    assert sorted(await bench.provider.statuses([hidden, *others])) == sorted([hidden, *others])


async def test_an_unknown_word_is_taken_for_processing_and_told_once(bench, caplog):
    """A new status of a provider ends no task; it is logged once."""
    batch_id = await submitted(bench)
    bench.fault("retrieve", "unknown_status", word="rebalancing", times=None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert (await bench.provider.status(batch_id)).status == "processing"
    ours = [record for record in caplog.records if record.name.startswith("airflow_batch_provider")]
    assert [record.getMessage().count("rebalancing") for record in ours] == [1]


async def test_fields_nobody_knows_are_not_error(bench):
    """Providers add fields when they like."""
    for route in ("create", "retrieve", "list"):
        bench.fault(route, "extra_fields", times=None)
    batch_id = await submitted(bench)
    bench.finish()
    assert (await bench.provider.status(batch_id)).status == "completed"


async def test_an_ended_batch_can_be_cleaned_up_twice(bench):
    """What is gone is not an error."""
    batch_id = await submitted(bench)
    bench.finish()
    await bench.provider.clean_up(batch_id)
    await bench.provider.clean_up(batch_id)


# what was bought


async def test_a_claimed_batch_is_found_again(bench):
    """Certain where the provider keeps our tag, or where the results carry our keys."""
    payload = bench.payload("one", "two")
    claim = bench.claim(payload)
    assert await bench.provider.find(claim) == []
    batch_id = await bench.submit(payload)
    (running,) = await bench.provider.find(claim)
    assert (running.batch_id, running.certain) == (batch_id, bench.backend.keeps_tag)
    bench.finish()
    (ended,) = await bench.provider.find(claim)
    assert (ended.batch_id, ended.certain) == (batch_id, True)


async def test_the_batch_of_another_is_not_taken_for_ours(bench):
    """Neither one of the same size under other keys, nor one from before the claim."""
    payload = bench.payload("one", "two")
    await bench.submit(payload)
    bench.finish()
    claim = bench.claim(bench.payload("three", "four"))
    assert await bench.provider.find(claim) == []
    batch_id = await bench.submit(bench.payload("five", "six"))
    bench.finish()
    found = await bench.provider.find(
        type(claim)(tag="abp-none", claimed_at=bench.now, requests=2, key_prefix="other-")
    )
    assert batch_id not in {one.batch_id for one in found}


async def test_every_tagged_batch_since_then_is_told(bench):
    """Whoever made them; none where the provider keeps no tags."""
    old = await bench.submit(bench.payload("zero"))
    bench.emulator.clock.advance(3600)
    sent = [bench.payload("one"), bench.payload("two", "three")]
    ids = [await bench.submit(payload) for payload in sent]
    told = {status.batch_id: status async for status in bench.provider.tagged(bench.now - timedelta(minutes=1))}
    assert {name: status.tag for name, status in told.items()} == (
        {name: payload.tag for name, payload in zip(ids, sent, strict=True)} if bench.backend.keeps_tag else {}
    )
    assert not any(status.ended for status in told.values())
    long_ago = [status.batch_id async for status in bench.provider.tagged(bench.now - timedelta(days=1))]
    assert sorted(long_ago) == (sorted([old, *ids]) if bench.backend.keeps_tag else [])


async def test_a_create_whose_answer_is_lost_is_ambiguous_and_can_be_found(bench):
    """The connection is cut after the provider took the batch: nobody but `find` can tell."""
    payload = bench.payload("one", "two")
    claim = bench.claim(payload)
    bench.fault("create", "cut", when="after")
    with pytest.raises(Unavailable) as caught:
        await bench.submit(payload)
    assert caught.value.ambiguous
    assert len(await bench.provider.find(claim)) == 1


RETRIES = {"max_retries": 5, "openai_client_kwargs": {"max_retries": 5}, "retry_options": {"attempts": 5}}
"""How users turn the SDKs' retries on, in the connections of other packages."""


async def test_a_create_is_sent_once(bench):
    """No SDK retries behind our back, whatever the provider answers."""
    for status in (408, 409, 429, 500, 503):
        bench.emulator.faults.clear()
        calls = bench.emulator.calls[bench.backend.routes["create"]]
        bench.fault("create", "status", status=status, times=None, headers={"x-should-retry": "true"}, retry_after=0)
        with pytest.raises(Unavailable):
            await submitted(bench)
        assert bench.emulator.calls[bench.backend.routes["create"]] == calls + 1


async def test_a_create_is_sent_once_whatever_the_connection_says(backend, server, tmp_path):
    """What other packages read there, and hand to the SDKs."""
    provider = connect(backend.account(server.url, **RETRIES))
    bench = Bench(backend, provider, server.emulator, tmp_path, server.url)
    bench.fault("create", "status", status=503, times=None, retry_after=0)

    with pytest.raises(Unavailable):
        await submitted(bench)

    assert server.emulator.calls[backend.routes["create"]] == 1
    await provider.aclose()


# what can go wrong


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Denied),
        (402, Paused),
        (403, Denied),
        (404, NotFound),
        (408, Unavailable),
        (409, Unavailable),
        (413, Rejected),
        (422, Rejected),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (529, Unavailable),
    ],
)
async def test_a_refusal_is_named_by_what_the_reader_can_do(bench, status, error):
    """One table for all providers; the message quotes the provider, bounded, and never the key."""
    bench.fault("create", "status", status=status, message="because " + "x" * 5000)
    with pytest.raises(BatchError) as caught:
        await submitted(bench)
    assert type(caught.value) is error
    assert "because" in str(caught.value)
    assert len(str(caught.value)) < 700
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("given", "seconds"), [(7, 7.0), ("date:30", 30.0), (10**9, 3600.0)])
async def test_the_provider_says_how_long_to_wait(bench, way, given, seconds):
    """In seconds or as a date, and never longer than an hour."""
    if way == "over a port" and given == "date:30":
        pytest.skip("the port's own date is not the emulator's")
    batch_id = await submitted(bench)
    headers = {"date": "Mon, 21 Sep 2026 14:13:20 GMT"}
    bench.fault("retrieve", "status", status=429, retry_after=given, headers=headers)
    with pytest.raises(Unavailable) as caught:
        await bench.provider.status(batch_id)
    assert not caught.value.ambiguous
    assert caught.value.retry_after == seconds


async def test_a_wrong_key_is_denied(bench):
    """The connection's test says so, and quotes no key."""
    assert "accepts the key" in await bench.provider.check()
    bench.emulator.settings = bench.emulator.settings.changed({"keys": ["another"]})
    with pytest.raises(Denied) as caught:
        await bench.provider.check()
    assert KEY not in str(caught.value)


async def test_an_unknown_batch_is_not_found(bench):
    """Whatever is asked of it."""
    known = await submitted(bench)
    stranger = known[:-4] + "ffff"
    for ask in (bench.provider.status, bench.provider.cancel):
        with pytest.raises(NotFound):
            await ask(stranger)
    with pytest.raises(NotFound):
        await bench.replies(stranger)
    assert await bench.provider.statuses([stranger]) == {}


async def test_results_that_are_gone_say_so(bench):
    """Providers keep results for some weeks."""
    batch_id = await submitted(bench)
    bench.finish()
    bench.fault("results", "gone")
    with pytest.raises(NotFound):
        await bench.replies(batch_id)


async def test_results_cut_in_the_middle_are_unavailable_not_short(bench):
    """The stream ends with an error, and reading again from the start gives all."""
    batch_id = await submitted(bench, *map(str, range(50)))
    bench.finish()
    bench.fault("results", "cut_body", lines=20)
    with pytest.raises(Unavailable):
        await bench.replies(batch_id)
    assert len(await bench.replies(batch_id)) == 50


@pytest.mark.parametrize("batch_id", ["../files", "a/b", "a?b=c", "a b", "", "x" * 600, "a\r\nb", ".", "a%2fb", "ä"])
async def test_a_hostile_id_is_sent_nowhere(bench, batch_id):
    """An id goes into URLs and file names, so it has the characters of one."""
    before = sum(bench.emulator.calls.values())
    for ask in (bench.provider.status, bench.provider.cancel):
        with pytest.raises(Rejected):
            await ask(batch_id)
    with pytest.raises(Rejected):
        await bench.replies(batch_id)
    assert isinstance((await bench.provider.statuses([batch_id]))[batch_id], Rejected)
    assert sum(bench.emulator.calls.values()) == before


async def test_a_closed_port_is_not_ambiguous(backend):
    """A refused connection bought nothing; its address is told, which is what one has to look at."""
    provider = connect(backend.account("http://127.0.0.1:9"))
    try:
        with pytest.raises(Unavailable) as caught:
            await provider.status("batch_1")
        assert not caught.value.ambiguous
        assert "127.0.0.1:9" in str(caught.value)
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        httpx2.Response(200, html="<html>log in first</html>"),
        httpx2.Response(200, text="OK"),
        httpx2.Response(200, json={"hello": "world"}),
        httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}),
    ],
    ids=["html", "text", "another object", "half an object"],
)
async def test_the_page_of_a_proxy_passes_no_test(backend, reply):
    """What stands between us and the provider may answer 200 to everything."""
    if not backend.in_process:
        pytest.skip("this provider's SDK brings its own HTTP client")
    transport = httpx2.MockTransport(lambda _: reply)
    provider = provider_class(backend.provider)(backend.account("http://proxy.test"), transport)
    with pytest.raises(Unavailable):
        await provider.check()
    answers = await provider.statuses(["batch_1", "batch_2", "batch_3"])
    assert [type(answer) for answer in answers.values()] == [faults.Unreadable] * 3
    await provider.aclose()


async def test_a_silent_provider_is_unavailable_after_the_time_out(backend, server, tmp_path):
    """And whether it heard us, nobody knows."""
    provider = connect(backend.account(server.url, timeout=0.2))
    bench = Bench(backend, provider, server.emulator, tmp_path, server.url)
    batch_id = await submitted(bench)
    bench.fault("retrieve", "stall", seconds=2)
    with pytest.raises(Unavailable) as caught:
        await provider.status(batch_id)
    assert caught.value.ambiguous
    await provider.aclose()


async def test_logs_hold_neither_key_nor_prompt_nor_answer(bench, caplog):
    """Not even where the SDK and its HTTP client tell everything they do."""
    with caplog.at_level(logging.DEBUG):
        replies = await bench.ask("a very secret prompt")
        bench.fault("retrieve", "status", status=500, message="oops")
        with pytest.raises(Unavailable) as caught:
            await bench.provider.status("batch_1")
    told = caplog.text + repr(caught.value) + "".join(traceback.format_exception(caught.value)) + repr(bench.provider)
    assert KEY not in told
    assert "very secret prompt" not in told
    assert replies["0"].output not in told


async def test_a_batch_bought_under_a_hostile_id_is_not_bought_again(backend, tmp_path):
    """The submit is ambiguous, and looking for the batch ends with a person."""
    if not backend.in_process or backend.provider == "google":
        pytest.skip("answers by hand are written for Anthropic and OpenAI")

    def answer(request):
        counts = {"processing": 1, "total": 1}
        one = {
            "id": "../../etc",
            "created_at": 1_790_000_000,
            "metadata": {"tag": "abp-test-1"},
            "request_counts": counts,
        }
        if request.url.path.endswith("/files"):
            return httpx2.Response(200, json={"id": "file-1"})
        if request.method == "POST":
            return httpx2.Response(200, json=one)
        return httpx2.Response(200, json={"data": [one], "has_more": False})

    provider = provider_class(backend.provider)(backend.account("http://x.test"), httpx2.MockTransport(answer))
    bench = Bench(backend, provider, None, tmp_path, "")
    payload = bench.payload("one")
    with pytest.raises(Unavailable) as caught:
        await provider.create(await provider.prepare(payload))
    assert caught.value.ambiguous
    with pytest.raises(Unresolved, match="console"):
        await provider.find(BatchQuery(payload.tag, datetime.fromtimestamp(1_790_000_000, UTC), 1, PREFIX))


async def test_a_list_that_never_ends_is_not_a_proof_of_absence(backend, monkeypatch):
    """A batch that no page shows may exist nevertheless, and buying it again would pay twice."""
    if not backend.in_process or backend.provider == "google":
        pytest.skip("answers by hand are written for Anthropic and OpenAI")
    monkeypatch.setattr(f"airflow_batch_provider.providers.{backend.provider}.provider._MOST_PAGES", 3)
    one = {"id": "batch_1", "created_at": 1_790_000_000, "metadata": {}, "request_counts": {"processing": 7}}
    page = {"data": [one], "has_more": True, "first_id": "batch_1", "last_id": "batch_1"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=page))
    provider = provider_class(backend.provider)(backend.account("http://x.test"), transport)
    with pytest.raises(Unresolved, match="3 pages"):
        await provider.find(BatchQuery("abp-1", datetime.fromtimestamp(1_790_000_000, UTC), 1, PREFIX))


async def test_claims_reach_back_a_little(bench):
    """The provider's clock may be behind ours by a minute."""
    payload = bench.payload("one", "two")
    batch_id = await bench.submit(payload)
    claim = bench.claim(payload)
    late = type(claim)(claim.tag, claim.claimed_at + timedelta(minutes=1), claim.requests, claim.key_prefix)
    assert [found.batch_id for found in await bench.provider.find(late)] == [batch_id]
